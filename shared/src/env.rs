//! The environment, read once and parsed before a port opens. Every error names the variable and what it wants; no error
//! and no `Debug` ever shows a value, as it may be a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// A setting that is missing or wrong: one line, naming the variable and what it wants.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{variable} {wants}")]
pub struct EnvError {
    variable: String,
    wants: String,
}

impl EnvError {
    /// The variable holds something else than `what`.
    #[must_use]
    pub fn wants(variable: &str, what: &str) -> Self {
        Self { variable: variable.to_owned(), wants: format!("wants {what}") }
    }

    /// The variable is not set, and `what` is needed.
    #[must_use]
    pub fn missing(variable: &str, what: &str) -> Self {
        Self { variable: variable.to_owned(), wants: format!("is not set; it wants {what}") }
    }
}

/// A value that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself: only for the code that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The variables of a process. An empty value counts as not set, as platforms' dashboards leave such behind.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Env {
    /// The environment of this process.
    #[must_use]
    pub fn from_process() -> Self {
        Self::from_pairs(std::env::vars())
    }

    /// An environment made of pairs, for tests.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self(pairs.filter(|(_, value): &(String, String)| !value.trim().is_empty()).collect())
    }

    /// The variable's value, when set and not empty.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim())
    }

    /// The variable's value; `what` tells the operator what belongs there.
    ///
    /// # Errors
    /// When it is not set.
    pub fn required(&self, name: &str, what: &str) -> Result<&str, EnvError> {
        self.optional(name).ok_or_else(|| EnvError::missing(name, what))
    }

    /// The variable as a secret, when set.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.optional(name).map(|value| Secret(value.to_owned()))
    }

    /// The variable parsed, or the default when it is not set.
    ///
    /// # Errors
    /// When it is set to something else than `what`.
    pub fn parsed<T: FromStr>(&self, name: &str, default: T, what: &str) -> Result<T, EnvError> {
        match self.optional(name) {
            None => Ok(default),
            Some(raw) => raw.parse().map_err(|_| EnvError::wants(name, what)),
        }
    }

    /// `1`, `true`, `yes`, `on` or `0`, `false`, `no`, `off`; not set means off.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn flag(&self, name: &str) -> Result<bool, EnvError> {
        match self.optional(name).unwrap_or("0") {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err(EnvError::wants(name, "1 or 0")),
        }
    }

    /// A span of time: a plain number of seconds, or `500ms`, `15s`, `30m`, `24h`, `7d`.
    ///
    /// # Errors
    /// When it is set to anything else.
    pub fn duration(&self, name: &str, default: Duration) -> Result<Duration, EnvError> {
        let Some(raw) = self.optional(name) else { return Ok(default) };
        if let Ok(seconds) = raw.parse() {
            return Ok(Duration::from_secs(seconds));
        }
        humantime::parse_duration(raw)
            .map_err(|_| EnvError::wants(name, "a duration such as 15s, 30m, 24h or 7d"))
    }

    /// A size in bytes: a plain number, or `512KiB`, `10MiB`, `1GiB`.
    ///
    /// # Errors
    /// When it is set to anything else.
    pub fn bytes(&self, name: &str, default: u64) -> Result<u64, EnvError> {
        match self.optional(name) {
            None => Ok(default),
            Some(raw) => {
                parse_bytes(raw).ok_or_else(|| EnvError::wants(name, "a size such as 10MiB or 1GiB"))
            }
        }
    }

    /// A comma-separated list; not set means empty.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        let items = self.optional(name).unwrap_or_default().split(',').map(str::trim);
        items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

fn parse_bytes(raw: &str) -> Option<u64> {
    let digits = raw.find(|c: char| !c.is_ascii_digit()).unwrap_or(raw.len());
    let (number, unit) = raw.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_names_its_variable_and_never_the_value() {
        let env = Env::from_pairs([("PORT", "hunter2")]);
        let error = env.parsed("PORT", 8080_u16, "a port number").unwrap_err();
        assert_eq!(error.to_string(), "PORT wants a port number");
        assert!(!format!("{env:?}").contains("hunter2"));
    }

    #[test]
    fn an_empty_value_counts_as_not_set() {
        let env = Env::from_pairs([("PORT", "  ")]);
        assert_eq!(env.parsed("PORT", 8080_u16, "a port number"), Ok(8080));
        assert_eq!(
            env.required("DATABASE_URL", "a postgres:// URL").unwrap_err().to_string(),
            "DATABASE_URL is not set; it wants a postgres:// URL"
        );
    }

    #[test]
    fn sizes_and_durations_take_units() {
        let env = Env::from_pairs([("A", "10MiB"), ("B", "90"), ("C", "24h"), ("D", "3 parsecs")]);
        assert_eq!(env.bytes("A", 0), Ok(10 << 20));
        assert_eq!(env.duration("B", Duration::ZERO), Ok(Duration::from_secs(90)));
        assert_eq!(env.duration("C", Duration::ZERO), Ok(Duration::from_secs(86_400)));
        assert!(env.duration("D", Duration::ZERO).is_err());
        assert!(env.bytes("D", 0).is_err());
    }

    #[test]
    fn a_secret_is_not_printed() {
        let env = Env::from_pairs([("JWT_SECRET", "hunter2")]);
        assert_eq!(format!("{:?}", env.secret("JWT_SECRET")), "Some([secret])");
    }
}
