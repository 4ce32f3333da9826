//! URLs that anybody may read for a while: the service delegates one operation on one pathname, and hands out the key that
//! signs it.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::json;

use super::super::{Link, StorageError};
use super::api::{Api, Call};
use crate::clock::Timestamp;

/// Seven days is the service's limit, by its clock; ours may be ahead of it.
pub(super) const VALID_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60 - 600);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signing {
    delegation_token: String,
    client_signing_token: String,
}

/// Signs the URL of a blob for reading.
pub(super) async fn sign(
    api: &Api,
    mut url: Url,
    key: &str,
    link: &Link,
    now: Timestamp,
) -> Result<String, StorageError> {
    let valid = TimeDelta::from_std(link.valid.min(VALID_MAX)).unwrap_or(TimeDelta::MAX);
    let until = (now + valid).timestamp_millis();
    let wish = json!({ "pathname": key, "operations": ["get"], "validUntil": until });
    let signing: Signing = api.send(&Call::new(Method::POST, "/signed-token", key).json(&wish)).await?;
    let signature = signature(&signing.client_signing_token, key);
    let mut query = url.query_pairs_mut();
    // The name that the file is saved under is the key's last segment; another cannot be given.
    if link.disposition.as_deref().is_some_and(|disposition| disposition.starts_with("attachment")) {
        query.append_pair("download", "1");
    }
    query.append_pair("vercel-blob-delegation", &signing.delegation_token);
    query.append_pair("vercel-blob-signature", &signature);
    drop(query);
    Ok(url.into())
}

/// Over lines `name=value`, sorted by their bytes. The URL is valid as long as its delegation, so nothing else is signed.
fn signature(signing_token: &str, key: &str) -> String {
    let signing_key = hmac::Key::new(hmac::HMAC_SHA256, signing_token.as_bytes());
    let lines = format!("operation=get\npathname={key}");
    URL_SAFE_NO_PAD.encode(hmac::sign(&signing_key, lines.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `presignUrl` of `@vercel/blob` 2.8 signs it.
    #[test]
    fn a_signature_is_that_of_the_official_client() {
        assert_eq!(signature("a key", "a/größe 1.webm"), "fi1VGbbaldRZQ9i4m3VNMsXn1Db8EF4yU_UAjBZAyow");
    }
}
