//! Whether this machine's clock agrees with the database's and with storage's.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::{Clock, SystemClock, Timestamp};
use sqlx::Connection;

use super::{Finding, Trouble, database};
use crate::settings::Settings;

/// Deadlines are compared on both machines to the second; S3 refuses a signature that is 15 minutes off.
const OFF_MAX: TimeDelta = TimeDelta::seconds(30);
/// For a server's first answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(super) async fn is_right(settings: &Settings) -> Finding {
    let mut found = vec![compare("the database's", database_off(settings).await?)?];
    if let Some(server) = settings.shared.storage.server_url()
        && let Some(there) = ask(&server).await?
    {
        found.push(compare("storage's", SystemClock.now() - there)?);
    }
    Ok(found.join(", "))
}

async fn database_off(settings: &Settings) -> Result<TimeDelta, Trouble> {
    let mut connection = database::connect(settings).await?;
    let there = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut connection).await;
    let here = SystemClock.now();
    let _ = connection.close().await;
    let there: Timestamp =
        there.map_err(|error| Trouble::new(error.to_string(), "look into PostgreSQL's log"))?;
    Ok(here - there)
}

fn compare(whose: &str, off: TimeDelta) -> Finding {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let seconds = off.num_milliseconds() as f64 / 1_000.0;
    let line = format!("{seconds:+.1} s against {whose} clock");
    if off.abs() <= OFF_MAX {
        return Ok(line);
    }
    Err(Trouble::new(line, "let both machines keep time by NTP (chrony, systemd-timesyncd)"))
}

/// The time on a server, to the second; `None` when it does not say. Whatever it answers besides does not matter.
pub(super) async fn ask(url: &str) -> Result<Option<Timestamp>, Trouble> {
    let answer =
        async { reqwest::Client::builder().timeout(ANSWER_MAX).build()?.get(url).send().await }.await;
    let answer = answer.map_err(|error| {
        let cure = "check the endpoint's name, the network, the proxy and the firewall";
        Trouble::new(format!("{url} cannot be reached: {:#}", anyhow::Error::new(error.without_url())), cure)
    })?;
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
    Ok(date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.with_timezone(&Utc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_minute_is_too_much() {
        assert_eq!(compare("its", TimeDelta::milliseconds(-1_300)).unwrap(), "-1.3 s against its clock");
        assert!(
            compare("its", TimeDelta::seconds(31)).is_err()
                && compare("its", TimeDelta::seconds(-31)).is_err()
        );
    }
}
