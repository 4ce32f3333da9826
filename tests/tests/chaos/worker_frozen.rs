//! A worker is frozen (a paused machine, a network that is cut) for longer than its lease. Another one takes its jobs; when the
//! frozen one wakes up, it publishes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use e2e::fixtures::Fixture;
use e2e::program::Program;
use e2e::system::Folders;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::moments::{Hold, at_once, frozen_ffmpeg, until};
use crate::result::{assert_tidy, assert_whole};
use crate::workshop::{Recorded, Workshop, dismiss};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_frozen_beyond_its_lease_publishes_nothing() {
    let workshop = Workshop::open(&[]).await;
    let fixture = Arc::new(Fixture::load("ff-webm-vp8"));
    let mut recorded = Vec::new();
    for _ in 0..3 {
        recorded.push(workshop.record(&fixture, json!({})).await);
    }
    workshop.hold_jobs().await;

    let uploading = freeze_in_a_transaction(&workshop, &recorded[0]).await;
    let drawing = freeze_with_a_picture_in_the_spool(&workshop, &recorded[1]).await;
    let (muxing, ffmpeg) = freeze_with_its_ffmpeg(&workshop, &recorded[2]).await;

    let other = workshop.worker("", &[]).await;
    workshop.free_all_jobs().await;
    for one in &recorded {
        workshop.reaches(&one.recording, "completed").await;
    }
    workshop.all_jobs_end().await;
    for worker in [&uploading, &drawing, &muxing] {
        worker.signal(Signal::SIGCONT);
    }
    // It may have been killed by its worker, which has learned that the job is another's.
    let _ = kill(ffmpeg, Signal::SIGCONT);
    for mut worker in [uploading, drawing, muxing] {
        worker.line_with("too late and was refused").await;
        dismiss([worker]).await;
    }
    dismiss([other]).await;
    assert_tidy(&workshop.system);
    for one in &recorded {
        assert_whole(&workshop.system, &one.client, &one.recording, &[("ann", &one.fixture)]).await;
    }
}

/// It has changed the recording's row in a transaction that it will not end.
async fn freeze_in_a_transaction(workshop: &Workshop, one: &Recorded) -> Program {
    workshop.free_jobs(&one.recording).await;
    let earlier = workshop.worker("mux-recording,make-thumbnails", &[]).await;
    workshop.reaches(&one.recording, "upload").await;
    dismiss([earlier]).await;
    // The transaction that completes the recording tells an event after it has changed the row.
    let mut events = Hold::with(&workshop.url, "lock table event in share mode").await;
    let worker = workshop.worker("upload-recording", &[]).await;
    until("the completion to be under way", async || (events.waiting().await > 0).then_some(())).await;
    freeze(&worker);
    events.release().await;
    assert_eq!(workshop.stage(&one.recording).await, "upload");
    worker
}

/// It is about to put its second picture into the spool.
async fn freeze_with_a_picture_in_the_spool(workshop: &Workshop, one: &Recorded) -> Program {
    workshop.free_jobs(&one.recording).await;
    let earlier = workshop.worker("mux-recording", &[]).await;
    workshop.reaches(&one.recording, "thumbnails").await;
    dismiss([earlier]).await;
    let staged = workshop.system.folders.spool().join(&one.recording.id).join("staged");
    let is_first = |file: &PathBuf| file.ends_with("thumbnail-00.jpg");
    let first = move || Folders::files(&staged).iter().any(is_first).then_some(());
    let found = tokio::spawn(at_once("the first picture", first));
    let worker = workshop.worker("make-thumbnails", &[]).await;
    found.await.expect("a picture came");
    freeze(&worker);
    assert_eq!(workshop.stage(&one.recording).await, "thumbnails", "it was faster than we");
    worker
}

/// FFmpeg is at work for it.
async fn freeze_with_its_ffmpeg(workshop: &Workshop, one: &Recorded) -> (Program, Pid) {
    let found = tokio::spawn(frozen_ffmpeg(workshop.system.folders.scratch()));
    workshop.free_jobs(&one.recording).await;
    let worker = workshop.worker("mux-recording", &[]).await;
    let ffmpeg = found.await.expect("FFmpeg ran");
    freeze(&worker);
    (worker, ffmpeg)
}

fn freeze(worker: &Program) {
    worker.signal(Signal::SIGSTOP);
}
