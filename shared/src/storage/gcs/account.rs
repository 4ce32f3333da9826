//! Who we are to Google: a key, or what the platform says.

use google_cloud_auth::credentials::{
    Builder as Platform, Credentials, anonymous, external_account, impersonated, service_account,
    user_account,
};
use google_cloud_auth::signer::Signer;
use serde_json::Value;

use crate::env::EnvError;
use crate::storage::settings::GCS_KEY;
use crate::storage::{GcsCredentials, GcsSettings};

/// Who makes requests, and who signs URLs.
pub(super) struct Account {
    pub(super) credentials: Credentials,
    /// Only a service account's key signs without asking Google for each URL, for which an account needs a right of its own.
    pub(super) signer: Option<Signer>,
}

/// The same call on builders that have no trait in common.
macro_rules! billed_to {
    ($project:expr, $builder:expr) => {
        match $project {
            Some(project) => $builder.with_quota_project_id(project),
            None => $builder,
        }
    };
}

/// Reads the key, when there is one.
pub(super) fn of(settings: &GcsSettings) -> anyhow::Result<Account> {
    let project = settings.project_id.as_deref();
    match &settings.credentials {
        GcsCredentials::Json { variable, key } => Ok(of_key(variable, key.expose(), project)?),
        GcsCredentials::KeyFile { variable, path } => {
            let key = std::fs::read_to_string(path)
                .map_err(|error| EnvError::wants(variable, &format!("a file that can be read: {error}")))?;
            Ok(of_key(variable, &key, project)?)
        }
        // A token would go over the line for everybody to read.
        GcsCredentials::Platform
            if settings.endpoint.as_ref().is_some_and(|url| url.starts_with("http://")) =>
        {
            Ok(Account { credentials: anonymous::Builder::new().build(), signer: None })
        }
        GcsCredentials::Platform => {
            Ok(Account { credentials: billed_to!(project, Platform::default()).build()?, signer: None })
        }
    }
}

fn of_key(variable: &str, key: &str, project: Option<&str>) -> Result<Account, EnvError> {
    // No word of what is wrong with it: it could show the key.
    let wrong = || EnvError::wants(variable, GCS_KEY);
    let key: Value = serde_json::from_str(key).map_err(|_| wrong())?;
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let project = project.filter(|project| text("project_id") != Some(project)).map(str::to_owned);
    let (credentials, signer) = match text("type").ok_or_else(wrong)? {
        "service_account" => {
            let account = || service_account::Builder::new(key.clone());
            let signer = account().build_signer().map_err(|_| wrong())?;
            (billed_to!(project, account()).build(), Some(signer))
        }
        "authorized_user" => (billed_to!(project, user_account::Builder::new(key)).build(), None),
        "impersonated_service_account" => {
            (billed_to!(project, impersonated::Builder::new(key)).build(), None)
        }
        "external_account" => (billed_to!(project, external_account::Builder::new(key)).build(), None),
        _ => return Err(wrong()),
    };
    Ok(Account { credentials: credentials.map_err(|_| wrong())?, signer })
}
