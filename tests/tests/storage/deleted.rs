//! A recording that is deleted while its bucket is out of reach.

use e2e::faults::{Proxy, Weather};
use e2e::seaweed::Seaweed;
use futures::TryStreamExt;
use shared::clock::{Clock, SystemClock};
use shared::db::{artifacts, recordings};
use shared::jobs::{DeleteRecording, enqueue};
use shared::testing::Changes;

use crate::killed::behind;
use crate::staged::{completed, stage};

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deleted_now_is_deleted_later_and_what_is_gone_is_no_trouble() {
    let server = Seaweed::start().await;
    let proxy = Proxy::before(server.address()).await;
    let mut system = behind(&proxy, &server, &[]).await;
    let storage = server.settings(&[]).open().await.unwrap();
    let staged = stage(&system, &[10_000, 2_000, 3_000]).await;
    system.spawn_worker().await;
    completed(&system, &staged.id).await;
    storage.delete(&staged.objects[1].0).await.unwrap();
    storage.put_bytes("other", "x".into(), &shared::storage::Attributes::default()).await.unwrap();

    proxy.set(Weather::Away);
    let mut rows = Changes::of(&system.db, &["artifact"]).await;
    let mut tx = system.db.begin().await.unwrap();
    recordings::delete(&mut tx, &staged.id, SystemClock.now()).await.unwrap().unwrap();
    enqueue(&mut tx, &DeleteRecording { recording: staged.id.clone() }).await.unwrap();
    tx.commit().await.unwrap();
    proxy.faults(3).await;
    assert_eq!(artifacts::all(&system.db, &staged.id).await.unwrap().len(), 3, "a row goes after its object");

    proxy.set(Weather::Fair);
    while !artifacts::all(&system.db, &staged.id).await.unwrap().is_empty() {
        rows.next().await;
    }
    let left: Vec<_> = storage.list("").try_collect().await.unwrap();
    assert_eq!(left.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["other"]);
}
