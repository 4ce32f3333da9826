//! Which provider, and how to reach it: named by `RECORDING_STORAGE_PROVIDER`, or found from what else is set.
//!
//! Found means: of the providers with a variable of their own set, there is exactly one; `RECORDING_STORAGE_BUCKET`, which two
//! providers share, is theirs whose credentials are there. A folder is the default, so `RECORDING_OUTPUT_DIR` decides nothing.
//! Of what belongs to another provider than the one that is used, nothing is read.

use std::path::PathBuf;
use std::sync::Arc;

use super::{GcsStorage, LocalStorage, S3Storage, SharedStorage, VercelBlobStorage};
use crate::clock::SystemClock;
use crate::env::{Env, EnvError, Secret, unusable_folder};

mod backup;
mod gcs;
mod names;
mod s3;
mod vercel_blob;

pub use backup::BackupSettings;
pub(in crate::storage) use gcs::KEY as GCS_KEY;
pub use gcs::{GcsCredentials, GcsSettings};
use names::{Names, RECORDING};
pub use s3::{S3Encryption, S3Keys, S3Settings};
pub use vercel_blob::VercelBlobSettings;

/// What `RECORDING_STORAGE_PROVIDER` wants.
const PROVIDERS: &str = "local, s3 (or aws), gcs (or gcp) or vercel-blob";

/// Where Google Cloud Storage is.
pub(in crate::storage) const GOOGLE: &str = "https://storage.googleapis.com";

/// Which provider, and how to reach it. No secret is printed.
#[derive(Debug, Clone)]
pub enum StorageSettings {
    /// A folder.
    Local(LocalSettings),
    /// S3, or what speaks as S3 does.
    S3(Box<S3Settings>),
    /// Google Cloud Storage.
    Gcs(GcsSettings),
    /// Vercel Blob.
    VercelBlob(VercelBlobSettings),
}

/// How a folder is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSettings {
    /// `RECORDING_OUTPUT_DIR`.
    pub dir: PathBuf,
    /// The variable that tells it.
    pub variable: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    Local,
    S3,
    Gcs,
    VercelBlob,
}

impl StorageSettings {
    /// Reads `RECORDING_STORAGE_PROVIDER` and what belongs to it.
    ///
    /// # Errors
    /// The first variable that is missing, wrong, or at odds with another.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        Self::named(env, &RECORDING)
    }

    /// A bucket of S3 for the spool, reached as one for recordings is. Recordings may have a storage class for what is kept for
    /// long and hardly read; segments are read soon, once, and then deleted.
    ///
    /// # Errors
    /// The first variable that is missing, wrong, or at odds with another.
    pub(crate) fn s3_spool(env: &Env, bucket: &str) -> Result<Self, EnvError> {
        let settings = S3Settings::of_bucket(env, &RECORDING, bucket)?;
        Ok(Self::S3(Box::new(S3Settings { storage_class: None, ..settings })))
    }

    /// A bucket of Google Cloud Storage for the spool, reached as one for recordings is.
    ///
    /// # Errors
    /// The first variable that is missing, wrong, or at odds with another.
    pub(crate) fn gcs_spool(env: &Env, bucket: &str) -> Result<Self, EnvError> {
        Ok(Self::Gcs(GcsSettings::of_bucket(env, &RECORDING, bucket)?))
    }

    fn named(env: &Env, names: &Names) -> Result<Self, EnvError> {
        match provider(env, names)? {
            Provider::Local => {
                let dir = env.optional(names.output_dir)?.unwrap_or("data/recordings").into();
                Ok(Self::Local(LocalSettings { dir, variable: names.output_dir }))
            }
            Provider::S3 => Ok(Self::S3(Box::new(S3Settings::named(env, names)?))),
            Provider::Gcs => Ok(Self::Gcs(GcsSettings::named(env, names)?)),
            Provider::VercelBlob => Ok(Self::VercelBlob(VercelBlobSettings::named(env, names)?)),
        }
    }

    /// Whether both are one bucket.
    pub(crate) fn is_same_bucket(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::S3(one), Self::S3(other)) => {
                (&one.bucket, &one.endpoint) == (&other.bucket, &other.endpoint)
            }
            (Self::Gcs(one), Self::Gcs(other)) => {
                (&one.bucket, &one.endpoint) == (&other.bucket, &other.endpoint)
            }
            _ => false,
        }
    }

    /// The password-like values, for a test that none of them is ever printed.
    #[must_use]
    pub fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::S3(s3) => {
                let keys = s3.keys.iter();
                keys.flat_map(|keys| [Some(&keys.secret_access_key), keys.session_token.as_ref()])
                    .flatten()
                    .collect()
            }
            Self::Gcs(GcsSettings { credentials: GcsCredentials::Json { key, .. }, .. }) => vec![key],
            Self::Gcs(_) => Vec::new(),
            Self::VercelBlob(vercel) => vec![&vercel.token],
        }
    }

    /// Where the provider's server answers, so that a person learns whether it can be reached; `None` for a folder, and for AWS: which
    /// of its hosts is asked follows from region, partition and profile, and its own library knows.
    #[must_use]
    pub fn server_url(&self) -> Option<String> {
        match self {
            Self::Local(_) => None,
            Self::S3(s3) => s3.endpoint.clone(),
            Self::Gcs(gcs) => Some(gcs.endpoint.clone().unwrap_or_else(|| GOOGLE.to_owned())),
            Self::VercelBlob(vercel) => Some(vercel.api_url.clone()),
        }
    }

    /// Opens the storage. It may still be out of reach.
    ///
    /// # Errors
    /// An [`EnvError`] when a setting is to blame; else something that may pass.
    pub async fn open(&self) -> anyhow::Result<SharedStorage> {
        match self {
            Self::Local(local) => LocalStorage::open(&local.dir)
                .map(|storage| Arc::new(storage) as SharedStorage)
                .map_err(|error| unusable_folder(local.variable, error)),
            Self::S3(s3) => Ok(Arc::new(S3Storage::open(s3).await?)),
            Self::Gcs(gcs) => Ok(Arc::new(GcsStorage::open(gcs).await?)),
            Self::VercelBlob(vercel) => Ok(Arc::new(VercelBlobStorage::open(vercel, Arc::new(SystemClock))?)),
        }
    }
}

fn provider(env: &Env, names: &Names) -> Result<Provider, EnvError> {
    match env.optional(names.provider)? {
        Some("local") => Ok(Provider::Local),
        Some("s3" | "aws") => Ok(Provider::S3),
        Some("gcs" | "gcp") => Ok(Provider::Gcs),
        Some("vercel-blob") => Ok(Provider::VercelBlob),
        Some(_) => Err(EnvError::wants(names.provider, PROVIDERS)),
        None => detected(env, names),
    }
}

fn detected(env: &Env, names: &Names) -> Result<Provider, EnvError> {
    let any = |variables: &[&str]| -> Result<bool, EnvError> {
        variables.iter().try_fold(false, |found, name| Ok(found || env.optional(name)?.is_some()))
    };
    let found: Vec<Provider> = [
        (Provider::S3, any(&names.s3.own())?),
        (Provider::Gcs, any(&names.gcs.own())?),
        (Provider::VercelBlob, any(&[names.vercel_blob.token])?),
    ]
    .into_iter()
    .filter_map(|(provider, set)| set.then_some(provider))
    .collect();
    match found[..] {
        [provider] => Ok(provider),
        [] if env.optional(names.bucket)?.is_some() => bucket_owner(env, names),
        [] => Ok(Provider::Local),
        _ => Err(EnvError::missing(
            names.provider,
            &format!("{PROVIDERS}, as variables of several providers are set"),
        )),
    }
}

/// Whose bucket `RECORDING_STORAGE_BUCKET` is, where the provider is not named.
fn bucket_owner(env: &Env, names: &Names) -> Result<Provider, EnvError> {
    let set = |name: &str| Ok::<_, EnvError>(env.optional(name)?.is_some());
    let credentials = env.optional(names.credentials)?.unwrap_or_default();
    let aws =
        set("AWS_ACCESS_KEY_ID")? || set("AWS_PROFILE")? || set("AWS_ROLE_ARN")? || s3::are_keys(credentials);
    let google = set("GOOGLE_APPLICATION_CREDENTIALS")?
        || set("STORAGE_EMULATOR_HOST")?
        || gcs::are_credentials(credentials);
    match (aws, google) {
        (true, false) => Ok(Provider::S3),
        (false, true) => Ok(Provider::Gcs),
        _ => {
            let wants = format!("s3 or gcs, as {} is set and could be either's", names.bucket);
            Err(EnvError::missing(names.provider, &wants))
        }
    }
}

/// The one value that two names give: a provider's own and the general one, which may not disagree.
fn one_of<'a>(env: &'a Env, own: &str, general: &str) -> Result<Option<&'a str>, EnvError> {
    match (env.optional(own)?, env.optional(general)?) {
        (Some(one), Some(other)) if one != other => {
            Err(EnvError::wants(own, &format!("the same as {general}, or only one of the two set")))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// A server's URL without a slash at its end. One that holds a user or a password would be printed where it is told.
fn server(name: &str, url: &str) -> Result<String, EnvError> {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['@', ' ']) => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        _ => Err(EnvError::wants(name, "an http:// or https:// URL without a user or password")),
    }
}

#[cfg(test)]
mod tests;
