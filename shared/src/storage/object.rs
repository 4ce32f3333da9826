//! What an object is: what it is told about itself, and what the provider tells of it.

use std::fmt;

use crate::clock::Timestamp;

/// What a file is: enough to know it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256, lowercase hex.
    pub sha256: String,
}

/// What is kept with an object, where the provider can.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Its media type.
    pub content_type: String,
    /// Its `cache-control`, for whoever reads it by a temporary URL.
    pub cache_control: Option<String>,
    /// What it belongs to.
    pub metadata: Metadata,
}

/// What an object belongs to. Values are of ASCII without spaces: ids, names and numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The call's id.
    pub call: Option<String>,
    /// The recording's id.
    pub recording: Option<String>,
    /// Whose it is, when it is one person's.
    pub participant: Option<String>,
    /// `recording`, `participant` or `thumbnail`.
    pub kind: Option<String>,
    /// Its length in milliseconds.
    pub duration_ms: Option<u64>,
}

impl Metadata {
    /// The names and values that are set, in a fixed order. Names are lowercase letters and dashes, which every provider takes.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let duration = self.duration_ms.map(|ms| ms.to_string());
        [
            ("call", self.call.clone()),
            ("recording", self.recording.clone()),
            ("participant", self.participant.clone()),
            ("kind", self.kind.clone()),
            ("duration-ms", duration),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }

    /// From the names and values that a provider gives back; others are not ours.
    #[must_use]
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut metadata = Self::default();
        for (name, value) in pairs {
            let value = Some(value.to_owned());
            match name {
                "call" => metadata.call = value,
                "recording" => metadata.recording = value,
                "participant" => metadata.participant = value,
                "kind" => metadata.kind = value,
                "duration-ms" => metadata.duration_ms = value.and_then(|ms| ms.parse().ok()),
                _ => {}
            }
        }
        metadata
    }
}

/// A checksum that a provider keeps of a whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// CRC-64/NVME, as S3 keeps it.
    Crc64Nvme(u64),
    /// CRC-32C (Castagnoli), as Google Cloud Storage keeps it.
    Crc32c(u32),
}

/// Which checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumKind {
    /// CRC-64/NVME.
    Crc64Nvme,
    /// CRC-32C.
    Crc32c,
}

impl Checksum {
    /// Which it is.
    #[must_use]
    pub fn kind(self) -> ChecksumKind {
        match self {
            Self::Crc64Nvme(_) => ChecksumKind::Crc64Nvme,
            Self::Crc32c(_) => ChecksumKind::Crc32c,
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crc64Nvme(crc) => write!(f, "CRC-64/NVME {crc:016x}"),
            Self::Crc32c(crc) => write!(f, "CRC-32C {crc:08x}"),
        }
    }
}

/// What a provider tells of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectHead {
    /// Size in bytes.
    pub size: u64,
    /// The provider's tag of this version, with its quotes; opaque.
    pub etag: Option<String>,
    /// Of the whole object, when the provider keeps one.
    pub checksum: Option<Checksum>,
    /// When it was put.
    pub modified_at: Option<Timestamp>,
    /// Its media type, when the provider keeps it.
    pub content_type: Option<String>,
    /// Its `cache-control`, when the provider keeps it.
    pub cache_control: Option<String>,
    /// What it belongs to, when the provider keeps it.
    pub metadata: Metadata,
}

/// An object as a list tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was put.
    pub modified_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_survive_the_way_there_and_back() {
        let metadata = Metadata {
            call: Some("call_1".to_owned()),
            recording: Some("rec_1".to_owned()),
            participant: None,
            kind: Some("recording".to_owned()),
            duration_ms: Some(1234),
        };
        let pairs = metadata.pairs();
        let there = pairs.iter().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(Metadata::from_pairs(there.chain([("other", "x")])), metadata);
        assert_eq!(pairs.len(), 4);
    }
}
