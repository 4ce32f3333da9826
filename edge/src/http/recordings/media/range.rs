//! Which part of a file `Range` asks for (RFC 9110, section 14).
//!
//! Decisions:
//! - tower-http answers 416 to whatever it does not serve. The RFC wants a header that is malformed or of another unit to be
//!   ignored, and a suffix longer than the file to be the whole file; 416 is for valid ranges of which the file holds nothing.
//! - Several parts at once are answered with the whole file, as the RFC allows: players ask for one.

use axum::http::HeaderValue;
use http_range::{HttpRange, HttpRangeParseError};

/// The header as tower-http is to see it, for a file of `size` bytes; `None`: the header is ignored, and the whole file served.
pub(super) fn of(asked: &HeaderValue, size: u64) -> Option<HeaderValue> {
    let parts = |size| HttpRange::parse_bytes(asked.as_bytes(), size);
    // The parser does not look at the end of a range that begins beyond the file; of the largest file none does.
    if matches!(parts(u64::MAX), Err(HttpRangeParseError::InvalidRange)) {
        return None;
    }
    let part = match parts(size).as_deref() {
        Ok([HttpRange { start, length: length @ 1.. }]) => format!("bytes={start}-{}", start + length - 1),
        Ok([_]) | Err(_) => beyond(size),
        Ok(_) => return None,
    };
    HeaderValue::try_from(part).ok()
}

/// A range that no file of the size satisfies, also when it is empty.
fn beyond(size: u64) -> String {
    format!("bytes={}-", size + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(asked: &str) -> Option<String> {
        let part = of(&HeaderValue::from_str(asked).unwrap(), 16)?;
        Some(part.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_valid_range_is_cut_to_the_file() {
        for (asked, part) in [
            ("bytes=0-0", "bytes=0-0"),
            ("bytes=4-7", "bytes=4-7"),
            ("bytes=8-", "bytes=8-15"),
            ("bytes=8-999", "bytes=8-15"),
            ("bytes=-4", "bytes=12-15"),
            ("bytes=-16", "bytes=0-15"),
            ("bytes=-999", "bytes=0-15"),
        ] {
            assert_eq!(seen(asked).as_deref(), Some(part), "{asked}");
        }
    }

    #[test]
    fn only_a_valid_range_beyond_the_file_is_unsatisfiable() {
        for asked in ["bytes=16-", "bytes=99-100", "bytes=-0", "bytes=99-,200-300"] {
            assert_eq!(seen(asked).as_deref(), Some("bytes=17-"), "{asked}");
        }
    }

    #[test]
    fn what_is_malformed_of_another_unit_or_many_is_ignored() {
        for asked in [
            "items=0-5",
            "bytes=5-2",
            "bytes=99-5",
            "bytes=99-x",
            "bytes=a-b",
            "bytes=",
            "bytes",
            "",
            "bytes=-",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=0-0,10-12",
            "bytes=0-0,x",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(seen(asked), None, "{asked}");
        }
    }
}
