use std::sync::Arc;

use chrono::TimeDelta;
use prometheus::Registry;
use shared::clock::{Clock, ManualClock, SystemClock};
use shared::env::Env;
use shared::settings::{Retention, Settings};
use shared::spool::Spool;
use shared::storage::{Attributes, KeyTemplate, LocalStorage, Metadata, Storages};
use shared::testing::TestDatabase;
use tempfile::TempDir;

use super::*;
use crate::jobs::delete_recording;
use crate::metrics::Metrics;
use crate::scratch::Scratch;

/// Bytes of each recording's file.
const BYTES: usize = 1_000;

struct House {
    ctx: Ctx,
    clock: Arc<ManualClock>,
    _dir: TempDir,
}

impl House {
    async fn new(retention: Retention) -> Self {
        let db = TestDatabase::create().await.pool(3).await;
        crate::queue::migrate(&db).await.unwrap();
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(SystemClock.now())));
        let (path, env) = (dir.path(), Env::from_pairs([("DATABASE_URL", "postgres://localhost/x")]));
        let ctx = Ctx {
            db,
            clock: clock.clone(),
            spool: Spool::open(path.join("spool")).unwrap(),
            storage: Storages {
                main: Arc::new(LocalStorage::open(&path.join("recordings")).unwrap()),
                backup: None,
            },
            keys: KeyTemplate::from_env(&env).unwrap(),
            scratch: Arc::new(Scratch::open(&path.join("scratch")).unwrap()),
            media: Settings::from_env(&env).unwrap().media,
            retention,
            capture_keep: std::time::Duration::from_secs(60),
            sweep_patience: std::time::Duration::ZERO,
            started_at: clock.now(),
            ffmpeg_threads: 1,
            metrics: Metrics::register(&Registry::new()).unwrap(),
        };
        Self { ctx, clock, _dir: dir }
    }

    /// A recording that is completed now, with a file, and expires after so many minutes.
    async fn completed(&self, minutes: Option<i64>) -> RecordingId {
        let (id, call, now) = (RecordingId::generate(), CallId::generate(), self.clock.now());
        let key = format!("recordings/{id}/ann.webm");
        let sql = "with c as (insert into call (id, host_id, state, max_participants, created_at, ended_at) values ($2, 'ann', 'ended', 2, $3, $3) returning id),
            r as (insert into recording (id, call_id, started_by, state, options, started_at, stopped_at, sealed_at, completed_at,
                    expires_at, output_key, progress)
                select $1, c.id, 'ann', 'completed', '{}', $3, $3, $3, $3, $4, $5, 1 from c returning id)
            insert into artifact (id, recording_id, kind, content_type, size, sha256, state, storage_key, created_at, stored_at)
                select 'art_' || $1, r.id, 'participant', 'video/webm', $6, repeat('0', 64), 'stored', $5, $3, $3 from r";
        let expires_at = minutes.map(|minutes| now + TimeDelta::minutes(minutes));
        let insert = sqlx::query(sql).bind(id.as_str()).bind(call.as_str()).bind(now);
        let insert = insert.bind(expires_at).bind(&key).bind(i64::try_from(BYTES).unwrap());
        insert.execute(&self.ctx.db).await.unwrap();
        let attributes = Attributes {
            content_type: "video/webm".to_owned(),
            cache_control: None,
            metadata: Metadata::default(),
        };
        self.ctx.storage.main.put_bytes(&key, vec![1; BYTES].into(), &attributes).await.unwrap();
        self.clock.advance(TimeDelta::minutes(1));
        id
    }

    /// Runs the job; which of these are still there.
    async fn kept(&self, ids: &[RecordingId]) -> Vec<bool> {
        expire(&self.ctx).await.unwrap();
        let mut kept = Vec::new();
        for id in ids {
            kept.push(recordings::find(&self.ctx.db, id).await.unwrap().is_some());
        }
        kept
    }

    async fn reasons(&self) -> Vec<String> {
        let sql = "select data->>'reason' from event where type = 'recording.deleted' order by id";
        sqlx::query_scalar(sql).fetch_all(&self.ctx.db).await.unwrap()
    }
}

fn attempt() -> Attempt {
    Attempt::detached("01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(), 1, 1)
}

#[tokio::test]
async fn a_recording_goes_when_its_time_has_come_and_not_before() {
    let house = House::new(Retention::default()).await;
    let ids = [house.completed(Some(10)).await, house.completed(Some(60)).await, house.completed(None).await];
    assert_eq!(house.kept(&ids).await, [true; 3]);
    house.clock.advance(TimeDelta::minutes(9));
    assert_eq!(house.kept(&ids).await, [false, true, true]);
    house.clock.advance(TimeDelta::days(10_000));
    assert_eq!(house.kept(&ids).await, [false, false, true]);
    assert_eq!(house.reasons().await, ["expired", "expired"]);
}

#[tokio::test]
async fn the_oldest_go_until_all_together_are_small_enough() {
    let retention = Retention { max_bytes: Some(2 * BYTES as u64 + 500), ..Retention::default() };
    let house = House::new(retention).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(house.completed(None).await);
    }
    assert_eq!(house.kept(&ids).await, [false, false, true, true]);
    assert_eq!(house.kept(&ids).await, [false, false, true, true], "what is on its way out counts as gone");
    assert_eq!(house.reasons().await, ["max-size", "max-size"]);
    for id in &ids[..2] {
        delete_recording::run(house.ctx.clone(), DeleteRecording { recording: id.clone() }, attempt())
            .await
            .unwrap();
        assert_eq!(house.ctx.storage.main.head(&format!("recordings/{id}/ann.webm")).await.unwrap(), None);
    }
    assert_eq!(recordings::stored_bytes(&house.ctx.db).await.unwrap(), (2 * BYTES as u64, 0));
}

#[tokio::test]
async fn a_disk_that_is_too_full_is_freed_of_the_oldest() {
    let house = House::new(Retention::default()).await;
    let ids = [house.completed(None).await, house.completed(None).await];
    let with = |min_free| Ctx {
        retention: Retention { min_free: Some(min_free), ..Retention::default() },
        ..house.ctx.clone()
    };
    let (now, free) = (house.clock.now(), 10 * BYTES as u64);
    make_room(&with(free), now, Some(free)).await.unwrap();
    assert_eq!(house.kept(&ids).await, [true, true], "there is room");
    make_room(&with(free + 1), now, Some(free)).await.unwrap();
    assert_eq!(house.kept(&ids).await, [false, true]);
    assert_eq!(house.reasons().await, ["min-free"]);
}

#[tokio::test]
async fn nothing_is_deleted_for_more_room_than_all_recordings_take() {
    let house = House::new(Retention::default()).await;
    let ids = [house.completed(None).await, house.completed(None).await];
    let with = |min_free| Ctx {
        retention: Retention { min_free: Some(min_free), ..Retention::default() },
        ..house.ctx.clone()
    };
    let (now, free) = (house.clock.now(), 10 * BYTES as u64);
    make_room(&with(free + 2 * BYTES as u64 + 1), now, Some(free)).await.unwrap();
    assert_eq!(house.kept(&ids).await, [true, true]);
    make_room(&with(free + 2 * BYTES as u64), now, Some(free)).await.unwrap();
    assert_eq!(house.kept(&ids).await, [false, false]);
    assert!(must_fit_the_disk(&with(1)).is_ok());
    let refused = must_fit_the_disk(&with(1 << 62)).unwrap_err().to_string();
    assert!(refused.contains("RECORDING_RETENTION_MIN_FREE"), "{refused}");
}
