//! Streaming assembly, judged against FFmpeg: real blobs of real browsers, whole, holed, cut, torn and hostile.
//!
//! The reference is independent of our code: `ffprobe` reads the fixture's blobs concatenated whole, and reads our output;
//! packets are compared by payload and time.

#![expect(clippy::unwrap_used, reason = "these are helpers of tests, where a panic is the report")]

mod hostile;
mod losses;
mod pauses;
mod probe;
mod rtp;
mod rtp_clocks;
mod rtp_sender;
mod sessions;
mod shapes;
mod support;
