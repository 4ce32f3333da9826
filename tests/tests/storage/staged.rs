//! Recordings that wait for their upload: rows, staged files and the job, as `mux-recording` leaves them.

use std::path::Path;
use std::time::Duration;

use e2e::system::System;
use serde_json::json;
use shared::clock::{Clock, SystemClock, Timestamp};
use shared::db::artifacts::{self, Artifact, ArtifactKind};
use shared::db::calls::{self, NewCall};
use shared::db::edges;
use shared::db::recordings::{self, NewRecording, Step};
use shared::id::{ArtifactId, CallId, EdgeId, RecordingId, UserId};
use shared::jobs::{UploadRecording, enqueue};
use shared::recording::{Recording, RecordingOptions, RecordingState, Stage};
use shared::spool::Spool;
use shared::storage::Fingerprint;
use shared::testing::Changes;
use tokio::time::timeout;

use crate::files::File;

/// How long an upload may take: with leases that have to run out, and backoff.
const PATIENCE: Duration = Duration::from_secs(240);
/// Beyond every test.
const DEADLINE: Duration = Duration::from_secs(3_600);
/// The token of the step, and the folder of what is staged.
const TOKEN: &str = "0-token";

/// A recording, and what is to be in storage when it is completed.
pub(crate) struct Staged {
    pub(crate) id: RecordingId,
    pub(crate) objects: Vec<(String, Fingerprint)>,
    pub(crate) artifacts: Vec<ArtifactId>,
}

fn now() -> Timestamp {
    SystemClock.now()
}

/// Stages files of these sizes as one recording, and enqueues its upload.
pub(crate) async fn stage(system: &System, sizes: &[usize]) -> Staged {
    let (id, call, by) = (RecordingId::generate(), CallId::generate(), UserId::parse("ann").expect("a name"));
    let (edge, later) = (EdgeId::generate(), now() + DEADLINE);
    let mut tx = system.db.begin().await.expect("the database runs");
    edges::register(&mut *tx, &edge, "http://127.0.0.1", "test", now())
        .await
        .expect("an edge of the test's own");
    let new = NewCall {
        id: call.clone(),
        host: by.clone(),
        title: None,
        participants: Vec::new(),
        max_participants: 2,
        metadata: json!({}),
        record_options: None,
    };
    calls::create(&mut tx, &new, now()).await.expect("a call");
    let options = RecordingOptions::default();
    let new = NewRecording {
        id: &id,
        call: &call,
        by: &by,
        options: &options,
        edge: &edge,
        at: now(),
        deadline: later,
    };
    recordings::start(&mut tx, &new).await.expect("a recording");
    recordings::stop(&mut tx, &id, now(), later).await.expect("it is live");
    recordings::flushed(&mut tx, &id, &edge, now()).await.expect("it is stopped");
    let step = Step { stage: Stage::Upload, token: TOKEN.to_owned() };
    recordings::begin_processing(&mut tx, &id, &step, now(), later).await.expect("it is flushed");
    let spool = Spool::open(system.folders.spool()).expect("the spool's folder");
    let mut staged = Staged { id: id.clone(), objects: Vec::new(), artifacts: Vec::new() };
    for (n, size) in sizes.iter().enumerate() {
        let file = File::of(*size);
        let artifact = artifact(&id, n, &file.print);
        stage_file(&spool, &artifact, &file.path);
        artifacts::stage(&mut tx, &artifact, now()).await.expect("an artifact");
        staged.objects.push((artifact.storage_key, file.print.clone()));
        staged.artifacts.push(artifact.id);
    }
    enqueue(&mut tx, &UploadRecording { recording: id, token: TOKEN.to_owned() }).await.expect("a job");
    tx.commit().await.expect("the database runs");
    staged
}

fn stage_file(spool: &Spool, artifact: &Artifact, file: &Path) {
    let path = artifact.staged_path.as_ref().and_then(|path| path.split_once('/'));
    let (token, name) = path.expect("it was just made");
    spool.stage(&artifact.recording, token, name, file).expect("the disk has room");
}

/// The first is the recording itself, the others are pictures of it.
fn artifact(recording: &RecordingId, n: usize, print: &Fingerprint) -> Artifact {
    let (kind, content_type, name) = match n {
        0 => (ArtifactKind::Recording, "video/webm", "recording.webm".to_owned()),
        _ => (ArtifactKind::Thumbnail, "image/jpeg", format!("thumbnail-{n:02}.jpg")),
    };
    Artifact {
        id: ArtifactId::generate(),
        recording: recording.clone(),
        revision: 0,
        kind,
        participant: None,
        ordinal: u32::try_from(n).expect("some files"),
        content_type: content_type.to_owned(),
        size: print.size,
        sha256: print.sha256.clone(),
        duration_ms: Some(1_000),
        width: None,
        height: None,
        staged_path: Some(format!("{TOKEN}/{name}")),
        storage_key: format!("recordings/{recording}/{name}"),
        stored_at: None,
        backup: None,
        place: None,
    }
}

/// Waits until a recording is completed.
pub(crate) async fn completed(system: &System, recording: &RecordingId) -> Recording {
    reaches(system, recording, RecordingState::Completed).await
}

/// Waits until a recording is in a state.
pub(crate) async fn reaches(system: &System, recording: &RecordingId, state: RecordingState) -> Recording {
    let mut rows = Changes::of(&system.db, &["recording"]).await;
    let look = async || {
        let found = recordings::find(&system.db, recording).await.expect("the database runs");
        found.expect("it is not deleted")
    };
    let wait = async {
        loop {
            let found = look().await;
            if found.state == state {
                return found;
            }
            rows.next().await;
        }
    };
    match timeout(PATIENCE, wait).await {
        Ok(found) => found,
        Err(_) => panic!("it is not {state:?} in time: {:?}", look().await),
    }
}
