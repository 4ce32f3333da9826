//! Who calls: the owner of the store's token, or somebody whom the owner gave less.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde::Deserialize;
use shared::clock::Clock;

use super::Store;
use super::error::BlobError;
use super::signed;
use super::writes::Limits;

/// The version of the API.
const API_VERSION: &str = "12";

/// A request's query.
pub(super) type Query = HashMap<String, String>;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Get,
    Head,
    Put,
    Delete,
    /// What only the owner may: listings, deletions of many, new tokens.
    Manage,
}

impl Operation {
    /// The word that a delegation names it by.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Manage => "manage",
        }
    }
}

/// Lets a call of the API in. Limits are returned when the caller is not the owner.
pub(super) fn authorise(
    store: &Store,
    headers: &HeaderMap,
    query: &Query,
    operation: Operation,
    pathname: &str,
) -> Result<Option<Limits>, BlobError> {
    let limits = if signed::is_signed(query) {
        Some(signed::check(store, query, operation, pathname)?)
    } else {
        check_headers(store, headers)?;
        bearer(store, headers, operation, pathname)?
    };
    if store.suspended.load(Ordering::SeqCst) {
        return Err(BlobError::store_suspended());
    }
    Ok(limits)
}

/// Whether the request has the owner's token; the token of another store is an error.
pub(super) fn is_owner(store: &Store, headers: &HeaderMap) -> Result<bool, BlobError> {
    token(headers).map_or(Ok(false), |token| check_token(store, token).map(|()| true))
}

/// A header's text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn token(headers: &HeaderMap) -> Option<&str> {
    header(headers, "authorization")?.strip_prefix("Bearer ")
}

/// What the official client sends with every call, the service may come to need.
fn check_headers(store: &Store, headers: &HeaderMap) -> Result<(), BlobError> {
    if header(headers, "x-api-version") != Some(API_VERSION) {
        return Err(BlobError::bad_request(format!("x-api-version is not {API_VERSION}")));
    }
    let attempt = header(headers, "x-api-blob-request-attempt").and_then(|n| n.parse::<u32>().ok());
    if attempt.is_none() || header(headers, "x-api-blob-request-id").is_none_or(str::is_empty) {
        return Err(BlobError::bad_request(
            "x-api-blob-request-id and x-api-blob-request-attempt are missing",
        ));
    }
    if header(headers, "x-vercel-blob-store-id") != Some(store.settings.id.as_str()) {
        return Err(BlobError::store_not_found());
    }
    Ok(())
}

fn bearer(
    store: &Store,
    headers: &HeaderMap,
    operation: Operation,
    pathname: &str,
) -> Result<Option<Limits>, BlobError> {
    let token = token(headers).ok_or_else(|| BlobError::forbidden("No token"))?;
    if let Some(rest) = token.strip_prefix("vercel_blob_client_") {
        return client_token(store, rest, operation, pathname).map(Some);
    }
    check_token(store, token).map(|()| None)
}

fn check_token(store: &Store, token: &str) -> Result<(), BlobError> {
    let mut parts = token.strip_prefix("vercel_blob_rw_").unwrap_or_default().splitn(2, '_');
    if parts.next() != Some(store.settings.id.as_str()) {
        return Err(BlobError::store_not_found());
    }
    if parts.next() != Some(store.settings.secret.as_str()) {
        return Err(BlobError::forbidden("Invalid token"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientToken {
    pathname: String,
    valid_until: i64,
    #[serde(flatten)]
    limits: Limits,
}

/// `STORE_base64(hex(HMAC-SHA256(token, payload)).payload)`, the payload being base64 of JSON.
fn client_token(
    store: &Store,
    rest: &str,
    operation: Operation,
    pathname: &str,
) -> Result<Limits, BlobError> {
    let invalid = || BlobError::forbidden("Invalid client token");
    let sealed = rest.split_once('_').and_then(|(_, sealed)| STANDARD.decode(sealed).ok());
    let sealed = sealed.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(invalid)?;
    let (signature, payload) = sealed.split_once('.').ok_or_else(invalid)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, store.token().as_bytes());
    let signature = hex::decode(signature).map_err(|_| invalid())?;
    hmac::verify(&key, payload.as_bytes(), &signature).map_err(|_| invalid())?;
    let payload = STANDARD.decode(payload).map_err(|_| invalid())?;
    let granted: ClientToken = serde_json::from_slice(&payload).map_err(|_| invalid())?;
    if operation != Operation::Put {
        return Err(BlobError::client_token_not_allowed());
    }
    if granted.valid_until <= store.clock.now().timestamp_millis() {
        return Err(BlobError::token_expired());
    }
    if granted.pathname != pathname {
        return Err(BlobError::pathname_mismatch(pathname));
    }
    Ok(granted.limits)
}
