//! The whole product with a store of Vercel Blob: a recording's way there and back, a worker that is killed, `worker doctor`.

use e2e::faults::{Proxy, Weather};
use e2e::postgres::Postgres;
use e2e::servers::vercel_blob::VercelBlobServer;
use e2e::system::{Builder, Folders, System};
use futures::TryStreamExt;
use serde_json::json;
use shared::storage::verify;

use crate::doctor::{Machine, is_ill, line};
use crate::staged::{completed, stage};
use crate::whole::{deleted, opened, recorded};

/// Eight parts, the last one short.
const SIZE: usize = (7 << 24) + 12_345;
const PART: u64 = 1 << 24;

fn with(server: &VercelBlobServer, builder: Builder) -> Builder {
    let set = |builder: Builder, (name, value): (&str, String)| builder.set(name, value);
    server.variables().into_iter().fold(builder, set)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_kept_in_a_store_downloaded_from_there_and_deleted() {
    let server = VercelBlobServer::start().await;
    let system = with(&server, System::builder()).start().await;
    let ann = system.client("ann");
    let (recording, done) = recorded(&ann).await;
    assert_eq!(done["storage"], json!({ "provider": "vercel-blob", "bucket": "callreelTestStore" }));
    let files = opened(&ann, &done).await;
    let storage = server.settings(&[]).open().await.unwrap();
    let stored: Vec<_> = storage.list("").try_collect().await.unwrap();
    assert_eq!(stored.len(), files);
    assert!(Folders::files(&system.folders.recordings()).is_empty(), "nothing is kept on disk");

    deleted(&system, &ann, &recording, storage.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_worker_was_killed_begins_anew() {
    let server = VercelBlobServer::start().await;
    let proxy = Proxy::before(server.address()).await;
    let builder = with(&server, System::builder().workers(0));
    let api = server.api_url().replace(&server.download_url(), &proxy.url());
    let mut system = builder.set("VERCEL_BLOB_API_URL", api).start().await;
    let staged = stage(&system, &[SIZE, 20_000]).await;

    // Four parts are sent at once, so here some have arrived, and the others are on their way.
    proxy.set(Weather::StopsAfter(6 * PART));
    system.spawn_worker().await;
    proxy.faults(1).await;
    system.worker().kill9();
    assert!(server.stored(&staged.objects[0].0).is_none(), "an object appears whole or not at all");
    assert_eq!(Folders::files(&system.folders.spool()).len(), 2, "what is not in storage stays");

    proxy.set(Weather::Fair);
    system.spawn_worker().await;
    completed(&system, &staged.id).await;
    let storage = server.settings(&[]).open().await.unwrap();
    for (key, print) in &staged.objects {
        verify(storage.as_ref(), key, print, None).await.unwrap();
    }
    let stored: Vec<_> = storage.list("").try_collect().await.unwrap();
    assert_eq!(stored.len(), staged.objects.len(), "each is there once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_all_well_with_a_store_and_tells_what_is_not() {
    let (database, server) = (Postgres::create().await, VercelBlobServer::start().await);
    let machine = || {
        let set = |machine: Machine, (name, value): (&str, String)| machine.set(name, value);
        server.variables().into_iter().fold(Machine::with(database.url()), set)
    };
    let done = machine().examine();
    assert!(done.ok && line(&done, "storage").contains("takes, tells, gives, links and deletes"), "{done:?}");
    assert!(line(&done, "clock").contains("storage's clock"), "{done:?}");
    let storage = server.settings(&[]).open().await.unwrap();
    assert!(storage.list("").try_next().await.unwrap().is_none());

    let done = machine().set("BLOB_READ_WRITE_TOKEN", format!("{}hunter2", server.token())).examine();
    is_ill(&done, "storage", "refuses the credentials");
    assert!(!done.stdout.contains("hunter2"), "{done:?}");
    let other = "vercel_blob_rw_nowhere_secret";
    is_ill(&machine().set("BLOB_READ_WRITE_TOKEN", other).examine(), "storage", "there is no bucket nowhere");
    server.suspend(true);
    is_ill(&machine().examine(), "storage", "suspended");
}
