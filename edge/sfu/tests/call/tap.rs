//! A recorder that notes everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use sfu::{Command, Medium, StreamInfo, Tap, TapMark, User};

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
