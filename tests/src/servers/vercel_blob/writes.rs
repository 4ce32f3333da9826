//! What a client wishes of a write: its headers, within what its token or signature allows.

use http::HeaderMap;
use serde::Deserialize;

use super::Store;
use super::auth::header;
use super::error::BlobError;

/// The longest pathname, in UTF-16 units as the official client counts.
const PATHNAME_MAX: usize = 950;
/// How long a blob is cached when nothing is said: a month, in seconds.
const CACHE_DEFAULT: u64 = 30 * 24 * 60 * 60;
/// The least that it may be cached.
const CACHE_MIN: u64 = 60;
/// The largest blob: 5 TB.
const BLOB_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024 * 1024;
/// The length of a random suffix.
const SUFFIX_LENGTH: usize = 30;

/// What the holder of a client token or of a signed URL may write. Its fields overrule the headers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Limits {
    pub(super) maximum_size_in_bytes: Option<u64>,
    pub(super) allowed_content_types: Option<Vec<String>>,
    pub(super) add_random_suffix: Option<bool>,
    pub(super) allow_overwrite: Option<bool>,
    pub(super) cache_control_max_age: Option<u64>,
    pub(super) if_match: Option<String>,
}

/// A write, checked.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) pathname: String,
    pub(super) content_type: String,
    pub(super) cache_max_age: u64,
    pub(super) bytes_max: u64,
    allow_overwrite: bool,
    if_match: Option<String>,
}

impl Write {
    /// Reads the headers. `limits` are there when a token or a signature limits the caller.
    pub(super) fn read(
        store: &Store,
        pathname: &str,
        headers: &HeaderMap,
        limits: Option<&Limits>,
    ) -> Result<Self, BlobError> {
        check_pathname(pathname)?;
        check_access(store, headers, limits.is_some())?;
        let limits = limits.cloned().unwrap_or_default();
        let suffix = limits.add_random_suffix.or(flag(headers, "x-add-random-suffix")?).unwrap_or(false);
        let content_type = content_type(pathname, headers);
        let allowed = limits.allowed_content_types.as_deref();
        if allowed.is_some_and(|allowed| !permits(allowed, &content_type)) {
            return Err(BlobError::content_type_not_allowed(&content_type));
        }
        let if_match = limits.if_match.or(header(headers, "x-if-match").map(str::to_owned));
        Ok(Self {
            pathname: if suffix { with_suffix(pathname) } else { pathname.to_owned() },
            content_type,
            cache_max_age: limits.cache_control_max_age.map_or_else(|| cache_max_age(headers), Ok)?,
            bytes_max: limits.maximum_size_in_bytes.unwrap_or(BLOB_BYTES_MAX),
            allow_overwrite: limits.allow_overwrite.or(flag(headers, "x-allow-overwrite")?).unwrap_or(false),
            if_match,
        })
    }

    /// Whether it may replace what is there, by its etag.
    pub(super) fn agrees_with(&self, present: Option<&str>) -> Result<(), BlobError> {
        if self.if_match.is_some() && self.if_match.as_deref() != present {
            return Err(BlobError::precondition_failed());
        }
        if present.is_some() && !self.allow_overwrite {
            return Err(BlobError::bad_request(
                "This blob already exists, use `allowOverwrite: true` if you want to overwrite it. Or \
                 `addRandomSuffix: true` to generate a unique filename.",
            ));
        }
        Ok(())
    }
}

fn check_pathname(pathname: &str) -> Result<(), BlobError> {
    let length = pathname.encode_utf16().count();
    if length == 0 || length > PATHNAME_MAX || pathname.contains("//") || pathname.starts_with('/') {
        return Err(BlobError::bad_request(format!(
            "Invalid pathname: 1 to {PATHNAME_MAX} characters, without \"//\" and a leading \"/\""
        )));
    }
    Ok(())
}

/// A signed URL is used without headers of the protocol; then the store's access is meant.
fn check_access(store: &Store, headers: &HeaderMap, optional: bool) -> Result<(), BlobError> {
    let access = store.settings.access.as_str();
    match header(headers, "x-vercel-blob-access") {
        Some(wanted) if wanted == access => Ok(()),
        Some(wanted @ ("public" | "private")) => {
            Err(BlobError::bad_request(format!("Cannot use {wanted} access on a {access} store.")))
        }
        None if optional => Ok(()),
        _ => Err(BlobError::bad_request("x-vercel-blob-access must be public or private")),
    }
}

fn flag(headers: &HeaderMap, name: &str) -> Result<Option<bool>, BlobError> {
    match header(headers, name) {
        None => Ok(None),
        Some("0") => Ok(Some(false)),
        Some("1") => Ok(Some(true)),
        Some(_) => Err(BlobError::bad_request(format!("{name} must be 0 or 1"))),
    }
}

fn cache_max_age(headers: &HeaderMap) -> Result<u64, BlobError> {
    let Some(value) = header(headers, "x-cache-control-max-age") else { return Ok(CACHE_DEFAULT) };
    let seconds = value.parse().ok().filter(|seconds| *seconds >= CACHE_MIN);
    seconds.ok_or_else(|| BlobError::bad_request(format!("x-cache-control-max-age is at least {CACHE_MIN}")))
}

fn content_type(pathname: &str, headers: &HeaderMap) -> String {
    let guessed = || mime_guess::from_path(pathname).first_raw().unwrap_or("application/octet-stream");
    header(headers, "x-content-type").unwrap_or_else(guessed).to_owned()
}

fn permits(allowed: &[String], content_type: &str) -> bool {
    let family = content_type.split('/').next().unwrap_or_default();
    allowed.iter().any(|entry| entry == content_type || entry.strip_suffix("/*") == Some(family))
}

/// The suffix stands before the extension.
fn with_suffix(pathname: &str) -> String {
    let random: String =
        std::iter::repeat_with(|| rand::random_range(b'a'..=b'z') as char).take(SUFFIX_LENGTH).collect();
    let name = pathname.rfind('/').map_or(0, |slash| slash + 1);
    match pathname[name..].rfind('.') {
        Some(dot) => format!("{}-{random}{}", &pathname[..name + dot], &pathname[name + dot..]),
        None => format!("{pathname}-{random}"),
    }
}
