//! The environment, read once and parsed before a port opens. Every error names the variable and what it wants; no error
//! and no `Debug` ever shows a value, as it may be a secret.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::io;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// The exit code of a program whose settings are wrong: starting it again changes nothing (`EX_CONFIG` of sysexits.h).
pub const WRONG_SETTINGS: u8 = 78;

/// The longest span of time that a setting may say: a hundred years, which no clock of ours overflows.
const DURATION_MAX: Duration = Duration::from_secs(36_500 * 24 * 3600);

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

    /// A program that is needed is in none of the folders.
    #[must_use]
    pub fn not_installed(program: &str, folders: &str) -> Self {
        Self {
            variable: program.to_owned(),
            wants: format!("is not installed: there is no such program in {folders}"),
        }
    }
}

/// Why the folder that a variable names cannot be used: an [`EnvError`] when the setting is to blame, and something that may
/// pass (a full disk, a folder that another process still holds) when not.
#[must_use]
pub fn unusable_folder(variable: &str, error: io::Error) -> anyhow::Error {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound
        | Kind::PermissionDenied
        | Kind::AlreadyExists
        | Kind::NotADirectory
        | Kind::ReadOnlyFilesystem
        | Kind::InvalidInput
        | Kind::InvalidFilename => {
            EnvError::wants(variable, &format!("a folder that can be written to: {error}")).into()
        }
        _ => anyhow::Error::new(error).context(format!("the folder of {variable} cannot be used")),
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

/// The variables of a process. An empty value counts as not set, as platforms' dashboards leave such behind. What nobody
/// reads may hold anything; what is read must be UTF-8.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, OsString>);

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Env {
    /// The environment of this process.
    #[must_use]
    pub fn from_process() -> Self {
        // Ours have names in ASCII.
        let named = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        Self::from_pairs(std::env::vars_os().filter_map(named))
    }

    /// An environment made of pairs, for tests.
    pub fn from_pairs<K: Into<String>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The variable's value, when set and not empty.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn optional(&self, name: &str) -> Result<Option<&str>, EnvError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let value = value.to_str().ok_or_else(|| EnvError::wants(name, "text in UTF-8"))?.trim();
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    /// The variable's value; `what` tells the operator what belongs there.
    ///
    /// # Errors
    /// When it is not set, or not UTF-8.
    pub fn required(&self, name: &str, what: &str) -> Result<&str, EnvError> {
        self.optional(name)?.ok_or_else(|| EnvError::missing(name, what))
    }

    /// The variable as a secret, when set.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn secret(&self, name: &str) -> Result<Option<Secret>, EnvError> {
        Ok(self.optional(name)?.map(|value| Secret(value.to_owned())))
    }

    /// The variable parsed, or the default when it is not set.
    ///
    /// # Errors
    /// When it is set to something else than `what`.
    pub fn parsed<T: FromStr>(&self, name: &str, default: T, what: &str) -> Result<T, EnvError> {
        match self.optional(name)? {
            None => Ok(default),
            Some(raw) => raw.parse().map_err(|_| EnvError::wants(name, what)),
        }
    }

    /// The variable as a number within bounds, or the default when it is not set.
    ///
    /// # Errors
    /// When it is set to anything else.
    pub fn within<T: FromStr + PartialOrd + Display>(
        &self,
        name: &str,
        default: T,
        bounds: RangeInclusive<T>,
    ) -> Result<T, EnvError> {
        let what = format!("a number from {} to {}", bounds.start(), bounds.end());
        let number = self.parsed(name, default, &what)?;
        if bounds.contains(&number) { Ok(number) } else { Err(EnvError::wants(name, &what)) }
    }

    /// `1`, `true`, `yes`, `on` or `0`, `false`, `no`, `off`; not set means off.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn flag(&self, name: &str) -> Result<bool, EnvError> {
        match self.optional(name)?.unwrap_or("0") {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err(EnvError::wants(name, "1 or 0")),
        }
    }

    /// A span of time of at most a hundred years: a plain number of seconds, or `500ms`, `15s`, `30m`, `24h`, `7d`.
    ///
    /// # Errors
    /// When it is set to anything else.
    pub fn duration(&self, name: &str, default: Duration) -> Result<Duration, EnvError> {
        let Some(raw) = self.optional(name)? else { return Ok(default) };
        let seconds = raw.parse().ok().map(Duration::from_secs);
        let span = seconds.or_else(|| humantime::parse_duration(raw).ok());
        span.filter(|span| *span <= DURATION_MAX)
            .ok_or_else(|| EnvError::wants(name, "a duration such as 15s, 30m, 24h or 7d"))
    }

    /// A size in bytes: a plain number, or `512KiB`, `10MiB`, `1GiB`.
    ///
    /// # Errors
    /// When it is set to anything else.
    pub fn bytes(&self, name: &str, default: u64) -> Result<u64, EnvError> {
        match self.optional(name)? {
            None => Ok(default),
            Some(raw) => {
                parse_bytes(raw).ok_or_else(|| EnvError::wants(name, "a size such as 10MiB or 1GiB"))
            }
        }
    }

    /// A comma-separated list; not set means empty.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn list(&self, name: &str) -> Result<Vec<String>, EnvError> {
        let items = self.optional(name)?.unwrap_or_default().split(',').map(str::trim);
        Ok(items.filter(|item| !item.is_empty()).map(str::to_owned).collect())
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
        assert_eq!(format!("{:?}", env.secret("JWT_SECRET")), "Ok(Some([secret]))");
    }

    #[test]
    fn only_what_is_read_must_be_utf_8() {
        use std::os::unix::ffi::OsStringExt;
        let broken = OsString::from_vec(vec![b'a', 0xff]);
        let env = Env::from_pairs([("PORT", broken.clone()), ("OTHER", broken), ("HOST", "b".into())]);
        assert_eq!(env.optional("HOST"), Ok(Some("b")));
        let error = env.parsed("PORT", 8080_u16, "a port number").unwrap_err();
        assert_eq!(error.to_string(), "PORT wants text in UTF-8");
    }

    #[test]
    fn a_number_keeps_within_its_bounds() {
        let number = |raw| Env::from_pairs([("N", raw)]).within("N", 5_u32, 1..=9);
        assert_eq!((number(""), number("1"), number("9")), (Ok(5), Ok(1), Ok(9)));
        for bad in ["0", "10", "-1", "x", "99999999999999999999"] {
            assert_eq!(number(bad).unwrap_err().to_string(), "N wants a number from 1 to 9", "{bad}");
        }
    }

    #[test]
    fn no_duration_is_longer_than_a_clock_can_count() {
        let duration = |raw| Env::from_pairs([("D", raw)]).duration("D", Duration::ZERO);
        assert!(duration("36500d").is_ok());
        assert!(duration("36501d").is_err() && duration("18446744073709551615").is_err());
    }

    #[test]
    fn a_folder_that_can_never_be_used_is_a_wrong_setting_and_a_full_disk_is_not() {
        let of = |kind| unusable_folder("SPOOL_URL", io::Error::from(kind));
        assert!(of(io::ErrorKind::NotADirectory).is::<EnvError>());
        let full = of(io::ErrorKind::StorageFull);
        assert!(!full.is::<EnvError>() && format!("{full:#}").contains("SPOOL_URL"));
    }
}
