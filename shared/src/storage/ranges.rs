//! Ranges of bytes, as answers tell them.

use std::ops::Range;

/// `bytes 0-99/1000` (RFC 9110, 14.4). Of nothing some servers answer `bytes 0-0/0`.
pub(super) fn content_range(value: &str) -> Option<Range<u64>> {
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let end = last.parse::<u64>().ok()?.checked_add(1)?;
    Some(first.parse().ok()?..whole.parse().map_or(end, |whole| end.min(whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read() {
        assert_eq!(content_range("bytes 0-99/1000"), Some(0..100));
        assert_eq!(content_range("bytes 5-5/*"), Some(5..6));
        assert_eq!(content_range("bytes 0-0/0"), Some(0..0));
        for wrong in ["bytes */1000", "items 0-9/10", "bytes 0-18446744073709551615/1", "bytes a-b/c", ""] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
