//! Objects as the JSON API tells of them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize};

use crate::clock::Timestamp;
use crate::storage::{Attributes, Checksum, Listed, Metadata, ObjectHead};

/// An object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    name: String,
    #[serde(deserialize_with = "number")]
    pub(super) size: u64,
    etag: Option<String>,
    crc32c: Option<String>,
    time_created: Option<Timestamp>,
    content_type: Option<String>,
    cache_control: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    #[serde(default)]
    pub(super) items: Vec<Object>,
    pub(super) next_page_token: Option<String>,
}

/// What is told of an object that is to be.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewObject<'a> {
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<&'a str>,
    metadata: BTreeMap<&'static str, String>,
}

impl<'a> From<&'a Attributes> for NewObject<'a> {
    fn from(attributes: &'a Attributes) -> Self {
        Self {
            content_type: &attributes.content_type,
            cache_control: attributes.cache_control.as_deref(),
            metadata: attributes.metadata.pairs().into_iter().collect(),
        }
    }
}

impl Object {
    pub(super) fn crc32c(&self) -> Option<u32> {
        crc32c(self.crc32c.as_deref()?)
    }
}

impl From<Object> for ObjectHead {
    fn from(object: Object) -> Self {
        let pairs = object.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Self {
            size: object.size,
            checksum: object.crc32c().map(Checksum::Crc32c),
            modified_at: object.time_created,
            metadata: Metadata::from_pairs(pairs),
            etag: object.etag,
            content_type: object.content_type,
            cache_control: object.cache_control,
        }
    }
}

impl From<Object> for Listed {
    fn from(object: Object) -> Self {
        Self { key: object.name, size: object.size, modified_at: object.time_created }
    }
}

/// Numbers of 64 bits come as text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// Google writes the four bytes of the CRC, most significant first, in Base64.
fn crc32c(text: &str) -> Option<u32> {
    let bytes = BASE64.decode(text).ok()?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

pub(super) fn crc32c_text(crc: u32) -> String {
    BASE64.encode(crc.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the API's documentation shows one; the CRC is that of the text `123456789`.
    #[test]
    fn an_object_is_read() {
        let json = serde_json::json!({
            "kind": "storage#object", "name": "a/b", "size": "9", "etag": "CJ=", "crc32c": "4waSgw==",
            "timeCreated": "2026-03-09T23:00:00.123Z", "contentType": "video/webm",
            "metadata": { "call": "call_1", "other": "x" },
        });
        let object: Object = serde_json::from_value(json).unwrap();
        assert_eq!(crc32c_text(object.crc32c().unwrap()), "4waSgw==");
        let head = ObjectHead::from(object);
        assert_eq!((head.size, head.checksum), (9, Some(Checksum::Crc32c(0xe306_9283))));
        assert_eq!(head.metadata.call.as_deref(), Some("call_1"));
        assert_eq!(head.modified_at.unwrap().timestamp_subsec_millis(), 123);
    }
}
