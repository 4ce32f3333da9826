//! Blobs lost, late, doubled and cut on their way: what arrived stays at its time, and what did not is told.

use std::ops::Range;

use e2e::client::{Client, Recording, TrackKind};
use e2e::compare::compare;
use e2e::fixtures::Fixture;
use e2e::output::Output;
use e2e::probe::{self, Reference};
use e2e::system::System;
use serde_json::{Value, json};

/// How far a gap that is told may be from what is missing, milliseconds.
const GAP_MS: f64 = 50.0;
/// How far beside a lost part a packet may begin and yet have been touched by it: the head of its block, and of the
/// cluster that times it.
const HEADS: usize = 64;

#[tokio::test]
async fn what_chromium_vp8_loses_is_only_what_was_lost() {
    loses_only_what_was_lost("chrome-webm-vp8").await;
}

#[tokio::test]
async fn what_chromium_h264_loses_is_only_what_was_lost() {
    loses_only_what_was_lost("chrome-webm-h264").await;
}

#[tokio::test]
async fn what_chromium_av1_loses_is_only_what_was_lost() {
    loses_only_what_was_lost("chrome-webm-av1").await;
}

#[tokio::test]
async fn what_firefox_loses_is_only_what_was_lost() {
    loses_only_what_was_lost("ff-webm-vp8").await;
}

#[tokio::test]
async fn what_chromium_mp4_loses_is_only_what_was_lost() {
    loses_only_what_was_lost("chrome-mp4-avc3-opus-resize").await;
}

/// What happened to an upload, and which bytes of the whole it cost at most.
struct Loss {
    what: &'static str,
    /// Sequence and bytes, in the order of sending.
    sent: Vec<(u64, bytes::Bytes)>,
    cost: Range<usize>,
    reason: &'static str,
}

async fn loses_only_what_was_lost(name: &str) {
    let system = System::start().await;
    let fixture = Fixture::load(name);
    let reference = Reference::of(&fixture);
    let ann = system.client("ann");
    let mut recordings = Vec::new();
    for loss in losses(&fixture) {
        let recording = ann.record(json!({})).await;
        send(&ann, &recording, &fixture, &loss).await;
        ann.stop(&recording).await;
        recordings.push((loss, recording));
    }
    for (loss, recording) in recordings {
        let done = ann.wait_final(&recording).await;
        assert_eq!(done["status"], "completed", "{}: {done}", loss.what);
        let output = Output::of(&ann, &done).await;
        judge(&reference, &loss, &done, &output);
    }
}

fn losses(fixture: &Fixture) -> Vec<Loss> {
    let all: Vec<(u64, bytes::Bytes)> = (0..).zip(fixture.blobs.iter().cloned()).collect();
    let middle = all.len() / 2;
    let without =
        |lost: usize| all.iter().filter(|(sequence, _)| *sequence != lost as u64).cloned().collect();
    let mut swapped = all.clone();
    swapped.swap(middle, middle + 1);
    let mut doubled = all.clone();
    doubled.insert(middle + 2, all[middle].clone());
    let mut cut = all.clone();
    let keep = cut[middle].1.len() * 6 / 10;
    cut[middle].1.truncate(keep);
    let span = fixture.span(middle);
    // A fragment of MP4 that is torn goes as a whole.
    let torn = if fixture.demuxer() == "mov" { span.clone() } else { span.start + keep..span.end };
    let loss = |what, sent, cost, reason| Loss { what, sent, cost, reason };
    vec![
        loss("a middle blob is lost", without(middle), span, "missing-chunk"),
        loss("the first blob is lost", without(0), fixture.span(0), "missing-chunk"),
        loss("two blobs arrive in the other order", swapped, 0..0, ""),
        loss("a blob arrives twice", doubled, 0..0, ""),
        loss("a blob is cut", cut, torn, "corrupt"),
    ]
}

async fn send(client: &Client, recording: &Recording, fixture: &Fixture, loss: &Loss) {
    let mut held = Vec::new();
    for (sequence, bytes) in &loss.sent {
        let put = client.put_chunk(recording, TrackKind::Video, *sequence, &fixture.mime, bytes.clone());
        let wanted = if held.contains(sequence) { 200 } else { 201 };
        let _ = put.await.expect(wanted);
        held.push(*sequence);
    }
    client.complete(recording, TrackKind::Video, fixture.last_sequence()).await;
}

fn judge(reference: &Reference, loss: &Loss, done: &Value, output: &Output) {
    let what = loss.what;
    assert_eq!(output.pictures.len(), 5, "{what}");
    let path = &output.only().path;
    let compared = compare(&reference.packets, &probe::packets(path, probe::demuxer(path)));
    assert_eq!(compared.mistimed, [], "{what}");
    assert_eq!(compared.foreign, 0, "{what}");
    for packet in &compared.missing {
        let touched = packet.at < loss.cost.end + HEADS && packet.at + packet.size + HEADS > loss.cost.start;
        assert!(touched && !loss.cost.is_empty(), "{what}: {packet:?} is missing, which was not lost");
    }
    let gaps = done["tracks"][0]["gaps"].as_array().expect("gaps");
    let Some((from, to)) = compared.missing_span_ms() else {
        let nothing_told = gaps.is_empty() || !loss.cost.is_empty();
        return assert!(nothing_told, "{what}: nothing is missing, and yet: {gaps:?}");
    };
    let bounds = |name: &str| -> Vec<f64> { gaps.iter().filter_map(|gap| gap[name].as_f64()).collect() };
    let told_from = bounds("from")
        .into_iter()
        .reduce(f64::min)
        .unwrap_or_else(|| panic!("{what}: {from} to {to} is not told"));
    let told_to = bounds("to").into_iter().reduce(f64::max).unwrap_or_default();
    assert!((told_from - from).abs() <= GAP_MS, "{what}: missing from {from}, told {gaps:?}");
    assert!((told_to - to).abs() <= GAP_MS, "{what}: missing to {to}, told {gaps:?}");
    assert!(gaps.iter().all(|gap| gap["reason"] == loss.reason), "{what}: {gaps:?}");
}
