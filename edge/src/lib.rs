//! The edge: HTTP in front, capture on disk behind.

pub mod ingest;
pub mod recordings;
