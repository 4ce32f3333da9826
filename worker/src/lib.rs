//! The worker.

pub mod failure;
pub mod queue;
