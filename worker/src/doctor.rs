//! `worker doctor`: whether what the worker needs is there and works, one line per check, with the cure where it does not.
//!
//! It changes nothing, but for one small object that it puts into storage, and one into a spool that is a bucket, and deletes
//! again; and an upload in each that it begins and gives up.

use std::io::Write;
use std::time::Duration;

use shared::env::Env;

use crate::settings::Settings;

mod backup;
mod clock;
mod database;
mod disk;
mod ffmpeg;
mod storage;

/// For one check: a database or bucket across the world answers in less, and a person waits for it.
const CHECK_MAX: Duration = Duration::from_secs(30);

/// What is wrong, and what cures it.
#[derive(Debug)]
struct Trouble {
    what: String,
    cure: String,
}

impl Trouble {
    fn new(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { what: what.into(), cure: cure.into() }
    }
}

/// What a check found: what is there, or what is wrong.
type Finding = Result<String, Trouble>;

/// Whether all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Every check passed.
    Well,
    /// At least one failed.
    Ill,
}

/// Checks everything and writes a line for each check.
///
/// # Errors
/// When a line cannot be written.
pub async fn examine(env: &Env, out: &mut impl Write) -> std::io::Result<Health> {
    let settings = match Settings::from_env(env) {
        Ok(settings) => settings,
        Err(wrong) => {
            let cure = "set it in the environment; deploy/env.example explains every setting";
            return tell(out, "settings", &Err(Trouble::new(wrong.to_string(), cure)));
        }
    };
    let findings = [
        tell(out, "settings", &Ok("every variable has its form".to_owned()))?,
        tell(out, "database", &within(CHECK_MAX, database::answers(&settings)).await)?,
        tell(out, "migrations", &within(CHECK_MAX, database::is_migrated(&settings)).await)?,
        tell(out, "ffmpeg", &within(CHECK_MAX, ffmpeg::is_complete()).await)?,
        tell(out, "storage", &storage::works(&settings.shared.storage, &settings).await)?,
        tell(out, "spool", &storage::spool_works(&settings).await)?,
        backup(out, &settings).await?,
        tell(out, "disk", &disk::has_room(&settings))?,
        tell(out, "clock", &within(CHECK_MAX, clock::is_right(&settings)).await)?,
    ];
    Ok(if findings.contains(&Health::Ill) { Health::Ill } else { Health::Well })
}

/// Its parts have their own limits of time.
async fn backup(out: &mut impl Write, settings: &Settings) -> std::io::Result<Health> {
    match backup::works(settings).await {
        Some(finding) => tell(out, "backup", &finding),
        None => Ok(Health::Well),
    }
}

async fn within<T>(limit: Duration, check: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    tokio::time::timeout(limit, check).await.unwrap_or_else(|_| {
        let what = format!("no answer within {} s", limit.as_secs());
        Err(Trouble::new(what, "check the network and the firewall between here and there"))
    })
}

fn tell(out: &mut impl Write, check: &str, finding: &Finding) -> std::io::Result<Health> {
    match finding {
        Ok(found) => writeln!(out, "ok    {check:<11} {}", one_line(found)).map(|()| Health::Well),
        Err(Trouble { what, cure }) => {
            writeln!(out, "FAIL  {check:<11} {}; cure: {cure}", one_line(what)).map(|()| Health::Ill)
        }
    }
}

/// What servers say may have several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_line_with_its_cure() {
        let mut out = Vec::new();
        assert_eq!(tell(&mut out, "disk", &Ok("12 GiB free".to_owned())).unwrap(), Health::Well);
        let ill = Err(Trouble::new("refused:\n  no such user", "create the user"));
        assert_eq!(tell(&mut out, "database", &ill).unwrap(), Health::Ill);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ok    disk        12 GiB free\nFAIL  database    refused: no such user; cure: create the user\n"
        );
    }
}
