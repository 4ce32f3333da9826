//! Identifiers. Each is a newtype that can only hold well-formed text, so that inside nothing needs to ask again.
//!
//! Ids of ours are a prefix and a ULID (time-ordered, no coordination); call and user ids may be given by the caller.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use ulid::Ulid;

/// An identifier from outside that does not have its form.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidId(&'static str);

/// The longest call or user id that a caller may give, in bytes (API, section 1).
pub const GIVEN_ID_MAX: usize = 128;

fn is_given_id(raw: &str) -> bool {
    (1..=GIVEN_ID_MAX).contains(&raw.len())
        && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:@-".contains(&b))
}

fn is_own_id(raw: &str, prefix: &str) -> bool {
    raw.strip_prefix(prefix).is_some_and(|ulid| Ulid::from_string(ulid).is_ok())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:expr, $error:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type)]
        #[serde(try_from = "String", into = "String")]
        #[sqlx(transparent)]
        pub struct $name(String);

        impl $name {
            /// The id as text, as it stands in URLs, rows and logs.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Checks the form of an id that came from outside.
            ///
            /// # Errors
            /// When the text does not have the id's form.
            pub fn parse(raw: &str) -> Result<Self, InvalidId> {
                raw.parse()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(raw: &str) -> Result<Self, Self::Err> {
                if $check(raw) { Ok(Self(raw.to_owned())) } else { Err(InvalidId($error)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(raw: String) -> Result<Self, Self::Error> {
                if $check(&raw) { Ok(Self(raw)) } else { Err(InvalidId($error)) }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! own_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $error:literal) => {
        text_id!($(#[$doc])* $name, |raw: &str| is_own_id(raw, $prefix), $error);

        impl $name {
            /// A new id that no other process makes.
            #[must_use]
            pub fn generate() -> Self {
                Self(format!("{}{}", $prefix, Ulid::generate()))
            }
        }
    };
}

text_id!(
    /// A call, also called a room: given by the caller, or `call_` and a ULID.
    CallId,
    is_given_id,
    "a call id is 1 to 128 characters of A-Z a-z 0-9 _ . : @ -"
);
text_id!(
    /// A user as the token's `sub` names them.
    UserId,
    is_given_id,
    "a user id is 1 to 128 characters of A-Z a-z 0-9 _ . : @ -"
);
own_id!(
    /// A recording: `rec_` and a ULID.
    RecordingId,
    "rec_",
    "a recording id is rec_ and a ULID"
);
own_id!(
    /// One captured medium of one participant: `track_` and a ULID.
    TrackId,
    "track_",
    "a track id is track_ and a ULID"
);
own_id!(
    /// A file made from a recording: `art_` and a ULID.
    ArtifactId,
    "art_",
    "an artifact id is art_ and a ULID"
);
own_id!(
    /// An edge with its capture folder: `edge_` and a ULID, kept in that folder so that it survives restarts.
    EdgeId,
    "edge_",
    "an edge id is edge_ and a ULID"
);

impl CallId {
    /// A new id for a call whose caller did not name one.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("call_{}", Ulid::generate()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_id_holds_only_its_characters() {
        for good in ["a", "user@example.org", "A-b_c.d:e@9", &"x".repeat(128)] {
            assert!(CallId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "ü", "a\n", "..\\", &"x".repeat(129)] {
            assert!(UserId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_of_ours_has_its_prefix_and_a_ulid() {
        let id = RecordingId::generate();
        assert_eq!(RecordingId::parse(id.as_str()), Ok(id.clone()));
        assert!(RecordingId::parse("rec_../../etc/passwd").is_err());
        assert!(TrackId::parse(id.as_str()).is_err());
    }

    #[test]
    fn a_malformed_id_in_json_is_refused() {
        assert!(serde_json::from_str::<UserId>("\"a b\"").is_err());
        assert_eq!(serde_json::to_string(&UserId::parse("ann").unwrap()).unwrap(), "\"ann\"");
    }
}
