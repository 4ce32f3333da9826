//! The one service account: its key, its tokens, and the URLs that it has signed.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::clock::{Clock, SystemClock, Timestamp};

const EMAIL: &str = "callreel@tests.iam.gserviceaccount.com";
/// A URL may be valid for a week.
const VALID_MAX: i64 = 604_800;

pub(super) struct Account {
    key: KeyPair,
}

/// Why a URL does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WrongUrl {
    NotSigned,
    Signature,
    Expired,
}

impl Account {
    pub(super) fn new() -> Self {
        Self { key: KeyPair::generate(KeySize::Rsa2048).expect("randomness") }
    }

    /// Its key's JSON, as Google's console hands it out.
    pub(super) fn key(&self) -> String {
        let der: Pkcs8V1Der<'_> = self.key.as_der().expect("a key that was just made");
        let base64 = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            (0..base64.len()).step_by(64).map(|at| &base64[at..base64.len().min(at + 64)]).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        json!({
            "type": "service_account", "project_id": "tests", "private_key_id": "1", "private_key": pem,
            "client_email": EMAIL, "client_id": "1", "token_uri": "https://oauth2.googleapis.com/token",
        })
        .to_string()
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.key.public_key());
        public.verify(message, signature).is_ok()
    }

    /// Whether a request comes from it: a token that it has signed itself (RFC 7523), still valid.
    pub(super) fn sends(&self, headers: &HeaderMap) -> bool {
        self.sends_or_not(headers).is_some_and(|yes| yes)
    }

    fn sends_or_not(&self, headers: &HeaderMap) -> Option<bool> {
        let token = headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
        let (message, signature) = token.rsplit_once('.')?;
        let claims = message.split_once('.')?.1;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let valid = claims["exp"].as_i64()? > SystemClock.now().timestamp();
        let signed = self.has_signed(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?);
        Some(signed && valid && claims["iss"] == EMAIL)
    }

    /// Whether it has signed the URL of this request, by the rules of V4.
    pub(super) fn has_signed_url(&self, request: &Parts) -> Result<(), WrongUrl> {
        let query = request.uri.query().unwrap_or_default();
        let mut pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let signature = take(&mut pairs, "X-Goog-Signature").ok_or(WrongUrl::NotSigned)?;
        pairs.sort_unstable();
        let find = |name: &str| pairs.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
        let (Some(date), Some(valid), Some(signed)) =
            (find("X-Goog-Date"), find("X-Goog-Expires"), find("X-Goog-SignedHeaders"))
        else {
            return Err(WrongUrl::Signature);
        };
        let message = to_sign(request, &pairs, date, signed).ok_or(WrongUrl::Signature)?;
        let signature = hex::decode(signature).map_err(|_| WrongUrl::Signature)?;
        let named =
            find("X-Goog-Credential").is_some_and(|named| named.starts_with(&EMAIL.replace('@', "%40")));
        if !named || !self.has_signed(message.as_bytes(), &signature) {
            return Err(WrongUrl::Signature);
        }
        let valid: i64 = valid.parse().map_err(|_| WrongUrl::Signature)?;
        let age = SystemClock.now() - timestamp(date).ok_or(WrongUrl::Signature)?;
        match (1..=VALID_MAX).contains(&valid) {
            true if age.num_seconds() < valid => Ok(()),
            true => Err(WrongUrl::Expired),
            false => Err(WrongUrl::Signature),
        }
    }
}

fn take<'a>(pairs: &mut Vec<(&'a str, &'a str)>, name: &str) -> Option<&'a str> {
    let at = pairs.iter().position(|(found, _)| *found == name)?;
    Some(pairs.remove(at).1)
}

/// The string to sign, of the request as it came; of the host without its port.
fn to_sign(request: &Parts, pairs: &[(&str, &str)], date: &str, signed: &str) -> Option<String> {
    let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let names: Vec<&str> = signed.split("%3B").collect();
    let header = |name: &str| match request.headers.get(name)?.to_str().ok()? {
        host if name == "host" => host.split(':').next(),
        value => Some(value.trim()),
    };
    let headers: Option<String> =
        names.iter().map(|name| Some(format!("{name}:{}\n", header(name)?))).collect();
    let canonical = [
        request.method.as_str(),
        request.uri.path(),
        &query.join("&"),
        &headers?,
        &names.join(";"),
        "UNSIGNED-PAYLOAD",
    ]
    .join("\n");
    let scope = format!("{}/auto/storage/goog4_request", date.get(..8)?);
    Some(format!("GOOG4-RSA-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical))))
}

/// As `20260309T230000Z`.
fn timestamp(text: &str) -> Option<Timestamp> {
    let rfc3339 = format!(
        "{}-{}-{}:{}:{}",
        text.get(..4)?,
        text.get(4..6)?,
        text.get(6..11)?,
        text.get(11..13)?,
        text.get(13..)?
    );
    rfc3339.parse().ok()
}
