//! Outages of the first storage, with a second one to go to.

use e2e::faults::{Proxy, Weather};
use e2e::seaweed::Seaweed;
use e2e::system::{Folders, System};
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use shared::clock::{Clock, SystemClock};
use shared::db::{artifacts, recordings};
use shared::jobs::{DeleteRecording, EmptyBackup, enqueue};
use shared::recording::Recording;
use shared::storage::{SharedStorage, Storage, verify};
use shared::testing::Changes;
use tempfile::TempDir;

use crate::killed::{PART, SIZE, assert_stored, behind, unfinished};
use crate::staged::{Staged, completed, stage};

const FOLDER: &str = "RECORDING_STORAGE_BACKUP_OUTPUT_DIR";

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("callreel-backup-").tempdir().unwrap()
}

/// A system with a folder as its backup.
async fn with_folder(proxy: &Proxy, server: &Seaweed, folder: &TempDir, after: &str) -> System {
    behind(proxy, server, &[(FOLDER, &folder.path().display().to_string()), ("BACKUP_AFTER", after)]).await
}

/// Returns when no job that empties the backup is waiting or running.
async fn emptied(system: &System) {
    let mut jobs = Changes::of(&system.db, &["apalis.jobs"]).await;
    let open = "select count(*) from apalis.jobs where job_type = 'empty-backup'
        and status not in ('Done', 'Killed') and not (status = 'Failed' and attempts >= max_attempts)";
    while sqlx::query_scalar::<_, i64>(open).fetch_one(&system.db).await.unwrap() > 0 {
        jobs.next().await;
    }
}

/// Empties the backup: one run moves, the next deletes. Runs of the clock's own may be among them.
async fn empty(system: &System) {
    for _ in 0..2 {
        emptied(system).await;
        enqueue(&mut system.db.acquire().await.unwrap(), &EmptyBackup {}).await.unwrap();
        emptied(system).await;
    }
}

/// What rows say of files in the backup, each once.
async fn said(system: &System) -> Vec<Option<String>> {
    let sql = "select distinct backup from artifact order by 1";
    sqlx::query_scalar(sql).fetch_all(&system.db).await.unwrap()
}

async fn told(system: &System, staged: &Staged, event: &str) -> Vec<serde_json::Value> {
    let sql = "select data from event where recording_id = $1 and type = $2 order by id";
    sqlx::query_scalar(sql).bind(staged.id.as_str()).bind(event).fetch_all(&system.db).await.unwrap()
}

fn place(recording: &Recording) -> &str {
    recording.storage_provider.as_deref().unwrap_or_default()
}

async fn keys(storage: &dyn Storage) -> Vec<String> {
    let mut keys: Vec<String> = storage.list("").map_ok(|object| object.key).try_collect().await.unwrap();
    keys.sort_unstable();
    keys
}

fn wanted(all: &[&Staged]) -> Vec<String> {
    let mut keys: Vec<String> =
        all.iter().flat_map(|staged| staged.objects.iter().map(|(key, _)| key.clone())).collect();
    keys.sort_unstable();
    keys
}

/// The file is served by the edge, whole.
async fn is_downloaded(system: &System, recording: &Recording, staged: &Staged) {
    let path = format!("/video-calls/{}/recording/{}/download", recording.call, recording.id);
    let answer = system.client("ann").get(&path).await;
    let bytes = match answer.status {
        302 => reqwest::get(answer.header("location")).await.unwrap().bytes().await.unwrap(),
        _ => answer.expect(200).body,
    };
    assert_eq!(hex::encode(Sha256::digest(&bytes)), staged.objects[0].1.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_sends_files_into_a_folder_and_its_end_brings_them_back() {
    let (server, folder) = (Seaweed::start().await, folder());
    let proxy = Proxy::before(server.address()).await;
    let mut system = with_folder(&proxy, &server, &folder, "2s").await;
    let storage = server.settings(&[]).open().await.unwrap();
    proxy.set(Weather::Away);
    let staged = stage(&system, &[3_000_000, 5_000]).await;
    system.spawn_worker().await;
    let recording = completed(&system, &staged.id).await;
    assert_eq!(place(&recording), "local");
    assert_eq!(Folders::files(folder.path()).len(), 2);
    assert_eq!(said(&system).await, [Some("holds".to_owned())]);
    let failed = told(&system, &staged, "recording.upload-failed").await;
    assert!(failed.iter().all(|data| data["code"] == "storage-unavailable" && data["destination"] == "main"));
    is_downloaded(&system, &recording, &staged).await;

    // It answers again, but takes nothing.
    proxy.set(Weather::Full);
    empty(&system).await;
    assert_eq!(said(&system).await, [Some("holds".to_owned())]);

    proxy.set(Weather::Fair);
    empty(&system).await;
    assert_stored(&storage, &staged).await;
    assert_eq!(keys(storage.as_ref()).await, wanted(&[&staged]));
    assert!(Folders::files(folder.path()).is_empty(), "{:?}", Folders::files(folder.path()));
    assert_eq!(said(&system).await, [None]);
    assert_eq!(told(&system, &staged, "recording.moved").await.len(), 2);
    let recording = recordings::find(&system.db, &staged.id).await.unwrap().unwrap();
    assert_eq!(place(&recording), "s3");
    is_downloaded(&system, &recording, &staged).await;
    let away: i64 =
        sqlx::query_scalar("select count(*) from storage_outage").fetch_one(&system.db).await.unwrap();
    assert_eq!(away, 0);
    assert!(Folders::files(&system.folders.spool()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_outage_is_waited_out() {
    let (server, folder) = (Seaweed::start().await, folder());
    let proxy = Proxy::before(server.address()).await;
    let mut system = with_folder(&proxy, &server, &folder, "1h").await;
    let storage = server.settings(&[]).open().await.unwrap();
    proxy.set(Weather::Full);
    let staged = stage(&system, &[10_000, 5_000]).await;
    system.spawn_worker().await;
    proxy.faults(2).await;
    proxy.set(Weather::Fair);
    assert_eq!(place(&completed(&system, &staged.id).await), "s3");
    assert_stored(&storage, &staged).await;
    assert!(Folders::files(folder.path()).is_empty());
    assert_eq!(said(&system).await, [None]);
}

/// Takes the minute after which an upload of which nothing arrives counts as stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_takes_a_part_and_then_nothing_is_away() {
    let (server, folder) = (Seaweed::start().await, folder());
    let proxy = Proxy::before(server.address()).await;
    let mut system = with_folder(&proxy, &server, &folder, "1s").await;
    proxy.set(Weather::StopsAfter(6 * PART));
    let staged = stage(&system, &[SIZE, 5_000]).await;
    system.spawn_worker().await;
    let recording = completed(&system, &staged.id).await;
    assert_eq!(place(&recording), "local");
    let failed = told(&system, &staged, "recording.upload-failed").await;
    assert_eq!(failed.len(), 1, "the second file is not tried there: {failed:?}");
    is_downloaded(&system, &recording, &staged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_while_it_moves_files_loses_none_and_moves_each_once() {
    let (server, other) = (Seaweed::start().await, Seaweed::start().await);
    let proxy = Proxy::before(server.address()).await;
    let variables = other.backup_variables();
    let mut settings: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    settings.extend([("BACKUP_AFTER", "0s"), ("SWEEP_PATIENCE", "0s")]);
    let mut system = behind(&proxy, &server, &settings).await;
    let main = server.settings(&[]).open().await.unwrap();
    let backup: SharedStorage = other.settings(&[]).open().await.unwrap();
    proxy.set(Weather::Expired);
    let (large, small) = (stage(&system, &[SIZE, 20_000]).await, stage(&system, &[30_000]).await);
    system.spawn_worker().await;
    let recording = completed(&system, &large.id).await;
    completed(&system, &small.id).await;
    is_downloaded(&system, &recording, &large).await;
    // As a worker leaves it that is killed after the copy was put and before its row was changed.
    let (key, print) = &small.objects[0];
    let copy = crate::files::File::of(30_000);
    let put = shared::storage::PutFile {
        key,
        file: &copy.path,
        attributes: &crate::files::attributes(),
        resume: None,
    };
    main.put_file(&put, &()).await.unwrap();
    verify(main.as_ref(), key, print, None).await.unwrap();
    let put_at = main.head(key).await.unwrap().unwrap().modified_at;

    proxy.set(Weather::StopsAfter(proxy.sent() + 5 * PART));
    enqueue(&mut system.db.acquire().await.unwrap(), &EmptyBackup {}).await.unwrap();
    proxy.faults(1).await;
    system.worker().kill9();
    assert_stored(&backup, &large).await;
    assert_eq!(unfinished(&main).await.len(), 1);
    let held = artifacts::backup::held(&system.db, 10).await.unwrap();
    assert!(held.iter().any(|file| file.storage_key == large.objects[0].0), "its row still points there");

    let before = proxy.sent();
    proxy.set(Weather::Fair);
    system.spawn_worker().await;
    empty(&system).await;
    let more = proxy.sent() - before;
    assert!(more < 7 * PART, "{more} bytes were sent again, of {SIZE}");
    assert_stored(&main, &large).await;
    assert_stored(&main, &small).await;
    assert_eq!(keys(main.as_ref()).await, wanted(&[&large, &small]));
    assert_eq!(keys(backup.as_ref()).await, Vec::<String>::new());
    assert_eq!(said(&system).await, [None]);
    assert!(unfinished(&main).await.is_empty());
    assert_eq!(
        main.head(key).await.unwrap().unwrap().modified_at,
        put_at,
        "what had arrived is not put again"
    );
    for staged in [&large, &small] {
        assert_eq!(told(&system, staged, "recording.moved").await.len(), staged.objects.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_in_the_backup_is_deleted_there_although_the_first_storage_is_away() {
    let (server, folder) = (Seaweed::start().await, folder());
    let proxy = Proxy::before(server.address()).await;
    let mut system = with_folder(&proxy, &server, &folder, "0s").await;
    let storage = server.settings(&[]).open().await.unwrap();
    proxy.set(Weather::Full);
    let staged = stage(&system, &[10_000, 2_000]).await;
    system.spawn_worker().await;
    completed(&system, &staged.id).await;
    let mut rows = Changes::of(&system.db, &["artifact", "event"]).await;
    let mut tx = system.db.begin().await.unwrap();
    recordings::delete(&mut tx, &staged.id, SystemClock.now()).await.unwrap().unwrap();
    enqueue(&mut tx, &DeleteRecording { recording: staged.id.clone() }).await.unwrap();
    tx.commit().await.unwrap();
    while told(&system, &staged, "recording.delete-failed").await.is_empty() {
        rows.next().await;
    }
    let failed = told(&system, &staged, "recording.delete-failed").await;
    assert_eq!(
        (failed[0]["code"].as_str(), failed[0]["provider"].as_str()),
        (Some("storage-full"), Some("s3"))
    );
    proxy.set(Weather::Fair);
    while !artifacts::all(&system.db, &staged.id).await.unwrap().is_empty() {
        rows.next().await;
    }
    assert!(Folders::files(folder.path()).is_empty());
    assert_eq!(keys(storage.as_ref()).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploads_progress_is_told_by_events() {
    let server = Seaweed::start().await;
    let proxy = Proxy::before(server.address()).await;
    let mut system = behind(&proxy, &server, &[]).await;
    let staged = stage(&system, &[SIZE]).await;
    let mut rows = Changes::of(&system.db, &["event"]).await;
    proxy.set(Weather::StopsAfter(6 * PART));
    system.spawn_worker().await;
    while told(&system, &staged, "recording.progress").await.is_empty() {
        rows.next().await;
    }
    proxy.set(Weather::Fair);
    completed(&system, &staged.id).await;
    let told = told(&system, &staged, "recording.progress").await;
    let first = &told[0];
    assert_eq!((first["stage"].as_str(), first["totalBytes"].as_u64()), (Some("upload"), Some(SIZE as u64)));
    assert!(first["bytes"].as_u64().is_some_and(|bytes| bytes <= SIZE as u64), "{first}");
    assert!(told.len() <= 20, "{told:?}");
    assert!(told.is_sorted_by_key(|told| told["progress"].as_f64().map(f64::to_bits)), "{told:?}");
}
