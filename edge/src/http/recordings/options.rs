//! Recording options as a caller sends them. All that is wrong with them is 422 with the reason; that they are JSON at all was
//! seen before.

use serde_json::Value;
use shared::recording::RecordingOptions;

use crate::error::{ApiError, Code};

/// Reads and checks options.
pub(in crate::http) fn parse(raw: Value) -> Result<RecordingOptions, ApiError> {
    let raw = if raw.is_null() { Value::Object(serde_json::Map::new()) } else { raw };
    if !raw.is_object() {
        return Err(invalid("options are an object".to_owned()));
    }
    if raw.to_string().contains("\\u0000") {
        return Err(invalid("options hold no U+0000".to_owned()));
    }
    let options: RecordingOptions =
        serde_json::from_value(raw).map_err(|error| invalid(error.to_string()))?;
    options.validate()?;
    Ok(options)
}

fn invalid(reason: String) -> ApiError {
    ApiError::new(Code::InvalidOptions, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_told() {
        for (raw, reason) in [
            (json!({ "format": "webm", "videoCodec": "h264" }), "does not hold"),
            (json!({ "format": "avi" }), "avi"),
            (json!({ "bitrate": 1 }), "bitrate"),
            (json!({ "thumbnails": -1 }), "-1"),
            (json!([]), "object"),
            (json!({ "metadata": { "a": "\u{0}" } }), "U+0000"),
        ] {
            let error = parse(raw.clone()).unwrap_err();
            assert_eq!(error.code(), Code::InvalidOptions);
            assert!(error.detail().contains(reason), "{raw}: {}", error.detail());
        }
    }

    #[test]
    fn nothing_is_fine() {
        assert_eq!(parse(Value::Null).unwrap(), RecordingOptions::default());
    }
}
