//! The SDK's client, told to be patient.
//!
//! A part of 16 MiB takes hours over an uplink that gives each of four parts a kilobyte per second, and the kernel's buffers let it
//! look as if nothing moved for minutes. So no throughput is asked for; instead each attempt at a part has a time that
//! fits its size ([`attempt_max`]), and every other call [`CALL_MAX`]. One that stands still ends long before ([`watched`]).

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};

use super::watched;
use crate::env::EnvError;
use crate::storage::patience::{CALL_MAX, CONNECT_MAX, DOWNLOAD_STALL_MAX, PAUSE_MAX, Patience, attempt_max};
use crate::storage::{S3Keys, S3Settings};

/// The settings of a call that sends `bytes`.
pub(super) fn patient(bytes: u64) -> Builder {
    Builder::new().timeout_config(timeouts(attempt_max(bytes)))
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_MAX).operation_attempt_timeout(attempt).build()
}

pub(super) async fn open(settings: &S3Settings, patience: Patience) -> Result<Client, EnvError> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(keys) = &settings.keys {
        loader = loader.credentials_provider(credentials(keys));
    }
    let environment = loader.load().await;
    let region = match (environment.region(), &settings.endpoint) {
        (Some(region), _) => region.clone(),
        // Servers of one's own mostly know no regions; the signature needs some name.
        (None, Some(_)) => Region::new("us-east-1"),
        (None, None) => {
            return Err(EnvError::missing(
                settings.region_variable,
                "the bucket's region, such as eu-central-1",
            ));
        }
    };
    let (request, response) = if settings.checksums {
        (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
    } else {
        (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired)
    };
    let stalls =
        StalledStreamProtectionConfig::enabled().upload_enabled(false).grace_period(DOWNLOAD_STALL_MAX);
    let mut config = Builder::from(&environment)
        .region(region)
        .force_path_style(settings.path_style)
        .request_checksum_calculation(request)
        .response_checksum_validation(response)
        .retry_config(
            RetryConfig::standard().with_max_attempts(patience.attempts).with_max_backoff(PAUSE_MAX),
        )
        .http_client(watched::client(patience))
        .timeout_config(timeouts(CALL_MAX))
        .stalled_stream_protection(stalls.build());
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(config.build()))
}

fn credentials(keys: &S3Keys) -> Credentials {
    let token = keys.session_token.as_ref().map(|token| token.expose().to_owned());
    Credentials::new(&keys.access_key_id, keys.secret_access_key.expose(), token, None, "settings")
}
