//! Whether storage, and a spool that is a bucket, takes, tells, gives, links and deletes a small object, and lets an upload in parts be
//! begun and given up.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use shared::env::EnvError;
use shared::id::RecordingId;
use shared::spool::SpoolSettings;
use shared::storage::{Attributes, Link, SharedStorage, Storage, StorageError, StorageSettings};

use super::{CHECK_MAX, Finding, Trouble, within};
use crate::settings::Settings;

/// What the probe holds.
const PROBE: &[u8] = b"callreel: worker doctor was here";
/// A part of it that is read.
const PART: Range<u64> = 10..16;
/// For the probe, and again for deleting it. What storage does not answer is asked again with pauses of 71 s in all, and
/// connections that nobody takes cost 10 s each: what is told is then the cause, and not that there was no answer.
const STORAGE_MAX: Duration = Duration::from_secs(180);
/// To open the link once.
const LINK_VALID: Duration = Duration::from_secs(60);

/// The first storage, or the second.
pub(super) async fn works(one: &StorageSettings, settings: &Settings) -> Finding {
    // A name of its own, where recordings are: credentials may be good for nothing else.
    probe(one, &settings.shared.keys.probe(&RecordingId::generate())).await
}

/// The same of the bucket that is the spool, where it is one. A folder is looked at as every other.
pub(super) async fn spool_works(settings: &Settings) -> Finding {
    match &settings.shared.spool {
        SpoolSettings::Folder(folder) => {
            Ok(format!("a folder that edge and workers share: {}", folder.display()))
        }
        SpoolSettings::Bucket { storage, prefix } => {
            probe(storage, &format!("{prefix}doctor-{}", RecordingId::generate())).await
        }
    }
}

async fn probe(settings: &StorageSettings, key: &str) -> Finding {
    if let Some(server) = settings.server_url() {
        super::clock::ask(&server).await?;
    }
    let storage = within(CHECK_MAX, open(settings)).await?;
    let place = storage.place();
    let (probe, clean_up) = (try_out(storage.as_ref(), key), delete(storage.as_ref(), key));
    let link = tried(STORAGE_MAX, probe, clean_up).await?;
    Ok(format!("{} {} takes, tells, gives{link} and deletes objects", place.provider, place.bucket))
}

/// Cleans up whatever became of the probe: each has its time.
async fn tried<T>(
    limit: Duration,
    probe: impl Future<Output = Result<T, Trouble>>,
    clean_up: impl Future<Output = Result<(), Trouble>>,
) -> Result<T, Trouble> {
    let found = within(limit, probe).await;
    let cleaned_up = within(limit, clean_up).await;
    let found = found?;
    cleaned_up.map(|()| found)
}

pub(super) async fn open(settings: &StorageSettings) -> Result<SharedStorage, Trouble> {
    settings.open().await.map_err(|error| {
        let cure = match error.is::<EnvError>() {
            true => "correct the variable; deploy/env.example explains every setting",
            false => "see that the place can be reached, and has room",
        };
        Trouble::new(format!("{error:#}"), cure)
    })
}

pub(super) fn failed(step: &str) -> impl Fn(StorageError) -> Trouble + '_ {
    move |error| Trouble::new(format!("{step}: {error}"), error.advice())
}

fn wrong(what: String) -> Trouble {
    Trouble::new(what, "use a provider that keeps what it is given; see its status page")
}

/// Returns what to tell of links.
async fn try_out(storage: &dyn Storage, key: &str) -> Result<&'static str, Trouble> {
    let attributes = Attributes { content_type: "text/plain".to_owned(), ..Attributes::default() };
    storage.put_bytes(key, Bytes::from_static(PROBE), &attributes).await.map_err(failed("put"))?;
    let head = storage.head(key).await.map_err(failed("head"))?;
    let size = head.map(|head| head.size);
    if size != Some(PROBE.len() as u64) {
        return Err(wrong(format!("head: what was just put has the size {size:?}")));
    }
    let blocks = storage.get_range(key, PART).await.map_err(failed("range"))?;
    let blocks: Vec<Bytes> = blocks.try_collect().await.map_err(|error| failed("range")(error.into()))?;
    if blocks.concat() != PROBE[10..16] {
        return Err(wrong("range: other bytes came back than were put".to_owned()));
    }
    storage.try_parts(key).await.map_err(failed("upload in parts"))?;
    let link = Link { valid: LINK_VALID, disposition: None };
    match storage.temporary_url(key, &link).await.map_err(failed("presign"))? {
        None => Ok(""),
        Some(url) => opens(&url).await.map(|()| ", links"),
    }
}

async fn opens(url: &str) -> Result<(), Trouble> {
    let cure = "check the clock, the endpoint's name, and that the credentials may get objects";
    let opened = async { reqwest::get(url).await?.error_for_status()?.bytes().await }.await;
    match opened {
        Ok(bytes) if bytes == PROBE => Ok(()),
        Ok(_) => Err(wrong("presign: the link shows other bytes than were put".to_owned())),
        // The link itself is as good as a key for a while, and stays out of the line.
        Err(error) => {
            Err(Trouble::new(format!("presign: the link does not open: {}", error.without_url()), cure))
        }
    }
}

async fn delete(storage: &dyn Storage, key: &str) -> Result<(), Trouble> {
    storage.delete(key).await.map_err(failed("delete"))?;
    match storage.head(key).await.map_err(failed("head"))? {
        None => Ok(()),
        Some(_) => Err(wrong("delete: what was deleted is still there".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_was_put_is_deleted_though_the_probe_takes_too_long() {
        let deleted = AtomicBool::new(false);
        let clean_up = async {
            deleted.store(true, Ordering::Relaxed);
            Ok(())
        };
        let found = tried::<()>(Duration::ZERO, std::future::pending(), clean_up).await;
        assert!(found.unwrap_err().what.contains("no answer") && deleted.load(Ordering::Relaxed));
        let told = || Err::<(), _>(Trouble::new("the cause", "its cure"));
        let found = tried(STORAGE_MAX, async { told() }, async { Err(Trouble::new("later", "")) }).await;
        assert_eq!(found.unwrap_err().what, "the cause");
    }
}
