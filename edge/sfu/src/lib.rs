//! The forwarding of a call, without a socket, clock or file.
//!
//! | module | decides |
//! |---|---|
//! | [`codec`] | what a video payload says of itself: keyframe, size, temporal layer |
//! | [`leg`] | how a packet is rewritten for one subscriber |

pub mod codec;
pub mod leg;
#[cfg(test)]
mod testing;
