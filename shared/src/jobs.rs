//! Jobs: how work is written down for the workers, in the transaction that makes it necessary.
//!
//! This file inserts rows and knows nothing of how they are run: no handlers, no worker, no queue library. Each payload is a
//! struct of its own that implements [`Job`].
//!
//! Decisions:
//! - The insert runs on the caller's connection, never on a pool of its own: the state and its job commit together, or neither.
//! - The id is made by the database (`apalis.generate_ulid`), so ids sort by the database's clock and lists need no other order.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::PgConnection;

mod payloads;

pub use payloads::{
    AbortUploads, DeleteRecording, EmptyBackup, ExpireRecordings, MakeThumbnails, MuxRecording, Sweep,
    UploadRecording,
};

/// The payload of one kind of job.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The queue's name. It is stored with every job: written out by hand, never derived from the type, never changed.
    const QUEUE: &'static str;

    /// How many attempts are made before the job is dead. A worker that dies in the middle counts as one.
    const MAX_ATTEMPTS: u32;

    /// A key that makes a second enqueue of the same work do nothing, within the queue. It holds for as long as the first
    /// job's row exists, finished or not (done jobs are purged after `JOBS_KEEP`), so it names an intention, not a state.
    fn key(&self) -> Option<String> {
        None
    }
}

/// Names a job: a ULID in its text form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

/// The text is not a ULID, so it names no job.
#[derive(Debug, thiserror::Error)]
#[error("not a job id")]
pub struct InvalidJobId;

impl JobId {
    /// The id as it stands in the database.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the job was enqueued, by the database's clock: the time part of the ULID, to the millisecond.
    pub fn enqueued_at(&self) -> Option<DateTime<Utc>> {
        let id = ulid::Ulid::from_string(&self.0).ok()?;
        DateTime::from_timestamp_millis(i64::try_from(id.timestamp_ms()).ok()?)
    }

    /// Wraps an id that was read from `apalis.jobs`, where nothing but ids can stand.
    pub fn stored(id: String) -> Self {
        Self(id)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        ulid::Ulid::from_string(raw).map(|id| Self(id.to_string())).map_err(|_| InvalidJobId)
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(raw: String) -> Result<Self, Self::Error> {
        raw.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

/// Enqueues `job` to run as soon as the caller's transaction is committed. `None`: a job with the same key is already there.
///
/// # Errors
/// The database's; a payload that does not serialize is [`sqlx::Error::Encode`].
pub async fn enqueue<J: Job>(tx: &mut PgConnection, job: &J) -> Result<Option<JobId>, sqlx::Error> {
    insert(tx, job, job.key(), None).await
}

/// Enqueues `job` to run at `run_at`, or as soon as possible when that is past. Otherwise as [`enqueue`].
///
/// # Errors
/// As [`enqueue`].
pub async fn enqueue_at<J: Job>(
    tx: &mut PgConnection,
    job: &J,
    run_at: DateTime<Utc>,
) -> Result<Option<JobId>, sqlx::Error> {
    insert(tx, job, job.key(), Some(run_at)).await
}

/// Enqueues `job` under `key` instead of its own: for a tick of a clock, which has no payload to make a key from.
///
/// # Errors
/// As [`enqueue`].
pub async fn enqueue_keyed<J: Job>(
    tx: &mut PgConnection,
    job: &J,
    key: String,
) -> Result<Option<JobId>, sqlx::Error> {
    insert(tx, job, Some(key), None).await
}

async fn insert<J: Job>(
    tx: &mut PgConnection,
    job: &J,
    key: Option<String>,
    run_at: Option<DateTime<Utc>>,
) -> Result<Option<JobId>, sqlx::Error> {
    let payload = serde_json::to_string(job).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let id = sqlx::query_scalar!(
        "insert into apalis.jobs (id, job_type, job, max_attempts, idempotency_key, run_at)
         values (apalis.generate_ulid(), $1, convert_to($2::text, 'UTF8'), $3, $4, coalesce($5, now()))
         on conflict (job_type, idempotency_key) do nothing
         returning id",
        J::QUEUE,
        payload,
        i32::try_from(J::MAX_ATTEMPTS).unwrap_or(i32::MAX),
        key,
        run_at,
    )
    .fetch_optional(tx)
    .await?;
    Ok(id.map(JobId::stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_is_a_ulid_and_tells_its_time() {
        let id: JobId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        assert_eq!(id.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        assert_eq!(id.enqueued_at().unwrap().timestamp_millis(), 1_469_922_850_259);
        assert!("'; drop table".parse::<JobId>().is_err());
    }
}
