//! The forwarding of a call, without a socket, clock or file.
//!
//! | module | decides |
//! |---|---|
//! | [`codec`] | what a video payload says of itself: keyframe, size, temporal layer |

pub mod codec;
#[cfg(test)]
mod testing;
