//! Workers that are killed in the middle of an upload, and what they leave in a bucket.

use e2e::faults::{Proxy, Weather};
use e2e::seaweed::Seaweed;
use e2e::system::{Builder, Folders, System};
use futures::TryStreamExt;
use shared::db::artifacts::uploads;
use shared::jobs::{AbortUploads, enqueue};
use shared::storage::{Destination, SharedStorage, Unfinished, verify};
use shared::testing::Changes;

use crate::files::File;
use crate::resume::cut_off;
use crate::staged::{Staged, completed, stage};

/// Eight parts, the last one short.
pub(crate) const SIZE: usize = (7 << 24) + 12_345;
pub(crate) const PART: u64 = 1 << 24;

/// A system whose workers reach the server through the proxy.
pub(crate) async fn behind(proxy: &Proxy, server: &Seaweed, settings: &[(&str, &str)]) -> System {
    let set = |builder: Builder, (name, value): (&str, String)| builder.set(name, value);
    let builder = server.variables().into_iter().fold(System::builder().workers(0), set);
    let builder = builder.set("RECORDING_S3_ENDPOINT", proxy.url());
    settings.iter().fold(builder, |builder, (name, value)| builder.set(name, *value)).start().await
}

pub(crate) async fn unfinished(storage: &SharedStorage) -> Vec<Unfinished> {
    let mut found: Vec<Unfinished> = storage.unfinished("").try_collect().await.unwrap();
    found.sort_by(|one, other| one.key.cmp(&other.key));
    found
}

pub(crate) async fn assert_stored(storage: &SharedStorage, staged: &Staged) {
    for (key, print) in &staged.objects {
        verify(storage.as_ref(), key, print, None).await.unwrap();
    }
}

/// Runs the cleanup once more and waits for its end.
async fn clean_up(system: &System) {
    let mut jobs = Changes::of(&system.db, &["apalis.jobs"]).await;
    enqueue(&mut system.db.acquire().await.unwrap(), &AbortUploads {}).await.unwrap();
    let open = "select count(*) from apalis.jobs where job_type = 'abort-uploads' and status <> 'Done'";
    while sqlx::query_scalar::<_, i64>(open).fetch_one(&system.db).await.unwrap() > 0 {
        jobs.next().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_a_killed_worker_stopped() {
    let server = Seaweed::start().await;
    let proxy = Proxy::before(server.address()).await;
    let mut system = behind(&proxy, &server, &[]).await;
    let storage = server.settings(&[]).open().await.unwrap();
    let staged = stage(&system, &[SIZE, 20_000]).await;

    // Four parts are sent at once, so here some have arrived, and the others are on their way.
    proxy.set(Weather::StopsAfter(6 * PART));
    system.spawn_worker().await;
    proxy.faults(1).await;
    system.worker().kill9();
    assert_eq!(unfinished(&storage).await.len(), 1);
    assert_eq!(Folders::files(&system.folders.spool()).len(), 2, "what is not in storage stays");

    let before = proxy.sent();
    proxy.set(Weather::Fair);
    system.spawn_worker().await;
    completed(&system, &staged.id).await;
    let more = proxy.sent() - before;
    assert!(more < 6 * PART, "{more} bytes were sent again, of {SIZE}");
    assert_stored(&storage, &staged).await;
    assert!(unfinished(&storage).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_goes_on_with_is_given_up_and_no_other() {
    let server = Seaweed::start().await;
    let proxy = Proxy::before(server.address()).await;
    // The template of keys is another than the one that the uploads were begun under.
    let settings = [
        ("SWEEP_PATIENCE", "0s"),
        ("WORKER_QUEUES", "abort-uploads"),
        ("RECORDING_KEY_TEMPLATE", "calls/{recording}/{file}"),
    ];
    let mut system = behind(&proxy, &server, &settings).await;
    let storage = server.settings(&[]).open().await.unwrap();
    let (staged, large) = (stage(&system, &[1_000]).await, File::of(SIZE));
    let key = &staged.objects[0].0;
    // Of a worker that was killed before it could note the upload; one that is noted; and those of other programs.
    let _ = cut_off(storage.as_ref(), key, &large).await;
    let noted = cut_off(storage.as_ref(), key, &large).await.kept.into_inner().unwrap().unwrap();
    uploads::note(&system.db, &staged.artifacts[0], Destination::Main, &noted).await.unwrap();
    let others =
        ["recordings/rec_01ARZ3NDEKTSV4RRFFQ69G5FAV/recording.webm", "recordings/tape.bin", "tape.bin"];
    for key in others {
        let _ = cut_off(storage.as_ref(), key, &large).await;
    }
    assert_eq!(unfinished(&storage).await.len(), 5);

    system.spawn_worker().await;
    clean_up(&system).await;
    let left = unfinished(&storage).await;
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(left.iter().any(|left| left.upload == noted));
    for key in others {
        assert!(left.iter().any(|left| left.key == key), "{key}");
    }
}

/// What goes wrong in a bad week, all within two minutes.
#[tokio::test(flavor = "multi_thread")]
async fn thirty_recordings_arrive_through_faults_and_kills_each_once() {
    let server = Seaweed::start().await;
    let proxy = Proxy::before(server.address()).await;
    let mut system = behind(&proxy, &server, &[("SWEEP_PATIENCE", "0s")]).await;
    let storage = server.settings(&[]).open().await.unwrap();
    let mut all = Vec::new();
    for n in 0..30 {
        let size = if n % 10 == 0 { SIZE / 2 } else { 300_000 + 7 * n };
        all.push(stage(&system, &[size, 5_000 + n]).await);
    }
    for (weather, faults) in [
        (Weather::Resets(3_000_000), 5),
        (Weather::Busy, 15),
        (Weather::Away, 20),
        (Weather::Slow(5_000), 100),
    ] {
        proxy.set(weather);
        system.spawn_worker().await;
        proxy.faults(faults).await;
        system.workers.last_mut().unwrap().kill9();
    }
    proxy.set(Weather::Fair);
    system.spawn_worker().await;
    system.spawn_worker().await;
    for staged in &all {
        completed(&system, &staged.id).await;
        assert_stored(&storage, staged).await;
    }
    let mut listed: Vec<String> = storage.list("").map_ok(|object| object.key).try_collect().await.unwrap();
    let mut wanted: Vec<String> =
        all.iter().flat_map(|staged| staged.objects.iter().map(|(key, _)| key.clone())).collect();
    listed.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(listed, wanted);
    clean_up(&system).await;
    assert!(unfinished(&storage).await.is_empty());
    assert!(Folders::files(&system.folders.spool()).is_empty(), "what is in storage is staged no more");
}
