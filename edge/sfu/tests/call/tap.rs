//! A recorder that notes everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use sfu::{Command, Medium, Pausing, StreamInfo, Tap, TapMark, User};

use crate::world::{self, World};

#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) streams: Vec<(String, Medium, StreamInfo)>,
    /// Numbers in the payloads, by user and medium.
    pub(crate) numbers: BTreeMap<(String, Medium), Vec<u32>>,
    /// The SSRC of the last packet, by user and medium.
    pub(crate) last: BTreeMap<(String, Medium), u32>,
    pub(crate) arrivals: Vec<i64>,
    /// When each mark was.
    pub(crate) marked_us: Vec<i64>,
    pub(crate) reports: Vec<(String, Medium, u32)>,
    pub(crate) marks: Vec<(String, Option<Medium>, TapMark)>,
    /// When it was paused and when it went on, in turns.
    pub(crate) turned_us: Vec<i64>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder(pub(crate) Arc<Mutex<Notes>>);

impl Tap for Recorder {
    fn stream(&mut self, user: &User, medium: Medium, stream: &StreamInfo) {
        self.0.lock().unwrap().streams.push((user.to_string(), medium, stream.clone()));
    }

    fn rtp(&mut self, user: &User, medium: Medium, arrival_us: i64, packet: &[u8]) {
        let mut notes = self.0.lock().unwrap();
        let number = u32::from_be_bytes(packet[packet.len() - 4..].try_into().unwrap());
        // RFC 3550, section 5.1.
        let ssrc = u32::from_be_bytes(packet[8..12].try_into().unwrap());
        notes.last.insert((user.to_string(), medium), ssrc);
        notes.numbers.entry((user.to_string(), medium)).or_default().push(number);
        notes.arrivals.push(arrival_us);
    }

    fn sender_report(&mut self, user: &User, medium: Medium, _: i64, ssrc: u32, _: u64, _: u32) {
        self.0.lock().unwrap().reports.push((user.to_string(), medium, ssrc));
    }

    fn pause(&mut self, since_us: i64) {
        self.0.lock().unwrap().turned_us.push(since_us);
    }

    fn resume(&mut self, at_us: i64) {
        self.0.lock().unwrap().turned_us.push(at_us);
    }

    fn mark(&mut self, user: &User, medium: Option<Medium>, arrival_us: i64, mark: TapMark) {
        let mut notes = self.0.lock().unwrap();
        notes.marks.push((user.to_string(), medium, mark));
        notes.marked_us.push(arrival_us);
    }
}

#[test]
fn a_track_that_goes_while_its_owner_stays_and_comes_back_is_told() {
    let mut world = World::new();
    let recorder = Recorder::default();
    world.command(Command::Record { room: world::room(), tap: Some(Box::new(recorder.clone())) });
    world.join_speaking(1, "ann");
    let marks = || {
        let of_pictures = |(_, medium, mark): &(String, Option<Medium>, TapMark)| {
            let comes = matches!(mark, TapMark::Joined | TapMark::Left);
            (*medium == Some(Medium::Video) && comes).then_some(*mark)
        };
        recorder.0.lock().unwrap().marks.iter().filter_map(of_pictures).collect::<Vec<_>>()
    };
    world.until("pictures come", |_| marks() == [TapMark::Joined]);
    world.clients.get_mut(&1).unwrap().fall_silent();
    world.offer(1);
    world.until("pictures come no more", |_| marks() == [TapMark::Joined, TapMark::Left]);
    let now = world.now;
    world.clients.get_mut(&1).unwrap().publish(now, RtpCodecKind::Video);
    world.offer(1);
    world.until("they come again", |_| marks() == [TapMark::Joined, TapMark::Left, TapMark::Joined]);
}

#[test]
fn nothing_flows_to_a_recorder_that_rests_and_pictures_go_on_with_a_keyframe() {
    let mut world = World::new();
    let recorder = Recorder::default();
    world.command(Command::Record { room: world::room(), tap: Some(Box::new(recorder.clone())) });
    world.join_speaking(1, "ann");
    let heard = || recorder.0.lock().unwrap().arrivals.len();
    world.until("media are recorded", |_| heard() > 100);
    let since_us = *recorder.0.lock().unwrap().arrivals.last().unwrap() - 5;
    world.command(Command::Pause { room: world::room(), pausing: Pausing::Paused { since_us } });
    let (before, reports) = (heard(), recorder.0.lock().unwrap().reports.len());
    world.run(Duration::from_secs(3));
    assert_eq!((heard(), recorder.0.lock().unwrap().reports.len()), (before, reports));
    world.join_speaking(2, "ben");
    world.until("who comes is told all the same", |_| {
        recorder.0.lock().unwrap().marks.contains(&("ben".to_owned(), None, TapMark::Joined))
    });
    let (asked, described) = (crate::asked(&mut world), recorder.0.lock().unwrap().streams.len());
    world.command(Command::Pause { room: world::room(), pausing: Pausing::Running });
    world.until("media are recorded again", |_| heard() > before + 100);
    assert!(crate::asked(&mut world) > asked);
    let notes = recorder.0.lock().unwrap();
    assert!(notes.streams.len() > described, "streams are described again");
    assert_eq!(notes.turned_us.len(), 2);
    assert_eq!(notes.turned_us[0], since_us);
    assert!(notes.arrivals[before] >= notes.turned_us[1]);
}
