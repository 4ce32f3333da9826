//! `WEBRTC_*`: where media arrive, and how much one person may send.

use std::net::IpAddr;

use sfu::{Limits, MAX_SESSIONS};
use shared::env::{Env, EnvError};

/// The first UDP port of media unless `WEBRTC_UDP_PORT` says otherwise: not in the system's ephemeral range.
const UDP_PORT: u16 = 10_000;
/// The most media threads: more than any machine has cores that one process should take.
const THREADS_MAX: usize = 64;

/// How much rooms that have begun may grow: from calls of two, with which a thread is busy enough at [`MAX_SESSIONS`], to calls of five
/// or six, in which somebody receives five times as much.
const GROWTH: usize = 5;
/// Sessions of one thread beyond which no room begins by default.
const SESSIONS_PER_THREAD: usize = MAX_SESSIONS / GROWTH;
/// The most that `WEBRTC_MAX_SESSIONS` may say: at 300 KB each more than any machine's memory holds.
const SESSIONS_MAX: usize = 1_000_000;

/// What the driver reads.
#[derive(Debug, Clone)]
pub struct MediaSettings {
    /// `WEBRTC_UDP_PORT`: of the first thread, for UDP and TCP; the others take the following ones. 0: any that are free.
    pub udp_port: u16,
    /// `WEBRTC_PUBLIC_IP`: what people are told instead of our own addresses.
    pub public_ips: Vec<IpAddr>,
    /// `WEBRTC_THREADS`: how many threads carry media.
    pub threads: usize,
    /// `WEBRTC_MAX_SESSIONS`: with so many sessions no further room begins. Rooms that run go on, and take in whom they may.
    pub max_sessions: usize,
    /// Whether this machine alone may reach us, and is told so.
    pub loopback: Loopback,
    /// How much one person may send.
    pub limits: Limits,
}

/// Whether loopback addresses are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// They are: `PUBLIC_URL` is on this machine.
    Offered,
    /// They are not.
    Hidden,
}

impl MediaSettings {
    /// Reads them.
    ///
    /// # Errors
    /// The first variable that is wrong.
    pub fn from_env(env: &Env, loopback: Loopback) -> Result<Self, EnvError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let threads = env.parsed("WEBRTC_THREADS", cores, "a number of threads from 1 to 64")?;
        if !(1..=THREADS_MAX).contains(&threads) {
            return Err(EnvError::wants("WEBRTC_THREADS", "a number of threads from 1 to 64"));
        }
        let udp_port = env.parsed("WEBRTC_UDP_PORT", UDP_PORT, "a port number")?;
        if udp_port != 0 && usize::from(udp_port) + threads > usize::from(u16::MAX) {
            return Err(EnvError::wants(
                "WEBRTC_UDP_PORT",
                "a port number with room for one port per thread above it",
            ));
        }
        let wants = "a number of sessions from 1 to 1000000";
        let max_sessions = env.parsed("WEBRTC_MAX_SESSIONS", threads * SESSIONS_PER_THREAD, wants)?;
        if !(1..=SESSIONS_MAX).contains(&max_sessions) {
            return Err(EnvError::wants("WEBRTC_MAX_SESSIONS", wants));
        }
        let (public_ips, limits) = (public_ips(env)?, limits(env)?);
        Ok(Self { udp_port, public_ips, threads, max_sessions, loopback, limits })
    }
}

impl MediaSettings {
    /// The most sessions of one thread: rooms that run take in whom they may up to this.
    pub(super) fn thread_sessions_max(&self) -> usize {
        (self.max_sessions.div_ceil(self.threads) * GROWTH).max(MAX_SESSIONS)
    }
}

fn public_ips(env: &Env) -> Result<Vec<IpAddr>, EnvError> {
    let wrong = || {
        EnvError::wants(
            "WEBRTC_PUBLIC_IP",
            "the addresses that clients reach, as 203.0.113.7 or 203.0.113.7,2001:db8::7",
        )
    };
    let ip = |raw: String| raw.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified()).ok_or_else(wrong);
    env.list("WEBRTC_PUBLIC_IP")?.into_iter().map(ip).collect()
}

fn limits(env: &Env) -> Result<Limits, EnvError> {
    let Limits { audio_bps, video_bps } = Limits::default();
    let wants = "bits per second, 8000 or more";
    let bps = |name, default| {
        let bps = env.parsed(name, default, wants)?;
        if bps < 8_000 { Err(EnvError::wants(name, wants)) } else { Ok(bps) }
    };
    Ok(Limits {
        audio_bps: bps("WEBRTC_MAX_AUDIO_BITRATE", audio_bps)?,
        video_bps: bps("WEBRTC_MAX_VIDEO_BITRATE", video_bps)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<MediaSettings, String> {
        let env = Env::from_pairs(pairs.iter().copied());
        MediaSettings::from_env(&env, Loopback::Hidden).map_err(|error| error.to_string())
    }

    #[test]
    fn wrong_values_name_their_variable() {
        for (name, value) in [
            ("WEBRTC_UDP_PORT", "65535"),
            ("WEBRTC_UDP_PORT", "x"),
            ("WEBRTC_PUBLIC_IP", "example.org"),
            ("WEBRTC_PUBLIC_IP", "0.0.0.0"),
            ("WEBRTC_THREADS", "0"),
            ("WEBRTC_MAX_VIDEO_BITRATE", "1"),
            ("WEBRTC_MAX_SESSIONS", "0"),
            ("WEBRTC_MAX_SESSIONS", "18446744073709551615"),
        ] {
            assert!(read(&[(name, value)]).unwrap_err().starts_with(name), "{name}");
        }
    }

    #[test]
    fn more_threads_carry_more_sessions() {
        assert_eq!(read(&[("WEBRTC_THREADS", "3")]).unwrap().max_sessions, 300);
        let said = [("WEBRTC_THREADS", "3"), ("WEBRTC_MAX_SESSIONS", "7")];
        assert_eq!(read(&said).unwrap().max_sessions, 7);
    }

    #[test]
    fn a_thread_has_room_for_what_is_asked_of_all() {
        let most = |pairs: &[_]| read(pairs).unwrap().thread_sessions_max();
        assert_eq!(most(&[("WEBRTC_THREADS", "3")]), MAX_SESSIONS);
        assert_eq!(most(&[("WEBRTC_THREADS", "3"), ("WEBRTC_MAX_SESSIONS", "7")]), MAX_SESSIONS);
        // The last tenth of a thread is for rooms that run.
        assert!(most(&[("WEBRTC_THREADS", "2"), ("WEBRTC_MAX_SESSIONS", "6000")]) * 9 / 10 >= 3_000);
    }

    #[test]
    fn several_public_addresses_are_taken() {
        let settings = read(&[("WEBRTC_PUBLIC_IP", "203.0.113.7, 2001:db8::7")]).unwrap();
        assert_eq!(settings.public_ips.len(), 2);
    }
}
