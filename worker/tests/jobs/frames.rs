//! Frames that browsers encoded, for senders that never were.

use std::io::Cursor;

use bytes::Bytes;
use worker::assemble::{Chunk, Codec, Plan, assemble};

use crate::rtp_sender::{self, Shot};
use crate::support;

/// The frames of one codec that Chromium encoded.
pub(crate) fn frames(codec: Codec) -> Vec<Shot> {
    frames_of("chrome-webm-vp8", codec)
}

/// The frames of one codec of a fixture.
pub(crate) fn frames_of(fixture: &str, codec: Codec) -> Vec<Shot> {
    let blobs = (0..).map_while(|n| std::fs::read(support::fixture(fixture, n)).ok());
    let chunks = blobs.enumerate().map(|(n, blob)| {
        let (sequence, bytes) = (n as u64, Bytes::from(blob));
        Ok(Chunk { sequence, timestamp_ms: None, arrival_ms: 0, bytes })
    });
    let mut file = Cursor::new(Vec::new());
    let done = assemble(&mut { chunks }, &Plan::default(), &mut file).unwrap();
    let track = done.streams.iter().position(|stream| stream.codec == codec).unwrap() as u64 + 1;
    rtp_sender::blocks(&file.into_inner()).into_iter().filter(|shot| shot.track == track).collect()
}
