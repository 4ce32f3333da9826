//! The edge from outside: a real one on a port of its own, over a database of its own, spoken to in raw HTTP.
//!
//! `TEST_DATABASE_URL` names a Postgres server and a user who may create databases.

#![expect(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "helpers of tests fail like tests")]

mod auth;
mod calls;
mod common;
mod ice;
mod media;
mod process;
mod recordings;
mod stats;
mod support;
mod whip;
