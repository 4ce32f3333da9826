//! How S3, or what speaks as S3 does, is reached.

use serde::Deserialize;

use super::names::Names;
use super::{one_of, server};
use crate::env::{Env, EnvError, Secret};

/// What a credentials variable wants for S3.
const KEYS: &str = r#"JSON: {"accessKeyId": "…", "secretAccessKey": "…"}"#;

/// How S3 is reached.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// `RECORDING_S3_BUCKET` or `RECORDING_STORAGE_BUCKET`.
    pub bucket: String,
    /// `RECORDING_S3_REGION` or `RECORDING_STORAGE_REGION`; else whatever the environment, profile or machine says, and
    /// `us-east-1` at an endpoint of one's own.
    pub region: Option<String>,
    /// The variable to tell the region by.
    pub region_variable: &'static str,
    /// `RECORDING_S3_ENDPOINT`, for anything but AWS itself.
    pub endpoint: Option<String>,
    /// `RECORDING_S3_PATH_STYLE`: the bucket's name in the path and not in the host. Default: at an endpoint of one's own.
    pub path_style: bool,
    /// Keys; else the SDK's chain: environment, profile, web identity, container, machine.
    pub keys: Option<S3Keys>,
    /// `RECORDING_S3_CHECKSUM`: whether objects carry a CRC-64/NVME (`crc64nvme`), or nothing that the vendor does not ask for
    /// (`when-required`); then each object is read back.
    pub checksums: bool,
    /// `RECORDING_S3_SSE`, `RECORDING_S3_SSE_KMS_KEY_ID`.
    pub encryption: S3Encryption,
    /// `RECORDING_S3_STORAGE_CLASS`.
    pub storage_class: Option<String>,
}

/// Keys that do not change.
#[derive(Debug, Clone)]
pub struct S3Keys {
    /// Its public part.
    pub access_key_id: String,
    /// Its secret part.
    pub secret_access_key: Secret,
    /// Comes with keys that end.
    pub session_token: Option<Secret>,
}

/// How objects are encrypted where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Encryption {
    /// As the bucket says.
    Bucket,
    /// `AES256`: with keys of the provider's.
    Aes256,
    /// `aws:kms`: with a key of KMS; `None` is the account's default.
    Kms(Option<String>),
}

impl S3Settings {
    pub(super) fn named(env: &Env, names: &Names) -> Result<Self, EnvError> {
        let own = &names.s3;
        let bucket = one_of(env, own.bucket, names.bucket)?;
        let bucket = bucket.ok_or_else(|| EnvError::missing(own.bucket, "the name of a bucket"))?;
        Self::of_bucket(env, names, bucket)
    }

    pub(super) fn of_bucket(env: &Env, names: &Names, bucket: &str) -> Result<Self, EnvError> {
        let own = &names.s3;
        let endpoint = endpoint(env, names)?;
        Ok(Self {
            bucket: bucket.to_owned(),
            region: one_of(env, own.region, names.region)?.map(str::to_owned),
            region_variable: own.region,
            path_style: match env.optional(own.path_style)? {
                Some(_) => env.flag(own.path_style)?,
                None => endpoint.is_some(),
            },
            endpoint,
            keys: keys(env, names)?,
            checksums: match env.optional(own.checksum)?.unwrap_or("crc64nvme") {
                "crc64nvme" => true,
                "when-required" => false,
                _ => return Err(EnvError::wants(own.checksum, "crc64nvme or when-required")),
            },
            encryption: encryption(env, names)?,
            storage_class: env.optional(own.storage_class)?.map(str::to_owned),
        })
    }
}

fn endpoint(env: &Env, names: &Names) -> Result<Option<String>, EnvError> {
    // The SDK knows the last two too; they are read here as they decide about the path's style.
    for name in [names.s3.endpoint, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] {
        let Some(url) = env.optional(name)? else { continue };
        return server(name, url).map(Some);
    }
    Ok(None)
}

fn keys(env: &Env, names: &Names) -> Result<Option<S3Keys>, EnvError> {
    let own = &names.s3;
    let json = env.optional(names.credentials)?;
    match (env.optional(own.access_key_id)?, env.secret(own.secret_access_key)?, json) {
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => Err(EnvError::wants(
            names.credentials,
            &format!("to be unset where {} is set", own.access_key_id),
        )),
        (Some(id), Some(secret), None) => Ok(Some(S3Keys {
            access_key_id: id.to_owned(),
            secret_access_key: secret,
            session_token: env.secret(own.session_token)?,
        })),
        (Some(_), None, None) => {
            Err(EnvError::missing(own.secret_access_key, "the secret of the access key"))
        }
        (None, Some(_), None) => Err(EnvError::missing(own.access_key_id, "the id of the secret access key")),
        (None, None, Some(json)) => {
            parse(json).map(Some).ok_or_else(|| EnvError::wants(names.credentials, KEYS))
        }
        (None, None, None) => Ok(None),
    }
}

/// Keys in JSON, as our contract or as AWS' own tools spell them.
#[derive(Deserialize)]
struct KeysJson {
    #[serde(
        alias = "AccessKeyId",
        alias = "access_key_id",
        alias = "aws_access_key_id",
        rename = "accessKeyId"
    )]
    id: String,
    #[serde(
        alias = "SecretAccessKey",
        alias = "secret_access_key",
        alias = "aws_secret_access_key",
        rename = "secretAccessKey"
    )]
    secret: String,
    #[serde(
        alias = "SessionToken",
        alias = "session_token",
        alias = "aws_session_token",
        rename = "sessionToken"
    )]
    token: Option<String>,
}

fn parse(json: &str) -> Option<S3Keys> {
    let keys: KeysJson = serde_json::from_str(json).ok()?;
    let complete = !keys.id.is_empty() && !keys.secret.is_empty();
    complete.then(|| S3Keys {
        access_key_id: keys.id,
        secret_access_key: Secret::new(keys.secret),
        session_token: keys.token.map(Secret::new),
    })
}

/// Whether a credentials variable holds keys for S3.
pub(super) fn are_keys(json: &str) -> bool {
    parse(json).is_some()
}

fn encryption(env: &Env, names: &Names) -> Result<S3Encryption, EnvError> {
    let key = env.optional(names.s3.sse_kms_key_id)?.map(str::to_owned);
    match (env.optional(names.s3.sse)?, key) {
        (None, None) => Ok(S3Encryption::Bucket),
        (Some("AES256"), None) => Ok(S3Encryption::Aes256),
        (Some("aws:kms"), key) => Ok(S3Encryption::Kms(key)),
        (None | Some("AES256"), Some(_)) => {
            Err(EnvError::wants(names.s3.sse, &format!("aws:kms, as {} is set", names.s3.sse_kms_key_id)))
        }
        (Some(_), _) => Err(EnvError::wants(names.s3.sse, "AES256 or aws:kms")),
    }
}
