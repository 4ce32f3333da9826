//! The first job of a sealed recording, enqueued in the transaction that seals it.

use serde::{Deserialize, Serialize};
use shared::id::RecordingId;
use sqlx::PgConnection;
use ulid::Ulid;

/// Assembles a sealed recording's capture into files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MuxRecording {
    /// Which.
    pub recording: RecordingId,
    /// The stage's token, which only this job holds.
    pub token: String,
}

/// A token that no stage has had.
pub(super) fn fresh_token() -> String {
    Ulid::generate().to_string()
}

/// Enqueues the job; it runs when the caller's transaction is committed.
pub(super) async fn enqueue(tx: &mut PgConnection, job: &MuxRecording) -> sqlx::Result<()> {
    let payload = serde_json::to_string(job).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(
        "insert into apalis.jobs (id, job_type, job, max_attempts, idempotency_key)
         values (apalis.generate_ulid(), 'mux-recording', convert_to($1::text, 'UTF8'), 5, $2)
         on conflict (job_type, idempotency_key) do nothing",
    )
    .bind(payload)
    .bind(&job.token)
    .execute(tx)
    .await?;
    Ok(())
}
