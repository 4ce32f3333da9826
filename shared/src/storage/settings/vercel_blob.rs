//! How Vercel Blob is reached.

use super::names::Names;
use super::server;
use crate::env::{Env, EnvError, Secret};

/// Where its API is unless `VERCEL_BLOB_API_URL` says otherwise.
const API_URL: &str = "https://vercel.com/api/blob";
/// Below a store's id, where the blobs of a private store are unless `VERCEL_BLOB_DOWNLOAD_URL` says otherwise.
const DOWNLOAD_DOMAIN: &str = "private.blob.vercel-storage.com";
/// What every token begins with; the store's id and the secret follow.
const TOKEN_PREFIX: &str = "vercel_blob_rw_";
/// What `BLOB_READ_WRITE_TOKEN` wants.
const TOKEN: &str = "a token vercel_blob_rw_<store>_<secret>, as the store's page shows it";

/// How Vercel Blob is reached.
#[derive(Debug, Clone)]
pub struct VercelBlobSettings {
    /// `BLOB_READ_WRITE_TOKEN`, or the JSON string or `{"token": "…"}` in `RECORDING_STORAGE_CREDENTIALS`.
    pub token: Secret,
    /// The store, named in the token.
    pub store_id: String,
    /// `VERCEL_BLOB_API_URL`, without a slash at its end.
    pub api_url: String,
    /// `VERCEL_BLOB_DOWNLOAD_URL`, without a slash at its end.
    pub download_url: String,
}

impl VercelBlobSettings {
    pub(super) fn named(env: &Env, names: &Names) -> Result<Self, EnvError> {
        let own = &names.vercel_blob;
        let (name, token) = match (env.optional(own.token)?, env.optional(names.credentials)?) {
            (Some(_), Some(_)) => {
                let wants = format!("to be unset where {} is set", own.token);
                return Err(EnvError::wants(names.credentials, &wants));
            }
            (Some(token), None) => (own.token, token.to_owned()),
            (None, Some(json)) => (names.credentials, of_json(json).unwrap_or_default()),
            (None, None) => return Err(EnvError::missing(own.token, TOKEN)),
        };
        let store = token.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.split_once('_'));
        let Some((store_id, _)) = store.filter(|(store, secret)| is_plain(store) && is_plain(secret)) else {
            return Err(EnvError::wants(name, TOKEN));
        };
        let download_url = format!("https://{store_id}.{DOWNLOAD_DOMAIN}");
        Ok(Self {
            store_id: store_id.to_owned(),
            token: Secret::new(token.clone()),
            api_url: url(env, own.api_url, API_URL)?,
            download_url: url(env, own.download_url, &download_url)?,
        })
    }
}

fn url(env: &Env, name: &'static str, default: &str) -> Result<String, EnvError> {
    server(name, env.optional(name)?.unwrap_or(default))
}

fn of_json(json: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_str(json).ok()?;
    json.as_str().or_else(|| json.get("token")?.as_str()).map(str::to_owned)
}

/// Of what a header takes as it is.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}
