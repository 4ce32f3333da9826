//! Whether the backup works as the first storage does, and is another place; and, where none is set, whether one is missed.

use bytes::Bytes;
use shared::db::artifacts;
use shared::id::RecordingId;
use shared::storage::{Attributes, BackupSettings};
use sqlx::Connection;

use super::{Finding, Trouble, database, storage};
use crate::settings::Settings;

/// Nothing to say where there is no backup, and nothing in one.
pub(super) async fn works(settings: &Settings) -> Option<Finding> {
    match &settings.shared.backup {
        Some(backup) => Some(is_of_use(backup, settings).await),
        None => is_missed(settings).await.map(Err),
    }
}

async fn is_of_use(backup: &BackupSettings, settings: &Settings) -> Finding {
    let works = storage::works(&backup.storage, settings).await?;
    is_another_place(backup, settings).await?;
    Ok(format!("{works}, after {} s without the first", backup.after.as_secs()))
}

/// What is put into the first storage must not be found in the backup. A first storage that takes nothing has a line of its own.
async fn is_another_place(backup: &BackupSettings, settings: &Settings) -> Result<(), Trouble> {
    let (main, backup) =
        (storage::open(&settings.shared.storage).await?, storage::open(&backup.storage).await?);
    let key = settings.shared.keys.probe(&RecordingId::generate());
    if main.put_bytes(&key, Bytes::from_static(b"callreel"), &Attributes::default()).await.is_err() {
        return Ok(());
    }
    let seen = backup.head(&key).await;
    main.delete(&key).await.map_err(storage::failed("delete"))?;
    match seen.map_err(storage::failed("head"))? {
        None => Ok(()),
        Some(_) => Err(Trouble::new(
            "it is the first storage itself",
            "let RECORDING_STORAGE_BACKUP_… name another place",
        )),
    }
}

/// A database that does not answer has a line of its own.
async fn is_missed(settings: &Settings) -> Option<Trouble> {
    let mut connection = database::connect(settings).await.ok()?;
    let left = artifacts::backup::count(&mut connection).await;
    let _ = connection.close().await;
    let left = left.ok().filter(|left| *left > 0)?;
    let what = format!("none is set, and {left} files lie in one");
    Some(Trouble::new(what, "set RECORDING_STORAGE_BACKUP_… as it was, until they have been moved"))
}
