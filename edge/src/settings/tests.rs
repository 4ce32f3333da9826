use super::*;

fn env(extra: &[(&str, &str)]) -> Env {
    let base =
        [("DATABASE_URL", "postgres://localhost/x"), ("JWT_SECRET", "hunter2-hunter2-hunter2-hunter2-")];
    Env::from_pairs(base.into_iter().chain(extra.iter().copied()))
}

fn wrong(extra: &[(&str, &str)]) -> String {
    Settings::from_env(&env(extra)).unwrap_err().to_string()
}

#[test]
fn a_wrong_value_is_named_and_never_shown() {
    for (name, value) in [
        ("PORT", "hunter2"),
        ("PUBLIC_URL", "ftp://hunter2"),
        ("JWT_PUBLIC_KEY", "hunter2"),
        ("JWT_JWKS_URL", "hunter2"),
        ("ALLOWED_ORIGINS", "https://hunter2/path"),
        ("ALLOWED_ORIGINS", "*"),
        ("RATE_LIMIT_PER_MINUTE", "hunter2"),
        ("MAX_PARTICIPANTS_PER_ROOM", "0"),
        ("DATABASE_MAX_CONNECTIONS", "0"),
        ("DATABASE_MAX_CONNECTIONS", "99999999"),
        ("DATABASE_URL", "postgres://u@h:hunter2/x"),
        ("RECORDING_MAX_DURATION", "0"),
        ("RECORDING_MAX_DURATION", "13d"),
        ("RECORDING_RETENTION_DAYS", "99999999"),
        ("RUST_LOG", "hunter2"),
        ("DISK_RESERVE", "hunter2"),
        ("TRUST_PROXY", "hunter2"),
        ("SHUTDOWN_GRACE", "hunter2"),
        ("VIDEO_BITRATE", "0"),
        ("AUDIO_BITRATE", "1"),
    ] {
        let line = wrong(&[(name, value)]);
        assert!(line.starts_with(name) && !line.contains("hunter2") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn a_format_and_a_codec_that_cannot_go_together_are_both_named() {
    let line = wrong(&[("RECORDING_FORMAT", "webm"), ("RECORDING_VIDEO_CODEC", "h264")]);
    assert!(line.contains("RECORDING_FORMAT") && line.contains("RECORDING_VIDEO_CODEC"), "{line}");
}

#[test]
fn some_way_to_check_tokens_is_needed() {
    let env = Env::from_pairs([("DATABASE_URL", "postgres://localhost/x")]);
    assert!(Settings::from_env(&env).unwrap_err().to_string().starts_with("JWT_SECRET is not set"));
}

#[test]
fn the_development_login_is_for_loopback_alone() {
    assert!(
        wrong(&[("DEV_LOGIN", "1"), ("PUBLIC_URL", "https://calls.example.org")]).starts_with("DEV_LOGIN")
    );
    assert!(
        wrong(&[("DEV_LOGIN", "1"), ("PUBLIC_URL", "http://localhost.example.org")]).starts_with("DEV_LOGIN")
    );
    for url in ["http://127.0.0.1:8080", "http://localhost:8080/", "http://[::1]:8080"] {
        let settings = Settings::from_env(&env(&[("DEV_LOGIN", "1"), ("PUBLIC_URL", url)])).unwrap();
        assert_eq!(settings.dev_login, DevLogin::On, "{url}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let settings = Settings::from_env(&env(&[])).unwrap();
    let shown = format!("{settings:?}");
    assert!(settings.secrets().iter().all(|secret| !shown.contains(secret.expose())));
}

#[test]
fn zero_turns_a_rate_limit_off() {
    let settings = Settings::from_env(&env(&[("RATE_LIMIT_PER_MINUTE", "0")])).unwrap();
    assert_eq!(settings.rates.per_minute, None);
    assert_eq!(settings.rates.chunks_per_second, NonZeroU32::new(RATE_CHUNKS_PER_SECOND));
}
