//! What can go wrong, told by what to do about it: try again, call an operator, or neither.

use std::time::Duration;

use thiserror::Error;

/// Why storage did not do what it was asked. No message holds a secret or a signed URL.
#[derive(Debug, Error)]
pub enum StorageError {
    /// Nothing is stored under the key.
    #[error("nothing is stored as {0}")]
    NotFound(String),
    /// What is stored is not what was put.
    #[error("{key} is not what was put: {found}, and not {expected}")]
    Mismatch {
        /// The key.
        key: String,
        /// What was put.
        expected: String,
        /// What is stored.
        found: String,
    },
    /// The credentials are wrong, have expired, or allow too little.
    #[error("storage refuses the credentials: {0}")]
    Credentials(String),
    /// There is no such bucket or store.
    #[error("there is no bucket {0}")]
    NoBucket(String),
    /// The disk, bucket or account is full.
    #[error("storage is full: {0}")]
    Full(String),
    /// The file is in the backup, and no backup is set.
    #[error("the file lies in the backup storage, and none is set")]
    NoBackup,
    /// The request can never succeed as it is.
    #[error("storage refuses the request: {0}")]
    Refused(String),
    /// The network or the provider failed, or asks us to slow down.
    #[error("storage is unavailable: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// How long the provider asks to wait.
        retry_after: Option<Duration>,
    },
    /// The file that is put, or the folder of local storage, cannot be read or written.
    #[error("a file cannot be read or written: {0}")]
    Io(std::io::Error),
}

impl From<std::io::Error> for StorageError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => Self::Full(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

impl StorageError {
    /// The network or the provider failed.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), retry_after: None }
    }

    /// Whether the same request may succeed soon, with nobody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Mismatch { .. } | Self::Io(_))
    }

    /// Whether a later attempt at an upload may go on with what has arrived. After a mismatch that is what may be wrong.
    pub(super) fn lets_go_on(&self) -> bool {
        self.is_transient() && !matches!(self, Self::Mismatch { .. })
    }

    /// Whether it is the place that takes no files, and not the file that does not get there: then the backup takes them once it
    /// has lasted. Refusals count, as what a provider refuses of one file it refuses of all (a key of KMS that was disabled, a
    /// suspended account); what is not what was put does not, as the fault may be on this side.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Credentials(_)
            | Self::NoBucket(_)
            | Self::Full(_)
            | Self::Refused(_)
            | Self::Io(_) => true,
            Self::NotFound(_) | Self::Mismatch { .. } | Self::NoBackup => false,
        }
    }

    /// How long the provider asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A stable name, for rows, events and labels of metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "object-not-found",
            Self::Mismatch { .. } => "object-mismatch",
            Self::Credentials(_) => "storage-credentials",
            Self::NoBucket(_) => "storage-no-bucket",
            Self::Full(_) => "storage-full",
            Self::NoBackup => "storage-no-backup",
            Self::Refused(_) => "storage-refused",
            Self::Unavailable { .. } => "storage-unavailable",
            Self::Io(_) => "storage-io",
        }
    }

    /// What an operator can do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NotFound(_) => {
                "find out who deleted the object; a recording with its capture can be processed anew"
            }
            Self::Mismatch { .. } => {
                "it is put again; if it happens again, test the disk, the memory and the network"
            }
            Self::Credentials(_) => {
                "renew the credentials and allow them all that deploy/env.example names; check the clock (`worker doctor`)"
            }
            Self::NoBucket(_) => "create the bucket, or correct its name and region in the settings",
            Self::Full(_) => "free space, raise the quota, or shorten RECORDING_RETENTION_DAYS",
            Self::NoBackup => {
                "set RECORDING_STORAGE_BACKUP_… as it was, until its files have been moved to the first storage"
            }
            Self::Refused(_) => {
                "compare the settings of storage with what the provider supports (`worker doctor`)"
            }
            Self::Unavailable { .. } => "wait; if it lasts, check the network and the provider's status page",
            Self::Io(_) => "check that the folder exists, may be written to, and that its disk is healthy",
        }
    }
}
