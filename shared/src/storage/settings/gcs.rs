//! How Google Cloud Storage is reached.

use std::path::PathBuf;

use super::names::Names;
use super::{one_of, server};
use crate::env::{Env, EnvError, Secret};

/// What a credentials variable wants for Google Cloud Storage.
pub(in crate::storage) const KEY: &str = "the JSON of a key, as Google's console hands it out";

/// Where Google's own tools look for a key.
const APPLICATION_CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// How Google Cloud Storage is reached.
#[derive(Debug, Clone)]
pub struct GcsSettings {
    /// `RECORDING_GCS_BUCKET` or `RECORDING_STORAGE_BUCKET`.
    pub bucket: String,
    /// `RECORDING_GCS_PROJECT_ID`: the project that is billed for requests, where it is not the credentials' own.
    pub project_id: Option<String>,
    /// Who we are.
    pub credentials: GcsCredentials,
    /// `RECORDING_GCS_ENDPOINT`, or `STORAGE_EMULATOR_HOST` as Google's own tools read it: another server than Google's.
    pub endpoint: Option<String>,
}

/// Who we are to Google.
#[derive(Debug, Clone)]
pub enum GcsCredentials {
    /// `RECORDING_GCS_CREDENTIALS` or `RECORDING_STORAGE_CREDENTIALS`: a key's JSON, which has been seen to be JSON with a
    /// `type`.
    Json {
        /// Where it was found.
        variable: &'static str,
        /// The JSON.
        key: Secret,
    },
    /// `RECORDING_GCS_KEY_FILENAME` or `GOOGLE_APPLICATION_CREDENTIALS`: a file with such JSON.
    KeyFile {
        /// Which of the two.
        variable: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Whoever is logged in with `gcloud`, or what the machine runs as; nobody at an endpoint without TLS, as an emulator is.
    Platform,
}

impl GcsSettings {
    pub(super) fn named(env: &Env, names: &Names) -> Result<Self, EnvError> {
        let own = &names.gcs;
        let bucket = one_of(env, own.bucket, names.bucket)?;
        let bucket = bucket.ok_or_else(|| EnvError::missing(own.bucket, "the name of a bucket"))?;
        Self::of_bucket(env, names, bucket)
    }

    pub(super) fn of_bucket(env: &Env, names: &Names, bucket: &str) -> Result<Self, EnvError> {
        let own = &names.gcs;
        Ok(Self {
            bucket: bucket.to_owned(),
            project_id: env.optional(own.project_id)?.map(str::to_owned),
            credentials: credentials(env, names)?,
            endpoint: endpoint(env, names)?,
        })
    }
}

fn credentials(env: &Env, names: &Names) -> Result<GcsCredentials, EnvError> {
    let own = &names.gcs;
    let json = one_of(env, own.credentials, names.credentials)?;
    match (json, env.optional(own.key_filename)?) {
        (Some(_), Some(_)) => {
            Err(EnvError::wants(own.key_filename, &format!("to be unset where {} is set", own.credentials)))
        }
        (Some(json), None) => {
            let own_is_set = env.optional(own.credentials)?.is_some();
            let variable = if own_is_set { own.credentials } else { names.credentials };
            if !are_credentials(json) {
                return Err(EnvError::wants(variable, KEY));
            }
            Ok(GcsCredentials::Json { variable, key: Secret::new(json.to_owned()) })
        }
        (None, Some(file)) => Ok(GcsCredentials::KeyFile { variable: own.key_filename, path: file.into() }),
        (None, None) => Ok(match env.optional(APPLICATION_CREDENTIALS)? {
            Some(file) => GcsCredentials::KeyFile { variable: APPLICATION_CREDENTIALS, path: file.into() },
            None => GcsCredentials::Platform,
        }),
    }
}

/// Whether a credentials variable holds a key of Google's.
pub(super) fn are_credentials(json: &str) -> bool {
    let json = serde_json::from_str::<serde_json::Value>(json);
    json.is_ok_and(|json| json.get("type").is_some_and(serde_json::Value::is_string))
}

fn endpoint(env: &Env, names: &Names) -> Result<Option<String>, EnvError> {
    for name in [names.gcs.endpoint, "STORAGE_EMULATOR_HOST"] {
        let Some(url) = env.optional(name)? else { continue };
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        return server(name, &url).map(Some);
    }
    Ok(None)
}
