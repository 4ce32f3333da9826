//! The one or two storages of a process: the first, where files belong, and the backup, which takes them while the first cannot.

use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{BackupSettings, SharedStorage, StorageError, StorageMetrics, StorageSettings};
use crate::env::EnvError;

/// Which of the two storages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// Where files belong.
    Main,
    /// Where they wait while the first is away.
    Backup,
}

impl Destination {
    /// As events and labels of metrics name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Backup => "backup",
        }
    }
}

/// The storages of a process.
#[derive(Clone)]
pub struct Storages {
    /// Where files belong.
    pub main: SharedStorage,
    /// Where they wait while the first is away, when there is such a place.
    pub backup: Option<Backup>,
}

/// The second storage.
#[derive(Clone)]
pub struct Backup {
    /// Itself.
    pub storage: SharedStorage,
    /// How long the first must have taken no file before this one does.
    pub after: Duration,
}

impl Storages {
    /// Opens them, counted. They may still be out of reach.
    ///
    /// # Errors
    /// An [`EnvError`] when a setting is to blame; else something that may pass.
    pub async fn open(
        main: &StorageSettings,
        backup: Option<&BackupSettings>,
        metrics: &StorageMetrics,
    ) -> anyhow::Result<Self> {
        let main = metrics.measure(main.open().await?, Destination::Main);
        let Some(backup) = backup else { return Ok(Self { main, backup: None }) };
        let storage = metrics.measure(backup.storage.open().await?, Destination::Backup);
        must_be_two_folders(&main, &storage)?;
        Ok(Self { main, backup: Some(Backup { storage, after: backup.after }) })
    }

    /// One of them.
    ///
    /// # Errors
    /// [`StorageError::NoBackup`] when the backup is asked for and there is none.
    pub fn at(&self, destination: Destination) -> Result<&SharedStorage, StorageError> {
        match destination {
            Destination::Main => Ok(&self.main),
            Destination::Backup => {
                self.backup.as_ref().map(|backup| &backup.storage).ok_or(StorageError::NoBackup)
            }
        }
    }

    /// All that there are, the first one first.
    pub fn all(&self) -> impl Iterator<Item = &SharedStorage> {
        std::iter::once(&self.main).chain(self.backup.iter().map(|backup| &backup.storage))
    }
}

/// A folder may have several names; a file that is moved onto itself and then deleted where it came from is lost.
fn must_be_two_folders(main: &SharedStorage, backup: &SharedStorage) -> anyhow::Result<()> {
    let (Some(main), Some(backup)) = (main.folder(), backup.folder()) else { return Ok(()) };
    let real = |folder: &std::path::Path| folder.canonicalize().context("the folder was just opened");
    if real(main)? == real(backup)? {
        return Err(EnvError::wants(
            "RECORDING_STORAGE_BACKUP_OUTPUT_DIR",
            "another folder than the first storage's",
        )
        .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::env::Env;

    #[tokio::test]
    async fn a_folder_by_another_name_is_no_backup() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        std::fs::create_dir(&one).unwrap();
        std::os::unix::fs::symlink(&one, &other).unwrap();
        let variables = [("RECORDING_OUTPUT_DIR", &one), ("RECORDING_STORAGE_BACKUP_OUTPUT_DIR", &other)];
        let env = Env::from_pairs(variables.map(|(name, path)| (name, path.as_os_str())));
        let main = StorageSettings::from_env(&env).unwrap();
        let backup = BackupSettings::from_env(&env, &main).unwrap();
        let metrics = StorageMetrics::register(&Registry::new()).unwrap();
        let line = Storages::open(&main, backup.as_ref(), &metrics).await.err().unwrap().to_string();
        assert_eq!(line, "RECORDING_STORAGE_BACKUP_OUTPUT_DIR wants another folder than the first storage's");
    }
}
