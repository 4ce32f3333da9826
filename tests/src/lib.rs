//! What the end-to-end tests stand on: real processes, a real database, raw HTTP, and FFmpeg's own eyes.
//!
//! Nothing here knows how the product works inside; it starts the programs that are shipped, speaks to them as a client does,
//! and looks at what they leave on the disk. Everything panics with a sentence when it cannot do its part: a harness that
//! cannot work is a test that fails.
//!
//! | module | holds |
//! |---|---|
//! | [`postgres`] | a fresh database for each test, and clusters that a test may stop |
//! | [`program`] | a process with its log, ended whatever happens |
//! | [`seaweed`] | an S3 server |
//! | [`gcs`], [`fake_gcs`] | servers of Google Cloud Storage: a strict one of ours, and a real emulator |
//! | [`faults`] | a proxy that loses, delays and refuses what goes to a server |
//! | [`system`] | edge and workers over one database and one set of folders |
//! | [`client`] | the API as a client uses it |
//! | [`socket`] | signaling as a client speaks it |
//! | [`output`] | a recording's files, downloaded |
//! | [`fixtures`] | what real browsers recorded |
//! | [`servers`] | providers' protocols, spoken by servers of our making that do wrong on request |
//! | [`probe`], [`compare`] | files as FFmpeg sees them, and how two of them differ |
//!
//! ```no_run
//! # async fn example() {
//! use e2e::{client::TrackKind, fixtures::Fixture, system::System};
//! let system = System::start().await;
//! let fixture = Fixture::load("chrome-webm-vp8");
//! let ann = system.client("ann");
//! let recording = ann.record(serde_json::json!({})).await;
//! ann.upload(&recording, TrackKind::Video, &fixture).await;
//! ann.stop(&recording).await;
//! assert_eq!(ann.wait_final(&recording).await["status"], "completed");
//! # }
//! ```

pub mod client;
pub mod compare;
pub mod fake_gcs;
pub mod faults;
pub mod fixtures;
pub mod gcs;
pub mod output;
pub mod postgres;
pub mod probe;
pub mod program;
pub mod seaweed;
pub mod servers;
pub mod socket;
pub mod system;
