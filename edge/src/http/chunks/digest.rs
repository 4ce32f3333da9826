//! `content-digest` of a chunk (RFC 9530, section 2): a dictionary of structured fields (RFC 8941) from algorithm to digest.

use axum::http::{HeaderMap, HeaderName};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The header's name.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// A header that is no dictionary of digests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MalformedDigest;

/// The SHA-256 that the client says its bytes have; `None` when it says none. Other algorithms are not checked.
pub(super) fn sha256(headers: &HeaderMap) -> Result<Option<[u8; 32]>, MalformedDigest> {
    let mut digest = None;
    for line in headers.get_all(CONTENT_DIGEST) {
        let line = line.to_str().map_err(|_| MalformedDigest)?;
        for member in line.split(',') {
            let (algorithm, value) = member.trim().split_once('=').ok_or(MalformedDigest)?;
            let bytes = byte_sequence(value)?;
            if algorithm == "sha-256" {
                digest = Some(bytes.try_into().map_err(|_| MalformedDigest)?);
            }
        }
    }
    Ok(digest)
}

/// Base64 between colons (RFC 8941, section 3.3.5).
fn byte_sequence(value: &str) -> Result<Vec<u8>, MalformedDigest> {
    let inside = value.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or(MalformedDigest)?;
    STANDARD.decode(inside).map_err(|_| MalformedDigest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 9530, section 2.
    const RFC: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

    fn parse(lines: &[&'static str]) -> Result<Option<[u8; 32]>, MalformedDigest> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_DIGEST, axum::http::HeaderValue::from_static(line));
        }
        sha256(&headers)
    }

    #[test]
    fn the_digest_is_found_among_others() {
        assert_eq!(parse(&[RFC]).unwrap().unwrap()[0], 0x44);
        assert_eq!(parse(&["md5=:AAAA:", RFC]), parse(&[RFC]));
        assert_eq!(
            parse(&["md5=:AAAA:, sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"]),
            parse(&[RFC])
        );
    }

    #[test]
    fn other_algorithms_alone_are_not_checked() {
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(parse(&["sha-512=:AAAA:"]), Ok(None));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for bad in ["", "sha-256", "sha-256=RK/0", "sha-256=:RK/0:", "sha-256=:!:", "sha-256=:AAAA", ","] {
            assert_eq!(parse(&[bad]), Err(MalformedDigest), "{bad}");
        }
    }
}
