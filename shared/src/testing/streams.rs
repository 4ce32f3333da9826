//! Streams that tests capture.

use crate::capture::rtp::StreamDescription;

/// Sound as browsers send it.
#[must_use]
pub fn opus(ssrc: u32) -> StreamDescription {
    StreamDescription {
        ssrc,
        payload_type: 111,
        clock_rate: 48_000,
        channels: 2,
        mime: "audio/opus".to_owned(),
        fmtp: String::new(),
        rid: String::new(),
        extensions: Vec::new(),
    }
}
