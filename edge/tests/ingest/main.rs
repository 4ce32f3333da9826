//! The ingest from outside: real edges over databases of their own, spoken to in raw HTTP.
//!
//! `TEST_DATABASE_URL` names a Postgres server and a user who may create databases.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod answers;
mod connections;
mod finish;
mod outage;
mod restart;
mod support;
