//! Logs: one line per event, readable text or JSON, chosen by `LOG_FORMAT`; levels by `RUST_LOG`. Metrics: one registry
//! per process, named `callreel_…` after the conventions of Prometheus, with labels of small, fixed sets only.

use std::io::IsTerminal;

use prometheus::{Encoder, Registry, TextEncoder};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::env::{Env, EnvError};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// `LOG_FORMAT` (`text`, `json`) and `RUST_LOG`.
#[derive(Debug, Clone)]
pub struct LogSettings {
    format: LogFormat,
    filter: String,
}

impl LogSettings {
    /// Reads the settings of logging.
    ///
    /// # Errors
    /// When `LOG_FORMAT` is neither of its two values or `RUST_LOG` is no filter.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        let format = match env.optional("LOG_FORMAT")?.unwrap_or("text") {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err(EnvError::wants("LOG_FORMAT", "text or json")),
        };
        let filter = env.optional("RUST_LOG")?.unwrap_or("info,sqlx=warn").to_owned();
        let known = EnvFilter::try_new(&filter).is_ok() && filter.split(',').all(has_a_level);
        if !known {
            return Err(EnvError::wants("RUST_LOG", "a filter such as info or edge=debug"));
        }
        Ok(Self { format, filter })
    }
}

/// The library takes a word that is no level for a module of which everything is logged: a mistyped level would silence the
/// rest.
fn has_a_level(directive: &str) -> bool {
    directive.contains(['=', '[', ']']) || directive.trim().parse::<LevelFilter>().is_ok()
}

/// Starts logging to standard output. A second call in one process changes nothing.
pub fn init(settings: &LogSettings) {
    let filter = EnvFilter::new(&settings.filter);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(std::io::stdout().is_terminal());
    let _ = match settings.format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => {
            logs.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
    };
}

/// The content type of [`render`]'s text.
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A registry's metrics in Prometheus' text format.
#[must_use]
pub fn render(registry: &Registry) -> String {
    let mut out = Vec::new();
    // Encoding into memory fails only for a family without a name, which the registry refuses to hold.
    let _ = TextEncoder::new().encode(&registry.gather(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_says_levels() {
        let read = |filter| LogSettings::from_env(&Env::from_pairs([("RUST_LOG", filter)]));
        for good in
            ["", "info", "WARN", "off", "info,sqlx=warn", "edge::http=debug", "[request{user.id=ann}]=debug"]
        {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in ["nolevel", "info,nolevel", "edge=nolevel", "infoo", "="] {
            assert!(read(bad).unwrap_err().to_string().starts_with("RUST_LOG wants"), "{bad}");
        }
    }
}
