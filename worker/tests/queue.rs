//! The queue against a real Postgres: what it promises to jobs and to operators.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

#[path = "queue/clockwork.rs"]
mod clockwork;
#[path = "queue/operators.rs"]
mod operators;
#[path = "queue/outages.rs"]
mod outages;
#[path = "queue/outcomes.rs"]
mod outcomes;
#[path = "queue/processes.rs"]
mod processes;
#[path = "queue/support.rs"]
mod support;
