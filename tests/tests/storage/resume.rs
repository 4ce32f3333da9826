//! An upload that was cut off: it goes on where it stopped, or leaves nothing behind.

use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use shared::storage::{Fingerprint, Storage, StorageError, Unfinished, verify};
use tokio::sync::Notify;

use crate::files::{File, Watch, put};
use crate::providers::Provider;

const KEY: &str = "recordings/rec_1/recording.webm";
/// Eight parts, the last one short.
const SIZE: usize = (7 << 24) + 12_345;

async fn unfinished(storage: &dyn Storage) -> Vec<Unfinished> {
    storage.unfinished("recordings/").try_collect().await.unwrap()
}

/// Ends an upload as a crash does, after some of it has arrived.
pub(crate) async fn cut_off(storage: &dyn Storage, key: &str, file: &File) -> Watch {
    let watch = Watch { keeps: true, halfway: Some((2 << 24, Notify::new())), ..Watch::default() };
    let halfway = watch.halfway.as_ref().map(|(_, notify)| notify.notified()).unwrap();
    tokio::select! {
        done = put(storage, key, &file.path, &watch) => panic!("it was not cut off: {done:?}"),
        () = halfway => {}
    }
    watch
}

pub(crate) async fn goes_on(provider: &Provider) {
    let (storage, file) = (provider.storage.as_ref(), File::of(SIZE));
    let cut = cut_off(storage, KEY, &file).await;
    let sent = cut.sent();
    let kept = cut.kept.into_inner().unwrap();
    assert!(storage.head(KEY).await.unwrap().is_none(), "an object appears whole or not at all");

    let again = Watch { kept: kept.into(), keeps: true, ..Watch::default() };
    put(storage, KEY, &file.path, &again).await.unwrap();
    let parts_left = (SIZE as u64 - sent).div_ceil(1 << 24);
    let told = again.told.load(std::sync::atomic::Ordering::Relaxed);
    assert!(told <= parts_left + 1, "{told} steps, where {parts_left} parts were left");
    verify(storage, KEY, &file.print, Some(&file.path)).await.unwrap();
    verify(storage, KEY, &file.print, None).await.unwrap();
    provider.has_nothing_left().await;

    // What was kept is of no use any more, and does no harm.
    let once_more = Watch { kept: again.kept, ..Watch::default() };
    put(storage, KEY, &file.path, &once_more).await.unwrap();
    verify(storage, KEY, &file.print, None).await.unwrap();
}

pub(crate) async fn given_up(provider: &Provider) {
    let (storage, file) = (provider.storage.as_ref(), File::of(SIZE));
    let cut = cut_off(storage, KEY, &file).await;
    let upload = cut.kept.into_inner().unwrap().unwrap();
    assert!(matches!(provider.left().await, None | Some(1)));
    // Where storage tells of it, it tells of this one.
    for one in unfinished(storage).await {
        assert_eq!((one.key.as_str(), &one.upload), (KEY, &upload));
    }
    storage.abort(&upload).await.unwrap();
    storage.abort(&upload).await.unwrap();
    provider.has_nothing_left().await;

    // What is gone is begun anew.
    let again = Watch { kept: Some(upload).into(), ..Watch::default() };
    put(storage, KEY, &file.path, &again).await.unwrap();
    verify(storage, KEY, &file.print, None).await.unwrap();

    // A source that breaks off is no reason to leave anything.
    let torn = File::of(SIZE);
    let watch = Watch { halfway: Some((1, Notify::new())), ..Watch::default() };
    let cut = async {
        watch.halfway.as_ref().unwrap().1.notified().await;
        std::fs::OpenOptions::new().write(true).open(&torn.path).unwrap().set_len(1 << 20).unwrap();
    };
    let (done, ()) = tokio::join!(put(storage, "recordings/rec_2/x", &torn.path, &watch), cut);
    done.unwrap_err();
    provider.has_nothing_left().await;
    assert!(storage.head("recordings/rec_2/x").await.unwrap().is_none());
}

pub(crate) async fn changed(provider: &Provider) {
    let (storage, file) = (provider.storage.as_ref(), File::of(SIZE));
    let cut = cut_off(storage, KEY, &file).await;
    let mut bytes = file.bytes();
    bytes.iter_mut().step_by(1 << 20).for_each(|byte| *byte ^= 1);
    std::fs::write(&file.path, &bytes).unwrap();
    let print = Fingerprint { sha256: hex::encode(Sha256::digest(&bytes)), ..file.print };

    // Some parts are of the file as it was. A server that keeps checksums refuses to put them together; else what it has put
    // together is found out.
    let again = Watch { kept: cut.kept, keeps: true, ..Watch::default() };
    let stored = match put(storage, KEY, &file.path, &again).await {
        Ok(()) => verify(storage, KEY, &print, Some(&file.path)).await,
        refused => refused,
    };
    // One that has forgotten what had arrived gets the file as it is now.
    let forgotten = provider.is_emulator && stored.is_ok();
    assert!(forgotten || matches!(stored, Err(StorageError::Mismatch { .. })), "{stored:?}");
    provider.has_nothing_left().await;

    let once_more = Watch { kept: again.kept, keeps: true, ..Watch::default() };
    put(storage, KEY, &file.path, &once_more).await.unwrap();
    verify(storage, KEY, &print, Some(&file.path)).await.unwrap();
}

/// Where nothing is resumed: what was sent before is of no use, and does no harm.
pub(crate) async fn begins_anew(provider: &Provider) {
    let (storage, file) = (provider.storage.as_ref(), File::of(SIZE));
    let cut = cut_off(storage, KEY, &file).await;
    assert!(cut.kept.into_inner().unwrap().is_none(), "there is nothing to go on with");
    assert!(storage.head(KEY).await.unwrap().is_none(), "an object appears whole or not at all");
    let again = Watch::default();
    put(storage, KEY, &file.path, &again).await.unwrap();
    assert_eq!(again.sent(), SIZE as u64);
    verify(storage, KEY, &file.print, None).await.unwrap();
}

pub(crate) async fn begins_anew_with_another(provider: &Provider) {
    let storage = provider.storage.as_ref();
    let (file, other) = (File::of(SIZE), File::of(SIZE - 1));
    let _ = cut_off(storage, KEY, &file).await;
    put(storage, KEY, &other.path, &Watch::default()).await.unwrap();
    verify(storage, KEY, &other.print, None).await.unwrap();
    // Cut off again, over what is there now.
    let _ = cut_off(storage, KEY, &file).await;
    verify(storage, KEY, &other.print, None).await.unwrap();
}

pub(crate) async fn leaves_nothing(provider: &Provider) {
    let storage = provider.storage.as_ref();
    let (torn, watch) = (File::of(SIZE), Watch { halfway: Some((1, Notify::new())), ..Watch::default() });
    let cut = async {
        watch.halfway.as_ref().unwrap().1.notified().await;
        std::fs::OpenOptions::new().write(true).open(&torn.path).unwrap().set_len(1 << 20).unwrap();
    };
    // One that reads to the file's end may not notice; what it has put is then found out.
    let (done, ()) = tokio::join!(put(storage, KEY, &torn.path, &watch), cut);
    let stored = match done {
        Ok(()) => verify(storage, KEY, &torn.print, None).await,
        refused => refused,
    };
    stored.unwrap_err();
    provider.has_nothing_left().await;
}
