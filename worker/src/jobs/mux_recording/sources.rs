//! Whose capture a participant's file is made from, when both the browser and the edge have captured. Pure rules.
//!
//! A file is made from one source as far as that goes, because browsers' clocks and the edge's differ by more than the ear
//! allows. When `sources` names an order, its first that the participant has is taken. Without it, the browser's own recording
//! is taken when it is complete and has every kind that the edge has, because it has lost nothing to the network; else the
//! edge's. A kind that the other source alone has is taken from there, gaps and all: what was acknowledged is in the file. What
//! both have is kept in reserve, for where the first turns out to hold nothing of its kind that can be played.

use std::collections::BTreeMap;

use shared::id::UserId;
use shared::recording::Source;
use shared::track::{Track, TrackKind, TrackSource};

use super::track::{AssembledTrack, CLOCK_RIGHT_MS, surely_off};
use crate::assemble::Kind;

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
        let (first, other): (Vec<_>, Vec<_>) = tracks.into_iter().partition(|track| is_of(preferred, track));
        let (spare, missing): (Vec<_>, Vec<_>) =
            other.into_iter().partition(|track| covers(&first, track.kind));
        choice.first.extend(first.into_iter().chain(missing));
        choice.spare.extend(spare);
    }
    choice
}

/// Of the reserve, the tracks that have something of which nothing can be played yet.
pub(super) fn still_needed(spare: Vec<Track>, assembled: &[AssembledTrack]) -> Vec<Track> {
    let needed = |track: &Track| {
        let there = Playable::of(&track.participant, assembled);
        match track.kind {
            TrackKind::Audio => !there.sound,
            TrackKind::Video => !there.camera || (!there.sound && holds_sound(track)),
            TrackKind::Screen => !there.screen,
        }
    };
    spare.into_iter().filter(needed).collect()
}

/// Adds tracks of the reserve; of a camera that is shown already, the sound alone.
pub(super) fn add_spare(assembled: &mut Vec<AssembledTrack>, mut spare: Vec<AssembledTrack>) {
    for track in spare.iter_mut().filter(|track| track.kind == TrackKind::Video) {
        if Playable::of(&track.participant, assembled).camera {
            track.keep_sound_alone();
        }
    }
    assembled.append(&mut spare);
}

/// Puts a browser's track beside the edge's by the edge's clock: one that the browser's is surely off from is corrected by as much
/// as the chunk tells that came quickest. In any case the track began after the recording did, and before its first chunk came.
pub(super) fn bound_by_the_edge(assembled: &mut [AssembledTrack]) {
    let zeros: BTreeMap<UserId, i64> = assembled
        .iter()
        .filter(|track| track.source == TrackSource::Server && track.file.is_some())
        .map(|track| (track.participant.clone(), track.began_ms))
        .collect();
    let offs = clocks_off(assembled);
    for (track, off_ms) in
        assembled.iter_mut().zip(offs).filter(|(track, _)| track.source == TrackSource::Client)
    {
        if let Some(&zero_ms) = zeros.get(&track.participant) {
            let off_ms = surely_off(off_ms);
            let set_ms = track.began_ms.saturating_add(off_ms);
            track.began_ms = set_ms.min(track.arrived_ms).max(zero_ms);
            track.ahead_ms = if track.began_ms == set_ms { track.ahead_ms.saturating_sub(off_ms) } else { 0 };
        }
    }
}

/// How far each track's clock is off: that of a participant's tracks whose chunks came quickest, as long as it may be the same
/// browser's, so that its tracks stay together.
fn clocks_off(assembled: &[AssembledTrack]) -> Vec<i64> {
    let off = |track: &AssembledTrack| {
        let same = |other: &&AssembledTrack| {
            other.source == track.source
                && other.participant == track.participant
                && other.file.is_some()
                && other.clock_off_ms.abs_diff(track.clock_off_ms) <= CLOCK_RIGHT_MS.unsigned_abs()
        };
        let theirs = assembled.iter().filter(same).map(|other| other.clock_off_ms);
        theirs.min().unwrap_or(track.clock_off_ms)
    };
    assembled.iter().map(off).collect()
}

/// What of a participant can be played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Playable {
    /// The microphone, alone or beside the camera.
    sound: bool,
    camera: bool,
    screen: bool,
}

impl Playable {
    fn of(participant: &UserId, assembled: &[AssembledTrack]) -> Self {
        let theirs =
            || assembled.iter().filter(|track| track.participant == *participant && track.file.is_some());
        let has =
            |track: &AssembledTrack, kind: Kind| track.streams.iter().any(|(_, codec)| codec.kind() == kind);
        Self {
            sound: theirs().any(|track| track.kind != TrackKind::Screen && has(track, Kind::Audio)),
            camera: theirs().any(|track| track.kind == TrackKind::Video && has(track, Kind::Video)),
            screen: theirs().any(|track| track.kind == TrackKind::Screen),
        }
    }
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
    !client.is_empty()
        && client.iter().all(|track| is_complete(track))
        && server.iter().all(|track| covers(client.iter().copied(), track.kind))
}

/// Whether tracks of one source have a kind.
fn covers<'a>(tracks: impl IntoIterator<Item = &'a Track>, kind: TrackKind) -> bool {
    tracks.into_iter().any(|track| track.kind == kind || (kind == TrackKind::Audio && holds_sound(track)))
}

fn is_complete(track: &Track) -> bool {
    track.last_sequence.is_some_and(|last| track.received == [(0, last)])
}

/// A camera's container of a browser holds its microphone, unless its type names codecs and none of them is heard.
fn holds_sound(track: &Track) -> bool {
    let mime = track.mime_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    let heard = ["opus", "mp4a", "pcm", "vorbis"].iter().any(|codec| mime.contains(codec));
    track.source == TrackSource::Client
        && track.kind == TrackKind::Video
        && (heard || !mime.contains("codecs="))
}

fn is_of(source: Source, track: &Track) -> bool {
    match source {
        Source::Client => track.source == TrackSource::Client,
        Source::Server => track.source == TrackSource::Server,
    }
}

#[cfg(test)]
mod tests {
    use super::super::pauses::move_up;
    use super::*;
    use crate::assemble::Codec;
    use crate::media::Turn;
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

    fn kinds(tracks: &[Track]) -> Vec<(TrackSource, TrackKind)> {
        let mut kinds: Vec<_> = tracks.iter().map(|track| (track.source, track.kind)).collect();
        kinds.sort_unstable();
        kinds
    }

    #[test]
    fn a_kind_that_one_source_alone_has_is_taken_from_it() {
        use TrackKind::{Audio, Screen, Video};
        use TrackSource::{Client, Server};
        let mut all = both(&[(0, 3), (5, 9)], "video/webm");
        all.push(track(Client, Screen, &[(0, 3)], "video/webm"));
        let choice = choose(None, all);
        assert_eq!(kinds(&choice.first), [(Client, Screen), (Server, Audio), (Server, Video)]);
        assert_eq!(kinds(&choice.spare), [(Client, Video)]);
        let heard = vec![
            track(Client, Video, &[(0, 3)], "video/webm;codecs=vp8"),
            track(Server, Audio, &[], ""),
            track(Server, Screen, &[], ""),
        ];
        let choice = choose(None, heard);
        assert_eq!(kinds(&choice.first), [(Client, Video), (Server, Audio), (Server, Screen)]);
        let order = [Source::Client, Source::Server];
        let choice = choose(Some(&order), both(&[], "video/webm;codecs=vp8"));
        assert_eq!(kinds(&choice.first), [(Client, Video), (Server, Audio)]);
    }

    fn assembled(track: &Track, codecs: &[Codec]) -> AssembledTrack {
        AssembledTrack {
            id: track.id.clone(),
            participant: track.participant.clone(),
            source: track.source,
            kind: track.kind,
            file: (!codecs.is_empty()).then(|| "file".to_owned()),
            streams: codecs.iter().copied().enumerate().collect(),
            delays_ms: Vec::new(),
            sizes: Vec::new(),
            codec: None,
            keyframes: 1,
            began_ms: 5_000,
            arrived_ms: 5_000,
            clock_off_ms: 0,
            ahead_ms: 0,
            duration_ms: 9,
            last_ms: 0,
            turn: Turn::None,
            gaps: Vec::new(),
        }
    }

    #[test]
    fn the_reserve_gives_what_the_first_turns_out_not_to_hold() {
        use TrackKind::{Audio, Video};
        use TrackSource::{Client, Server};
        let camera = track(Client, Video, &[(0, 3)], "video/webm");
        let (shown, heard) = (track(Server, Video, &[], ""), track(Server, Audio, &[], ""));
        let needed = |there: &[AssembledTrack]| still_needed(vec![camera.clone()], there).len();
        assert_eq!(needed(&[assembled(&shown, &[Codec::Vp8]), assembled(&heard, &[Codec::Opus])]), 0);
        assert_eq!(needed(&[assembled(&shown, &[]), assembled(&heard, &[Codec::Opus])]), 1, "no picture");
        let mut there = vec![assembled(&shown, &[Codec::Vp8])];
        assert_eq!(needed(&there), 1, "no sound");
        add_spare(&mut there, vec![assembled(&camera, &[Codec::Vp9, Codec::Opus])]);
        assert_eq!((there[1].streams.as_slice(), there[1].keyframes), (&[(1, Codec::Opus)][..], 0));
        add_spare(&mut there, vec![assembled(&camera, &[Codec::Vp9])]);
        assert_eq!(there[2].file, None, "it has nothing that is not there");
    }

    #[test]
    fn a_browsers_wrong_clock_is_set_by_what_the_edge_has_seen() {
        let camera = track(TrackSource::Client, TrackKind::Video, &[], "");
        let heard = track(TrackSource::Server, TrackKind::Audio, &[], "");
        let hour_ms = 3_600_000;
        // The recording begins at 5,000, and the track at 1,206,000, whose first chunk has come at 1,207,000.
        for (clock_off_ms, expected_ms) in [
            (-hour_ms, 1_206_000),
            (-20_000, 1_206_000),
            (500, 1_205_500),
            // Media of which each second takes six seconds to upload, by a clock that is right.
            (5_000, 1_201_000),
            (20_000, 1_186_000),
            (90_000, 1_206_000),
            (hour_ms, 1_206_000),
        ] {
            let mut both = vec![assembled(&camera, &[Codec::Vp8]), assembled(&heard, &[Codec::Opus])];
            let told_ms = 1_206_000 - clock_off_ms;
            (both[0].began_ms, both[0].arrived_ms, both[0].clock_off_ms) = (told_ms, 1_207_000, clock_off_ms);
            bound_by_the_edge(&mut both);
            assert_eq!(both[0].began_ms, expected_ms);
            let mut alone = vec![assembled(&camera, &[Codec::Vp8])];
            (alone[0].began_ms, alone[0].clock_off_ms) = (told_ms, clock_off_ms);
            bound_by_the_edge(&mut alone);
            assert_eq!(alone[0].began_ms, told_ms, "alone it has its own clock");
        }
    }

    #[test]
    fn a_browsers_track_is_kept_within_what_the_edge_has_seen() {
        let camera = track(TrackSource::Client, TrackKind::Video, &[], "");
        let heard = track(TrackSource::Server, TrackKind::Audio, &[], "");
        for (began_ms, expected_ms) in [(4_000, 5_000), (6_000, 6_000), (8_000, 7_000)] {
            let mut both = vec![assembled(&camera, &[Codec::Vp8]), assembled(&heard, &[Codec::Opus])];
            (both[0].began_ms, both[0].arrived_ms) = (began_ms, 7_000);
            bound_by_the_edge(&mut both);
            assert_eq!(both[0].began_ms, expected_ms);
        }
    }

    #[test]
    fn a_browsers_tracks_stay_together_when_its_clock_is_set() {
        let (camera, screen) = (TrackKind::Video, TrackKind::Screen);
        let of = |kind| assembled(&track(TrackSource::Client, kind, &[], ""), &[Codec::Vp8]);
        let heard = assembled(&track(TrackSource::Server, TrackKind::Audio, &[], ""), &[Codec::Opus]);
        let mut all = vec![of(camera), of(screen), heard];
        for (n, off_ms) in [(0, 60_200), (1, 60_900)] {
            (all[n].began_ms, all[n].arrived_ms, all[n].clock_off_ms) = (0, 70_000, off_ms);
        }
        bound_by_the_edge(&mut all);
        assert_eq!((all[0].began_ms, all[1].began_ms), (60_200, 60_200));
    }

    #[test]
    fn times_that_are_absurd_are_bounded() {
        let camera = track(TrackSource::Client, TrackKind::Video, &[], "");
        let heard = track(TrackSource::Server, TrackKind::Audio, &[], "");
        let told = [i64::MIN, i64::MAX, 0];
        for (first, second) in told.into_iter().flat_map(|a| told.map(|b| (a, b))) {
            let of = |track: &Track| assembled(track, &[Codec::Vp8]);
            let mut all = vec![of(&camera), of(&camera), of(&heard)];
            for (track, ms) in all.iter_mut().zip([first, second]) {
                (track.began_ms, track.clock_off_ms) = (ms, ms);
            }
            bound_by_the_edge(&mut all);
            assert!(all.iter().all(|track| track.began_ms == 5_000), "{first}, {second}: {all:?}");
            let mut alone = vec![of(&camera)];
            (alone[0].began_ms, alone[0].ahead_ms) = (first, second);
            move_up(&mut alone, &[(0, 1_000), (i64::MIN, i64::MAX), (i64::MIN, i64::MAX)]);
            // It began before all pauses, or all that came before it by the edge's clock was paused.
            let before_ms = first.saturating_add(second).clamp(0, i64::MAX / 1_000);
            assert_eq!(alone[0].began_ms, first.saturating_sub(before_ms), "{first}, {second}");
        }
    }

    #[test]
    fn a_browsers_track_alone_moves_up_by_the_pauses_before_it_by_the_edges_clock() {
        let screen = track(TrackSource::Client, TrackKind::Screen, &[], "");
        let paused = [(10_000_000, 14_000_000), (12_000_000, 15_000_000), (30_000_000, i64::MAX)];
        for (at_ms, placed_ms) in [(5_000, 5_000), (12_000, 10_000), (20_000, 15_000), (40_000, 25_000)] {
            for ahead_ms in [0, 3_600_000, -3_600_000] {
                let mut alone = vec![assembled(&screen, &[Codec::Vp8])];
                (alone[0].began_ms, alone[0].ahead_ms) = (at_ms - ahead_ms, ahead_ms);
                move_up(&mut alone, &paused);
                assert_eq!(alone[0].began_ms, placed_ms - ahead_ms, "{at_ms}, {ahead_ms}");
            }
        }
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
