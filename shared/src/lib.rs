//! What the edge and the worker must agree on: ids, rows, states, job payloads, the capture format, the spool and storage.
//!
//! This crate must not know HTTP routes, WebRTC or FFmpeg; Cargo enforces it, because none of them is a dependency here.
//!
//! | module | holds |
//! |---|---|
//! | [`id`] | newtypes of every identifier, parsed at the door |
//! | [`recording`], [`track`], [`call`] | the domain's states and facts |
//! | [`chunk`], [`capture`], [`spool`] | sequence rules, the append-only log, and where closed segments wait for a worker |
//! | [`jobs`] | payloads and how they are enqueued |
//! | [`db`] | one file of SQL per table |
//! | [`storage`] | where finished files live |
//! | [`mod@env`], [`settings`] | the environment, read once |
//! | [`clock`], [`lifecycle`], [`telemetry`] | time, signals, logs and metrics |

pub mod call;
pub mod capture;
pub mod chunk;
pub mod clock;
pub mod db;
pub mod env;
pub mod id;
pub mod jobs;
pub mod lifecycle;
pub mod recording;
pub mod settings;
pub mod spool;
pub mod storage;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod track;
