//! A recorder that notes everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sfu::{Medium, StreamInfo, Tap, TapMark, User};

#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) streams: Vec<(String, Medium, StreamInfo)>,
    /// Numbers in the payloads, by user and medium.
    pub(crate) numbers: BTreeMap<(String, Medium), Vec<u32>>,
    pub(crate) arrivals: Vec<i64>,
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
        notes.numbers.entry((user.to_string(), medium)).or_default().push(number);
        notes.arrivals.push(arrival_us);
    }

    fn sender_report(&mut self, user: &User, medium: Medium, _: i64, ssrc: u32, _: u64, _: u32) {
        self.0.lock().unwrap().reports.push((user.to_string(), medium, ssrc));
    }

    fn mark(&mut self, user: &User, medium: Option<Medium>, _: i64, mark: TapMark) {
        self.0.lock().unwrap().marks.push((user.to_string(), medium, mark));
    }
}
