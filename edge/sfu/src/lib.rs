//! The forwarding of a call, without a socket, clock or file.
//!
//! | module | decides |
//! |---|---|
//! | [`codec`] | what a video payload says of itself: keyframe, size, temporal layer |
//! | [`leg`] | how a packet is rewritten for one subscriber |
//! | [`estimate`] | how much may be sent to a subscriber |
//! | [`layers`] | which simulcast layer a subscriber gets |
//! | [`quality`] | bitrate, loss, jitter and round trip |
//! | [`speaker`] | who speaks |
//! | [`throttle`] | when to ask for a keyframe |
//! | [`twcc`] | what transport-wide feedback says of which packet |

pub mod codec;
pub mod estimate;
pub mod layers;
pub mod leg;
pub mod quality;
pub mod speaker;
#[cfg(test)]
mod testing;
pub mod throttle;
pub mod twcc;
