//! `SPOOL_URL`: which spool, and how it is reached.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Spool;
use super::bucket::Bucket;
use crate::env::{Env, EnvError, unusable_folder};
use crate::storage::{KeyTemplate, StorageSettings};

/// Where segments wait unless `SPOOL_URL` says otherwise.
const DEFAULT: &str = "data/spool";
/// What `SPOOL_URL` wants.
const WANTS: &str =
    "a folder, as file:///path or a path, or a bucket, as s3://bucket/prefix or gs://bucket/prefix";
/// What it wants where recordings are in the same bucket.
const APART: &str =
    "a prefix that shares no folder with RECORDING_KEY_TEMPLATE, or another bucket than the recordings'";
/// The longest prefix of a bucket: with the longest name in a recording's folder, keys stay far below the 1024 bytes of S3.
const PREFIX_MAX: usize = 256;

/// Where closed segments and staged outputs wait for a worker. Edge and workers must be told the same.
#[derive(Debug, Clone)]
pub enum SpoolSettings {
    /// A folder that edge and workers share.
    Folder(PathBuf),
    /// A bucket, so that they share no disk.
    Bucket {
        /// How it is reached: by the variables of storage of its provider.
        storage: StorageSettings,
        /// What every key begins with: empty, or with a slash at its end.
        prefix: String,
    },
}

impl SpoolSettings {
    /// Reads `SPOOL_URL`, and for a bucket those variables of storage that say how its provider is reached.
    ///
    /// # Errors
    /// The first variable that is missing, wrong, or at odds with another.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        let url = env.optional("SPOOL_URL")?.unwrap_or(DEFAULT);
        let bucket = |rest| bucket_and_prefix(rest).ok_or_else(|| EnvError::wants("SPOOL_URL", WANTS));
        match url.split_once(':') {
            Some(("s3", rest)) => {
                let (bucket, prefix) = bucket(rest)?;
                Ok(Self::Bucket { storage: StorageSettings::s3_spool(env, bucket)?, prefix })
            }
            Some(("gs", rest)) => {
                let (bucket, prefix) = bucket(rest)?;
                Ok(Self::Bucket { storage: StorageSettings::gcs_spool(env, bucket)?, prefix })
            }
            Some(("file", rest)) => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                let absolute = path.starts_with('/').then(|| Self::Folder(path.into()));
                absolute.ok_or_else(|| EnvError::wants("SPOOL_URL", WANTS))
            }
            _ if url.contains("://") => Err(EnvError::wants("SPOOL_URL", WANTS)),
            _ => Ok(Self::Folder(url.into())),
        }
    }

    /// Refuses a spool among the recordings: what cleans up the one would take the other's objects for its own.
    ///
    /// # Errors
    /// When both are in one bucket, and either's keys may begin as the other's do.
    pub fn must_be_apart_from(&self, storage: &StorageSettings, keys: &KeyTemplate) -> Result<(), EnvError> {
        let Self::Bucket { storage: spool, prefix } = self else { return Ok(()) };
        let among = prefix.starts_with(keys.root()) || keys.root().starts_with(prefix.as_str());
        match among && spool.is_same_bucket(storage) {
            true => Err(EnvError::wants("SPOOL_URL", APART)),
            false => Ok(()),
        }
    }

    /// Opens the spool. A bucket may still be out of reach. `scratch` is a folder of this machine: segments of a bucket are
    /// brought there to be read, as files without a name.
    ///
    /// # Errors
    /// An [`EnvError`] when a setting is to blame; else something that may pass.
    pub async fn open(&self, scratch: &Path) -> anyhow::Result<Spool> {
        match self {
            Self::Folder(path) => {
                let path = path.clone();
                let opened = tokio::task::spawn_blocking(move || Spool::open(path)).await?;
                opened.map_err(|error| unusable_folder("SPOOL_URL", error))
            }
            Self::Bucket { storage, prefix } => {
                let bucket = Bucket::new(storage.open().await?, prefix.clone(), scratch.to_owned());
                Ok(Spool(Arc::new(bucket)))
            }
        }
    }
}

/// Of `//bucket/some/prefix`.
fn bucket_and_prefix(rest: &str) -> Option<(&str, String)> {
    let (bucket, prefix) = rest.strip_prefix("//").map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
    let prefix = prefix.trim_end_matches('/');
    let of =
        |text: &str, others: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b));
    let is_plain = |name: &str| !name.is_empty() && name != "." && name != ".." && of(name, b"!-_.'()=");
    let fits = !bucket.is_empty() && of(bucket, b"-_.") && prefix.len() <= PREFIX_MAX;
    match prefix {
        "" if fits => Some((bucket, String::new())),
        _ if fits && prefix.split('/').all(is_plain) => Some((bucket, format!("{prefix}/"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&'static str, &str)]) -> Result<SpoolSettings, EnvError> {
        SpoolSettings::from_env(&Env::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn a_spool_is_a_folder_or_a_bucket() {
        for (url, path) in [
            ("file:///var/spool", "/var/spool"),
            ("file:/var/spool", "/var/spool"),
            ("data/spool", "data/spool"),
        ] {
            assert!(
                matches!(settings(&[("SPOOL_URL", url)]).unwrap(), SpoolSettings::Folder(is) if is == Path::new(path))
            );
        }
        assert!(matches!(settings(&[]).unwrap(), SpoolSettings::Folder(is) if is == Path::new(DEFAULT)));
        for (url, bucket, prefix) in [("s3://b/p/q/", "b", "p/q/"), ("s3://b", "b", ""), ("s3://b/", "b", "")]
        {
            let SpoolSettings::Bucket { storage: StorageSettings::S3(s3), prefix: is } =
                settings(&[("SPOOL_URL", url)]).unwrap()
            else {
                panic!("{url} is a bucket of S3");
            };
            assert_eq!((s3.bucket.as_str(), is.as_str()), (bucket, prefix));
        }
        assert!(matches!(
            settings(&[("SPOOL_URL", "gs://b/p")]).unwrap(),
            SpoolSettings::Bucket { storage: StorageSettings::Gcs(gcs), .. } if gcs.bucket == "b"
        ));
        for bad in [
            "ftp://host/x",
            "s3://",
            "s3:b",
            "s3:///p",
            "file://host/x",
            "file:x",
            "s3://key:secret@b/p",
            "s3://b/p//q",
            "s3://b/../q",
            "gs://b/p q",
            "https://b.s3.amazonaws.com/p",
        ] {
            let wrong = settings(&[("SPOOL_URL", bad)]).unwrap_err().to_string();
            assert_eq!(wrong, format!("SPOOL_URL wants {WANTS}"), "{bad}");
        }
    }

    #[test]
    fn a_bucket_is_reached_as_recordings_are_whatever_they_are_kept_in() {
        let spool = settings(&[
            ("SPOOL_URL", "s3://waiting/p"),
            ("RECORDING_S3_BUCKET", "finished"),
            ("RECORDING_S3_ENDPOINT", "http://127.0.0.1:9000"),
            ("RECORDING_S3_ACCESS_KEY_ID", "key"),
            ("RECORDING_S3_SECRET_ACCESS_KEY", "secret"),
            ("RECORDING_S3_STORAGE_CLASS", "GLACIER"),
        ]);
        let SpoolSettings::Bucket { storage: StorageSettings::S3(s3), .. } = spool.unwrap() else {
            panic!("it is a bucket of S3");
        };
        assert_eq!((s3.bucket.as_str(), s3.endpoint.as_deref()), ("waiting", Some("http://127.0.0.1:9000")));
        assert_eq!((s3.keys.unwrap().access_key_id.as_str(), s3.storage_class), ("key", None));
    }

    #[test]
    fn credentials_of_another_provider_stop_the_start() {
        let keys = r#"{"accessKeyId": "key", "secretAccessKey": "secret"}"#;
        let wrong =
            settings(&[("SPOOL_URL", "gs://b/p"), ("RECORDING_STORAGE_CREDENTIALS", keys)]).unwrap_err();
        let wants = "RECORDING_STORAGE_CREDENTIALS wants the JSON of a key, as Google's console hands it out";
        assert_eq!(wrong.to_string(), wants);
        let wrong =
            settings(&[("SPOOL_URL", "s3://b/p"), ("RECORDING_S3_ACCESS_KEY_ID", "key")]).unwrap_err();
        assert!(wrong.to_string().starts_with("RECORDING_S3_SECRET_ACCESS_KEY"), "{wrong}");
    }

    #[test]
    fn a_spool_among_the_recordings_stops_the_start() {
        let apart = |url, template: &str| {
            let env = Env::from_pairs([
                ("SPOOL_URL", url),
                ("RECORDING_STORAGE_PROVIDER", "s3"),
                ("RECORDING_S3_BUCKET", "one"),
                ("RECORDING_KEY_TEMPLATE", template),
            ]);
            let (storage, keys) =
                (StorageSettings::from_env(&env).unwrap(), KeyTemplate::from_env(&env).unwrap());
            SpoolSettings::from_env(&env).unwrap().must_be_apart_from(&storage, &keys)
        };
        assert!(apart("s3://one/spool", "").is_ok());
        assert!(
            apart("s3://other", "").is_ok()
                && apart("gs://one", "").is_ok()
                && apart("data/spool", "").is_ok()
        );
        for (url, template) in
            [("s3://one", ""), ("s3://one/recordings/spool", ""), ("s3://one/spool", "{recording}/{file}")]
        {
            assert_eq!(apart(url, template).unwrap_err().to_string(), format!("SPOOL_URL wants {APART}"));
        }
    }
}
