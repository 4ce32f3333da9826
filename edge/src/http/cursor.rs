//! Pages of lists: newest first, an opaque cursor that holds the last row's time and id.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::DateTime;
use serde::Deserialize;
use shared::clock::Timestamp;
use shared::db::After;

use crate::error::{ApiError, Code};

/// Rows of a page when the caller does not say.
const LIMIT_DEFAULT: u32 = 50;
/// The most rows of a page (API, section 1).
pub(super) const LIMIT_MAX: u32 = 200;
/// The longest cursor that is looked at: an id of 128 bytes and a time, in base64.
const CURSOR_MAX_BYTES: usize = 256;

/// Which page of a list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Rows of the page, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// A row's place in its list.
pub(super) trait Placed {
    fn place(&self) -> (Timestamp, &str);
}

impl PageQuery {
    /// How many rows.
    pub(super) fn limit(&self) -> Result<u32, ApiError> {
        match self.limit.unwrap_or(LIMIT_DEFAULT) {
            limit @ 1..=LIMIT_MAX => Ok(limit),
            _ => Err(ApiError::invalid(format!("limit is 1 to {LIMIT_MAX}"))),
        }
    }

    /// After which row.
    pub(super) fn after(&self) -> Result<Option<After>, ApiError> {
        let wrong = || ApiError::new(Code::InvalidCursor, "the cursor is none that a list gave");
        self.cursor.as_deref().map(|cursor| decode(cursor).ok_or_else(wrong)).transpose()
    }
}

/// The page out of one row more than it holds, and the cursor of the next page when there is one.
pub(super) fn page<T: Placed>(mut rows: Vec<T>, limit: u32) -> (Vec<T>, Option<String>) {
    let limit = limit as usize;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|last| encode(last.place()));
    (rows, next)
}

fn encode((at, id): (Timestamp, &str)) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}:{id}", at.timestamp_micros()))
}

fn decode(cursor: &str) -> Option<After> {
    let bytes = (cursor.len() <= CURSOR_MAX_BYTES).then(|| BASE64_URL_SAFE_NO_PAD.decode(cursor).ok())??;
    let text = String::from_utf8(bytes).ok()?;
    let (micros, id) = text.split_once(':')?;
    let clean = !id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic());
    clean.then_some(After { at: DateTime::from_timestamp_micros(micros.parse().ok()?)?, id: id.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row(Timestamp, &'static str);

    impl Placed for Row {
        fn place(&self) -> (Timestamp, &str) {
            (self.0, self.1)
        }
    }

    fn at(micros: i64) -> Timestamp {
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    #[test]
    fn a_cursor_leads_back_to_its_row() {
        let rows = vec![Row(at(1_700_000_000_123_456), "call:b"), Row(at(1), "a")];
        let (rows, next) = page(rows, 1);
        assert_eq!(rows.len(), 1);
        let after = decode(&next.unwrap()).unwrap();
        assert_eq!((after.at, after.id.as_str()), (at(1_700_000_000_123_456), "call:b"));
    }

    #[test]
    fn a_last_page_has_no_cursor() {
        assert!(page(vec![Row(at(1), "a")], 1).1.is_none());
    }

    #[test]
    fn any_other_text_is_no_cursor() {
        for text in
            ["", "!", "YQ", &BASE64_URL_SAFE_NO_PAD.encode("x:y"), &BASE64_URL_SAFE_NO_PAD.encode("1:\0")]
        {
            assert!(decode(text).is_none(), "{text}");
        }
    }
}
