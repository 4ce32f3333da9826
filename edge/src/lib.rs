//! The edge: HTTP, signaling and media in front, capture on disk behind. It carries calls and recordings; what is made of a
//! finished recording is the worker's business.
//!
//! This crate must not know FFmpeg, and it speaks SQL only through `shared::db`.
//!
//! | module | holds |
//! |---|---|
//! | [`server`] | binding, running and stopping the process |
//! | [`app`], [`settings`] | what handlers share; the environment, read once |
//! | [`auth`], [`error`] | who calls; what went wrong |
//! | [`recordings`] | steps of a recording's life that routes and tasks share |
//! | [`http`] | one file per group of routes, and what all of them have in common |
//! | [`ingest`] | what is captured, from the first byte to the seal |
//! | `signal` | the signaling socket's frames, and one socket's life |
//! | [`rooms`] | who is in which call, now |
//! | [`driver`] | media threads: sockets and time around the crate `sfu`, which forwards |
//! | `control` | a call's media on their way into the capture |
//! | [`ice`] | STUN and TURN servers that clients are told |
//! | `presence` | that this edge lives, and at which URL |

pub mod app;
pub mod auth;
mod backoff;
mod control;
pub mod driver;
pub mod error;
pub mod http;
pub mod ice;
pub mod ingest;
mod presence;
pub mod recordings;
pub mod rooms;
pub mod server;
pub mod settings;
pub(crate) mod signal;

pub use server::Edge;
pub use settings::Settings;
