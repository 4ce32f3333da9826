//! Whose capture a participant's file is made from, when both the browser and the edge have captured. Pure rules.
//!
//! A file is made from one source alone, because browsers' clocks and the edge's differ by more than the ear allows.
//! When `sources` names an order, its first that the participant has is taken. Without it, the browser's own recording is
//! taken when it is complete and has every kind that the edge has, because it has lost nothing to the network; else the
//! edge's. The other source is kept in reserve, for the participant of whose first nothing can be played.

use std::collections::BTreeMap;

use shared::id::UserId;
use shared::recording::Source;
use shared::track::{Track, TrackKind, TrackSource};

use super::track::AssembledTrack;

/// The tracks to assemble, and those to assemble when the first hold no media.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) first: Vec<Track>,
    pub(super) spare: Vec<Track>,
}

/// Chooses among a recording's tracks.
pub(super) fn choose(wanted: Option<&[Source]>, captured: Vec<Track>) -> Choice {
    let mut participants: BTreeMap<UserId, Vec<Track>> = BTreeMap::new();
    for track in captured {
        if wanted.is_none_or(|wanted| wanted.iter().any(|source| is_of(*source, &track))) {
            participants.entry(track.participant.clone()).or_default().push(track);
        }
    }
    let mut choice = Choice::default();
    for tracks in participants.into_values() {
        let preferred = preferred(wanted, &tracks);
        let (first, spare): (Vec<_>, Vec<_>) = tracks.into_iter().partition(|track| is_of(preferred, track));
        choice.first.extend(first);
        choice.spare.extend(spare);
    }
    choice
}

/// Of the reserve, the tracks of participants of whom nothing can be played yet.
pub(super) fn still_needed(spare: Vec<Track>, assembled: &[AssembledTrack]) -> Vec<Track> {
    let has_media = |participant: &UserId| {
        assembled.iter().any(|track| track.participant == *participant && track.file.is_some())
    };
    spare.into_iter().filter(|track| !has_media(&track.participant)).collect()
}

fn preferred(wanted: Option<&[Source]>, tracks: &[Track]) -> Source {
    let has = |source: Source| tracks.iter().any(|track| is_of(source, track));
    let order: &[Source] = match wanted {
        Some(order) => order,
        None if client_covers(tracks) => &[Source::Client],
        None => &[Source::Server, Source::Client],
    };
    order.iter().copied().find(|source| has(*source)).unwrap_or(Source::Client)
}

/// Whether the browser's tracks are complete and show all that the edge's do.
fn client_covers(tracks: &[Track]) -> bool {
    let (client, server): (Vec<&Track>, Vec<&Track>) =
        tracks.iter().partition(|track| track.source == TrackSource::Client);
    let covered = |kind: TrackKind| {
        client.iter().any(|track| track.kind == kind || (kind == TrackKind::Audio && holds_sound(track)))
    };
    !client.is_empty()
        && client.iter().all(|track| is_complete(track))
        && server.iter().all(|track| covered(track.kind))
}

fn is_complete(track: &Track) -> bool {
    track.last_sequence.is_some_and(|last| track.received == [(0, last)])
}

/// A camera's container holds its microphone, unless its type names codecs and none of them is heard.
fn holds_sound(track: &Track) -> bool {
    let mime = track.mime_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    let heard = ["opus", "mp4a", "pcm", "vorbis"].iter().any(|codec| mime.contains(codec));
    track.kind == TrackKind::Video && (heard || !mime.contains("codecs="))
}

fn is_of(source: Source, track: &Track) -> bool {
    match source {
        Source::Client => track.source == TrackSource::Client,
        Source::Server => track.source == TrackSource::Server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::clock::Timestamp;
    use shared::id::{RecordingId, TrackId};

    fn track(source: TrackSource, kind: TrackKind, received: &[(u64, u64)], mime: &str) -> Track {
        Track {
            id: TrackId::generate(),
            recording: RecordingId::generate(),
            participant: UserId::parse("ann").unwrap(),
            source,
            kind,
            mime_type: Some(mime.to_owned()),
            codec: None,
            started_at: Timestamp::default(),
            duration_ms: None,
            chunks: 0,
            bytes: 0,
            received: received.to_vec(),
            last_sequence: Some(9),
            gaps: None,
        }
    }

    fn both(received: &[(u64, u64)], mime: &str) -> Vec<Track> {
        vec![
            track(TrackSource::Client, TrackKind::Video, received, mime),
            track(TrackSource::Server, TrackKind::Video, &[], ""),
            track(TrackSource::Server, TrackKind::Audio, &[], ""),
        ]
    }

    fn first(wanted: Option<&[Source]>, tracks: Vec<Track>) -> TrackSource {
        let choice = choose(wanted, tracks);
        assert!(choice.first.iter().all(|track| track.source == choice.first[0].source), "one source alone");
        choice.first[0].source
    }

    #[test]
    fn a_complete_recording_of_the_browser_is_preferred() {
        assert_eq!(first(None, both(&[(0, 9)], "video/webm;codecs=vp8,opus")), TrackSource::Client);
        assert_eq!(first(None, both(&[(0, 9)], "video/webm")), TrackSource::Client);
    }

    #[test]
    fn one_that_lacks_a_chunk_or_the_sound_is_not() {
        assert_eq!(first(None, both(&[(0, 3), (5, 9)], "video/webm")), TrackSource::Server);
        assert_eq!(first(None, both(&[(0, 9)], "video/webm;codecs=vp8")), TrackSource::Server);
    }

    #[test]
    fn what_the_owner_names_first_is_taken_when_it_is_there() {
        let order = [Source::Server, Source::Client];
        assert_eq!(first(Some(&order), both(&[(0, 9)], "video/webm")), TrackSource::Server);
        let alone = vec![track(TrackSource::Client, TrackKind::Video, &[], "")];
        assert_eq!(first(Some(&order), alone), TrackSource::Client);
        let choice = choose(Some(&[Source::Client]), both(&[], "video/webm"));
        assert_eq!((choice.first.len(), choice.spare.len()), (1, 0));
    }
}
