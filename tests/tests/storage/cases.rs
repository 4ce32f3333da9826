//! What every provider does alike.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use e2e::program::{LOOK_EVERY, START_MAX};
use futures::{StreamExt, TryStreamExt, stream};
use shared::storage::{Fingerprint, Link, Storage, StorageError, verify};
use tokio::time::{Instant, interval};

use crate::files::{File, Watch, attributes, put, read};
use crate::providers::Provider;

const KEY: &str = "recordings/rec_1/recording.webm";
/// Larger than a part, and no multiple of anything.
const ODD: usize = 17_000_003;
const GIBIBYTE: usize = 1 << 30;
/// What 1 GiB may cost beside what the process holds anyway.
const MEMORY_MAX: u64 = 40 << 20;
/// One more than two pages of a thousand.
const MANY: usize = 2_001;
/// Puts at once.
const AT_ONCE: usize = 32;
/// Long enough to open it, short enough to wait for its end.
const URL_VALID: Duration = Duration::from_secs(5);

/// Puts a file and has it proven, in both ways.
async fn arrives(provider: &Provider, file: &File) -> Watch {
    let (storage, watch) = (provider.storage.as_ref(), Watch::default());
    put(storage, KEY, &file.path, &watch).await.unwrap();
    verify(storage, KEY, &file.print, Some(&file.path)).await.unwrap();
    verify(storage, KEY, &file.print, None).await.unwrap();
    watch
}

pub(crate) async fn small(provider: &Provider) {
    let (file, capabilities) = (File::of(1_000), provider.storage.capabilities());
    arrives(provider, &file).await;
    let head = provider.storage.head(KEY).await.unwrap().unwrap();
    assert_eq!(head.size, 1_000);
    if capabilities.keeps_content_type && !provider.is_emulator {
        assert_eq!(head.content_type.as_deref(), Some("video/webm"));
    }
    if capabilities.keeps_cache_control {
        assert_eq!(head.cache_control.as_deref(), Some("private, max-age=60"));
    }
    if capabilities.keeps_metadata {
        assert_eq!(head.metadata, attributes().metadata);
    }
    assert_eq!(read(provider.storage.as_ref(), KEY, 0..1_000).await, file.bytes());
}

pub(crate) async fn empty(provider: &Provider) {
    arrives(provider, &File::of(0)).await;
    assert_eq!(provider.storage.head(KEY).await.unwrap().unwrap().size, 0);
    assert!(read(provider.storage.as_ref(), KEY, 0..0).await.is_empty());
    assert!(read(provider.storage.as_ref(), KEY, 0..10).await.is_empty());
}

pub(crate) async fn odd(provider: &Provider) {
    let file = File::of(ODD);
    let watch = arrives(provider, &file).await;
    assert_eq!(watch.sent(), ODD as u64);
    assert!(watch.told.load(Ordering::Relaxed) > 1, "progress is told on the way");
    assert_eq!(read(provider.storage.as_ref(), KEY, 0..ODD as u64).await, file.bytes());
    let head = provider.storage.head(KEY).await.unwrap().unwrap();
    if provider.storage.capabilities().keeps_metadata {
        assert_eq!(head.metadata, attributes().metadata);
    }
    provider.has_nothing_left().await;
}

pub(crate) async fn large(provider: &Provider) {
    let file = File::of(GIBIBYTE);
    // From here on: the peak since this was written (proc(5), clear_refs).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = own_memory("VmHWM:");
    put(provider.storage.as_ref(), KEY, &file.path, &Watch::default()).await.unwrap();
    verify(provider.storage.as_ref(), KEY, &file.print, Some(&file.path)).await.unwrap();
    let more = own_memory("VmHWM:") - before;
    assert!(more < MEMORY_MAX, "{} KiB for a file of 1 GiB", more / 1024);
}

fn own_memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

pub(crate) async fn keys(provider: &Provider) {
    let storage = provider.storage.as_ref();
    let folder = format!("a/{}", ["x".repeat(200).as_str(); 4].join("/"));
    let longest =
        format!("{folder}/{}.webm", "y".repeat(storage.capabilities().key_max.min(950) - folder.len() - 6));
    let long = format!("{folder}.webm");
    let keys = ["a/ü ñ 通話.webm", "a/🎥+&=?%41#'()!.webm", "a/b:c@d_e-f.webm", &long, &longest];
    for key in keys {
        storage.put_bytes(key, Bytes::from(key.to_owned()), &attributes()).await.unwrap();
    }
    for key in keys {
        assert_eq!(storage.head(key).await.unwrap().unwrap().size, key.len() as u64, "{key}");
        assert_eq!(read(storage, key, 0..2_000).await, key.as_bytes());
    }
    let listed: BTreeSet<String> = list_keys(storage, "a/").await;
    assert_eq!(listed, keys.map(str::to_owned).into());
    for key in keys {
        storage.delete(key).await.unwrap();
    }
    assert!(list_keys(storage, "a/").await.is_empty());
}

async fn list_keys(storage: &dyn Storage, prefix: &str) -> BTreeSet<String> {
    storage.list(prefix).map_ok(|object| object.key).try_collect().await.unwrap()
}

pub(crate) async fn overwrite(provider: &Provider) {
    arrives(provider, &File::of(5_000)).await;
    arrives(provider, &File::of(100)).await;
    arrives(provider, &File::of(ODD)).await;
    let file = File::of(7);
    arrives(provider, &file).await;
    assert_eq!(read(provider.storage.as_ref(), KEY, 0..100).await, file.bytes());
}

pub(crate) async fn missing(provider: &Provider) {
    let storage = provider.storage.as_ref();
    assert_eq!(storage.head(KEY).await.unwrap(), None);
    for range in [0..10, 0..0] {
        assert!(matches!(storage.get_range(KEY, range).await.err(), Some(StorageError::NotFound(_))));
    }
    let print = Fingerprint { size: 0, sha256: String::new() };
    assert!(matches!(verify(storage, KEY, &print, None).await, Err(StorageError::NotFound(_))));
    assert!(list_keys(storage, "recordings/").await.is_empty());
    storage.delete(KEY).await.unwrap();
    let nowhere = std::path::Path::new("/no/such/file");
    assert!(matches!(put(storage, KEY, nowhere, &Watch::default()).await, Err(StorageError::Io(_))));
    assert_eq!(storage.head(KEY).await.unwrap(), None);
}

pub(crate) async fn list(provider: &Provider) {
    let storage = provider.storage.as_ref();
    let keys: BTreeSet<String> = (0..MANY).map(|n| format!("many/{}/{n:04}", n % 7)).collect();
    let puts: Vec<String> = keys.iter().cloned().chain(["other".to_owned()]).collect();
    stream::iter(puts)
        .map(async |key| storage.put_bytes(&key, Bytes::from_static(b"12345"), &attributes()).await)
        .buffer_unordered(AT_ONCE)
        .try_for_each(async |()| Ok(()))
        .await
        .unwrap();
    let found: Vec<_> = storage.list("many/").try_collect().await.unwrap();
    assert!(found.iter().all(|object| object.size == 5 && object.modified_at.is_some()));
    assert_eq!(found.len(), MANY);
    assert_eq!(found.into_iter().map(|object| object.key).collect::<BTreeSet<_>>(), keys);
    assert_eq!(list_keys(storage, "many/3/00").await.len(), 14);
    assert_eq!(list_keys(storage, "").await.len(), MANY + 1);
}

pub(crate) async fn range(provider: &Provider) {
    let (storage, file) = (provider.storage.as_ref(), File::of(3_000_000));
    arrives(provider, &file).await;
    let bytes = file.bytes();
    for (begin, end) in [(0, 1), (0, 3_000_000), (1_048_570, 1_048_590), (2_999_999, 3_000_000)] {
        assert_eq!(read(storage, KEY, begin as u64..end as u64).await, bytes[begin..end], "{begin}..{end}");
    }
    assert_eq!(read(storage, KEY, 2_999_998..4_000_000).await, bytes[2_999_998..]);
    for nothing in [3_000_000..3_000_001, 5_000_000..6_000_000, 7..7] {
        assert!(read(storage, KEY, nothing).await.is_empty());
    }
}

pub(crate) async fn link(provider: &Provider) {
    let (storage, file) = (provider.storage.as_ref(), File::of(1_000));
    arrives(provider, &file).await;
    let disposition = "attachment; filename=\"a b.webm\"";
    let link = Link { valid: URL_VALID, disposition: Some(disposition.to_owned()) };
    let url = storage.temporary_url(KEY, &link).await.unwrap().expect("the table says that it has links");
    let opened = reqwest::get(&url).await.unwrap();
    assert_eq!(
        (opened.status().as_u16(), &opened.headers()["content-type"]),
        (200, &"video/webm".parse().unwrap())
    );
    let named = opened.headers()["content-disposition"].to_str().unwrap();
    let right = if storage.capabilities().names_downloads {
        disposition
    } else {
        "attachment; filename=\"recording.webm\""
    };
    assert_eq!(named, right);
    assert_eq!(opened.bytes().await.unwrap(), file.bytes());
    let (deadline, mut looks) = (Instant::now() + START_MAX, interval(LOOK_EVERY));
    while reqwest::get(&url).await.unwrap().status().is_success() {
        assert!(Instant::now() < deadline, "the URL still opens");
        looks.tick().await;
    }
    let plain = url.split('?').next().unwrap();
    assert!(reqwest::get(plain).await.unwrap().status().is_client_error(), "an object is private");
}

pub(crate) async fn no_link(provider: &Provider) {
    let storage = provider.storage.as_ref();
    arrives(provider, &File::of(1_000)).await;
    assert_eq!(storage.capabilities().temporary_url_max, None);
    let link = Link { valid: URL_VALID, disposition: None };
    assert_eq!(storage.temporary_url(KEY, &link).await.unwrap(), None);
}

pub(crate) async fn damage(provider: &Provider) {
    let (storage, file) = (provider.storage.as_ref(), File::of(1_000));
    arrives(provider, &file).await;
    let other = Fingerprint { sha256: "0".repeat(64), ..file.print.clone() };
    let shorter = Fingerprint { size: 999, ..file.print.clone() };
    for (print, source) in [(&other, None), (&other, Some(file.path.as_path())), (&shorter, None)] {
        let found = verify(storage, KEY, print, source).await;
        assert!(matches!(found, Err(StorageError::Mismatch { .. })), "{found:?}");
    }
    // The source as it was is lost; what is stored is another file of the same size.
    let mut bytes = file.bytes();
    bytes[500] ^= 1;
    storage.put_bytes(KEY, bytes.into(), &attributes()).await.unwrap();
    for source in [None, Some(file.path.as_path())] {
        let found = verify(storage, KEY, &file.print, source).await;
        assert!(matches!(found, Err(StorageError::Mismatch { .. })), "{found:?}");
    }
}

pub(crate) async fn credentials(provider: &Provider) {
    let storage = provider.wrong_credentials.as_ref().expect("the table says that it has credentials");
    refused(storage.as_ref(), |error| matches!(error, StorageError::Credentials(_))).await;
}

pub(crate) async fn bucket(provider: &Provider) {
    let storage = provider.wrong_bucket.as_ref().expect("the table says that it has buckets");
    refused(storage.as_ref(), |error| matches!(error, StorageError::NoBucket(_))).await;
}

async fn refused(storage: &dyn Storage, right: impl Fn(&StorageError) -> bool) {
    let (small, large) = (File::of(10), File::of(ODD));
    let errors = [
        put(storage, KEY, &small.path, &Watch::default()).await.err(),
        put(storage, KEY, &large.path, &Watch::default()).await.err(),
        storage.put_bytes(KEY, Bytes::new(), &attributes()).await.err(),
        storage.head(KEY).await.err(),
        storage.get_range(KEY, 0..1).await.err(),
        storage.list("").next().await.and_then(Result::err),
    ];
    for (n, error) in errors.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("call {n} succeeds"));
        assert!(right(&error) && !error.is_transient(), "call {n}: {error:?}");
    }
}
