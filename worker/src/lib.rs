//! The worker: takes jobs from Postgres and turns captures into finished files.
//!
//! It must not know HTTP routes of the API or WebRTC. Map:
//!
//! | module | holds |
//! |---|---|
//! | [`queue`], [`failure`] | how jobs run, whatever happens to the process, its neighbours and the database |
//! | [`jobs`] | one file per job, and their wiring |
//! | [`assemble`] | a browser's chunks or the edge's RTP → one clean Matroska file with exact times, and what is missing |
//! | [`inspect`] | a capture log for people and for Wireshark |
//! | [`media`] | which streams are copied, which encoded, into which container; pure |
//! | [`ffmpeg`], [`ffprobe`] | arguments as pure functions; what an output really is |
//! | [`process`] | the one door to other programs, with every guard |
//! | [`scratch`], [`fingerprint`] | folders of attempts; what a file is |
//! | [`doctor`] | whether what the worker needs is there and works |
//! | [`app`](Worker), [`settings`](Settings), [`ctx`], [`metrics`] | the process |

mod app;
pub mod assemble;
pub mod ctx;
pub mod doctor;
pub mod failure;
pub mod ffmpeg;
pub mod ffprobe;
pub mod fingerprint;
pub mod inspect;
pub mod jobs;
pub mod media;
pub mod metrics;
pub mod process;
pub mod queue;
pub mod scratch;
mod settings;

pub use app::Worker;
pub use settings::Settings;
