//! The second storage, which takes files while the first cannot: `RECORDING_STORAGE_BACKUP_…` and `BACKUP_AFTER`.

use std::path::Path;
use std::time::Duration;

use super::names::BACKUP;
use super::{Provider, StorageSettings, provider};
use crate::env::{Env, EnvError};

/// How long the first storage is waited for, unless `BACKUP_AFTER` says otherwise: most outages of providers are shorter.
const AFTER: Duration = Duration::from_secs(15 * 60);
/// The longest that `BACKUP_AFTER` may say: an upload's attempts last for little longer.
const AFTER_MAX: Duration = Duration::from_secs(3600);
/// The variable for it.
const AFTER_VARIABLE: &str = "BACKUP_AFTER";

/// The second storage, and when it is used.
#[derive(Debug, Clone)]
pub struct BackupSettings {
    /// How it is reached.
    pub storage: StorageSettings,
    /// `BACKUP_AFTER`: how long the first storage must have taken no file.
    pub after: Duration,
}

impl BackupSettings {
    /// Reads them; `None` when no variable of theirs is set.
    ///
    /// # Errors
    /// The first variable that is missing, wrong, or at odds with another, and a backup that is the first storage itself.
    pub fn from_env(env: &Env, first: &StorageSettings) -> Result<Option<Self>, EnvError> {
        let set = |found: bool, name: &&str| Ok::<_, EnvError>(found || env.optional(name)?.is_some());
        if !BACKUP.all().iter().try_fold(false, set)? {
            return match env.optional(AFTER_VARIABLE)? {
                None => Ok(None),
                Some(_) => Err(EnvError::missing(
                    BACKUP.provider,
                    &format!("{}, as {AFTER_VARIABLE} is set", super::PROVIDERS),
                )),
            };
        }
        // A default folder would be the first storage's, or on its disk.
        if provider(env, &BACKUP)? == Provider::Local {
            env.required(BACKUP.output_dir, "a folder")?;
        }
        let storage = StorageSettings::named(env, &BACKUP)?;
        if let Some(variable) = same_place(first, &storage) {
            return Err(EnvError::wants(variable, "another place than the first storage's"));
        }
        let after = env.duration(AFTER_VARIABLE, AFTER)?;
        if after > AFTER_MAX {
            return Err(EnvError::wants(AFTER_VARIABLE, "a duration of at most 1h"));
        }
        Ok(Some(Self { storage, after }))
    }
}

/// The variable by which the second storage is the first, as far as the settings tell.
fn same_place(first: &StorageSettings, second: &StorageSettings) -> Option<&'static str> {
    let (same, variable) = match (first, second) {
        (StorageSettings::Local(one), StorageSettings::Local(other)) => {
            (is_same_folder(&one.dir, &other.dir), BACKUP.output_dir)
        }
        (StorageSettings::S3(one), StorageSettings::S3(other)) => {
            (one.bucket == other.bucket && one.endpoint == other.endpoint, BACKUP.s3.bucket)
        }
        (StorageSettings::Gcs(one), StorageSettings::Gcs(other)) => {
            (one.bucket == other.bucket && one.endpoint == other.endpoint, BACKUP.gcs.bucket)
        }
        (StorageSettings::VercelBlob(one), StorageSettings::VercelBlob(other)) => {
            (one.store_id == other.store_id, BACKUP.vercel_blob.token)
        }
        _ => return None,
    };
    same.then_some(variable)
}

/// Links are looked through when the folders are opened.
fn is_same_folder(one: &Path, other: &Path) -> bool {
    let absolute = |path| std::path::absolute(path).ok();
    absolute(one) == absolute(other)
}
