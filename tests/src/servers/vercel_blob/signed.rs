//! Signed URLs: a delegation that the service signs, and a URL that its holder signs with the key that came with it.
//!
//! Nothing is kept: the key is made of the delegation and the store's secret, so that any host of the service can check.

use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::clock::Clock;

use super::Store;
use super::auth::{Operation, Query, authorise};
use super::error::BlobError;
use super::writes::Limits;

/// The longest that a delegation is good for.
const VALID_MAX: TimeDelta = TimeDelta::days(7);
/// And when nothing is asked for.
const VALID_DEFAULT: TimeDelta = TimeDelta::hours(1);
/// The parameters of a URL that its signature covers begin with this; so do the two that carry the signature.
const PARAMETER: &str = "vercel-blob-";
const DELEGATION: &str = "vercel-blob-delegation";
const SIGNATURE: &str = "vercel-blob-signature";

/// What the holder of a delegation may do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delegation {
    store_id: String,
    pathname: String,
    operations: Vec<String>,
    valid_until: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum_size_in_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_content_types: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Wish {
    pathname: Option<String>,
    operations: Option<Vec<String>>,
    valid_until: Option<i64>,
    maximum_size_in_bytes: Option<u64>,
    allowed_content_types: Option<Vec<String>>,
}

/// `POST /signed-token`
pub(super) async fn issue(
    State(store): State<Arc<Store>>,
    headers: HeaderMap,
    Json(wish): Json<Wish>,
) -> Result<Json<Value>, BlobError> {
    let pathname = wish.pathname.unwrap_or_else(|| "*".to_owned());
    authorise(&store, &headers, &Query::new(), Operation::Manage, &pathname)?;
    let operations = wish.operations.unwrap_or_else(|| vec!["get".to_owned()]);
    let known = |operation: &String| matches!(operation.as_str(), "get" | "head" | "put" | "delete");
    if operations.is_empty() || !operations.iter().all(known) {
        return Err(BlobError::bad_request("operations are get, head, put and delete"));
    }
    let now = store.clock.now();
    let valid_until = wish.valid_until.unwrap_or_else(|| (now + VALID_DEFAULT).timestamp_millis());
    if valid_until <= now.timestamp_millis() || valid_until > (now + VALID_MAX).timestamp_millis() {
        return Err(BlobError::bad_request("validUntil is in the future, and seven days away at most"));
    }
    let delegation = Delegation {
        store_id: store.settings.id.clone(),
        pathname,
        operations,
        valid_until,
        maximum_size_in_bytes: wish.maximum_size_in_bytes,
        allowed_content_types: wish.allowed_content_types,
    };
    let payload = serde_json::to_vec(&delegation).map_err(|error| BlobError::unknown(error.to_string()))?;
    let payload = URL_SAFE_NO_PAD.encode(payload);
    let token = format!("{payload}.{}", sign(&store.settings.secret, &payload));
    let key = sign(&store.settings.secret, &token);
    Ok(Json(
        json!({ "delegationToken": token, "clientSigningToken": key, "validUntil": delegation.valid_until }),
    ))
}

/// Whether a request carries a signature.
pub(super) fn is_signed(query: &Query) -> bool {
    query.contains_key(DELEGATION)
}

/// Whether the signature allows the operation on the pathname; and what may be written.
pub(super) fn check(
    store: &Store,
    query: &Query,
    operation: Operation,
    pathname: &str,
) -> Result<Limits, BlobError> {
    let refused = || BlobError::forbidden("Invalid signature");
    let token = query.get(DELEGATION).ok_or_else(refused)?;
    let signature = query.get(SIGNATURE).ok_or_else(refused)?;
    let (payload, seal) = token.split_once('.').ok_or_else(refused)?;
    let key = sign(&store.settings.secret, token);
    let sealed = is_signature(&store.settings.secret, payload, seal);
    if !sealed || !is_signature(&key, &canonical(query, operation, pathname), signature) {
        return Err(refused());
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| refused())?;
    let granted: Delegation = serde_json::from_slice(&payload).map_err(|_| refused())?;
    if granted.store_id != store.settings.id
        || !granted.operations.iter().any(|granted| granted == operation.as_str())
        || (granted.pathname != "*" && granted.pathname != pathname)
    {
        return Err(refused());
    }
    let until = number(query, "valid-until").unwrap_or(granted.valid_until).min(granted.valid_until);
    if until <= store.clock.now().timestamp_millis() {
        return Err(BlobError::token_expired());
    }
    Ok(limits(query, granted))
}

/// The narrower of what the delegation and what the URL says.
fn limits(query: &Query, granted: Delegation) -> Limits {
    let text = |name: &str| query.get(&format!("{PARAMETER}{name}")).cloned();
    let size = number(query, "maximum-size-in-bytes").and_then(|bytes| u64::try_from(bytes).ok());
    let types = text("allowed-content-types").map(|list| list.split(',').map(str::to_owned).collect());
    Limits {
        maximum_size_in_bytes: size.into_iter().chain(granted.maximum_size_in_bytes).min(),
        allowed_content_types: types.or(granted.allowed_content_types),
        add_random_suffix: text("add-random-suffix").map(|flag| flag == "true"),
        allow_overwrite: text("allow-overwrite").map(|flag| flag == "true"),
        cache_control_max_age: text("cache-control-max-age").and_then(|seconds| seconds.parse().ok()),
        if_match: text("if-match"),
    }
}

fn number(query: &Query, name: &str) -> Option<i64> {
    query.get(&format!("{PARAMETER}{name}"))?.parse().ok()
}

/// What is signed: lines `name=value`, sorted by their bytes.
fn canonical(query: &Query, operation: Operation, pathname: &str) -> String {
    let covered = |name: &str| name.starts_with(PARAMETER) && name != DELEGATION && name != SIGNATURE;
    let mut lines = vec![format!("operation={}", operation.as_str()), format!("pathname={pathname}")];
    lines.extend(
        query.iter().filter(|(name, _)| covered(name)).map(|(name, value)| format!("{name}={value}")),
    );
    lines.sort();
    lines.join("\n")
}

fn sign(key: &str, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()))
}

fn is_signature(key: &str, text: &str, signature: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    hmac::verify(&key, text.as_bytes(), &signature).is_ok()
}
