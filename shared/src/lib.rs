//! What edge and worker share.

pub mod db;
pub mod jobs;
