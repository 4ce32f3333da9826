use super::*;

const TOKEN: &str = "vercel_blob_rw_store1_hunter2";
const GOOGLE: &str = r#"{"type": "service_account", "private_key": "hunter2"}"#;
const AWS: &str = r#"{"accessKeyId": "id", "secretAccessKey": "hunter2"}"#;

fn read(pairs: &[(&str, &str)]) -> Result<StorageSettings, String> {
    let env = Env::from_pairs(pairs.iter().copied());
    StorageSettings::from_env(&env).map_err(|error| error.to_string())
}

fn provider_of(settings: &StorageSettings) -> &'static str {
    match settings {
        StorageSettings::Local(_) => "local",
        StorageSettings::S3(_) => "s3",
        StorageSettings::Gcs(_) => "gcs",
        StorageSettings::VercelBlob(_) => "vercel-blob",
    }
}

#[test]
fn the_provider_is_named_or_found() {
    let bucket = ("RECORDING_STORAGE_BUCKET", "b");
    let named = |name| vec![("RECORDING_STORAGE_PROVIDER", name), bucket, ("BLOB_READ_WRITE_TOKEN", TOKEN)];
    for (pairs, wanted) in [
        (vec![], "local"),
        (vec![("RECORDING_OUTPUT_DIR", "/x")], "local"),
        (named("local"), "local"),
        (named("s3"), "s3"),
        (named("aws"), "s3"),
        (named("gcs"), "gcs"),
        (named("gcp"), "gcs"),
        (named("vercel-blob"), "vercel-blob"),
        (vec![("RECORDING_S3_BUCKET", "b"), ("RECORDING_OUTPUT_DIR", "/x")], "s3"),
        (vec![("RECORDING_GCS_BUCKET", "b")], "gcs"),
        (vec![("BLOB_READ_WRITE_TOKEN", TOKEN)], "vercel-blob"),
        (vec![bucket, ("RECORDING_S3_REGION", "eu-central-1")], "s3"),
        (vec![bucket, ("AWS_ACCESS_KEY_ID", "id")], "s3"),
        (vec![bucket, ("GOOGLE_APPLICATION_CREDENTIALS", "/key.json")], "gcs"),
        (vec![bucket, ("STORAGE_EMULATOR_HOST", "127.0.0.1:4443")], "gcs"),
        (vec![bucket, ("RECORDING_STORAGE_CREDENTIALS", AWS)], "s3"),
        (vec![bucket, ("RECORDING_STORAGE_CREDENTIALS", GOOGLE)], "gcs"),
        (vec![bucket, ("RECORDING_GCS_CREDENTIALS", GOOGLE)], "gcs"),
    ] {
        assert_eq!(read(&pairs).as_ref().map(provider_of), Ok(wanted), "{pairs:?}");
    }
}

#[test]
fn settings_that_do_not_fit_together_are_refused_by_name() {
    let s3 = ("RECORDING_S3_BUCKET", "b");
    let gcs = ("RECORDING_GCS_BUCKET", "b");
    for (pairs, line) in [
        (vec![("RECORDING_STORAGE_PROVIDER", "ftp")], "RECORDING_STORAGE_PROVIDER wants local, s3"),
        (vec![("RECORDING_STORAGE_PROVIDER", "s3"), gcs], "RECORDING_S3_BUCKET is not set"),
        (vec![("RECORDING_STORAGE_PROVIDER", "gcs"), s3], "RECORDING_GCS_BUCKET is not set"),
        (vec![("RECORDING_STORAGE_PROVIDER", "vercel-blob")], "BLOB_READ_WRITE_TOKEN is not set"),
        (vec![s3, gcs], "RECORDING_STORAGE_PROVIDER is not set; it wants local, s3"),
        (vec![s3, ("BLOB_READ_WRITE_TOKEN", TOKEN)], "RECORDING_STORAGE_PROVIDER is not set"),
        (
            vec![("RECORDING_STORAGE_BUCKET", "b")],
            "RECORDING_STORAGE_PROVIDER is not set; it wants s3 or gcs",
        ),
        (vec![s3, ("RECORDING_STORAGE_BUCKET", "c")], "RECORDING_S3_BUCKET wants the same as"),
        (vec![s3, ("RECORDING_S3_ACCESS_KEY_ID", "id")], "RECORDING_S3_SECRET_ACCESS_KEY is not set"),
        (vec![s3, ("RECORDING_S3_SECRET_ACCESS_KEY", "hunter2")], "RECORDING_S3_ACCESS_KEY_ID is not set"),
        (
            vec![s3, ("RECORDING_S3_ACCESS_KEY_ID", "id"), ("RECORDING_STORAGE_CREDENTIALS", AWS)],
            "RECORDING_STORAGE_CREDENTIALS wants to be unset",
        ),
        (vec![s3, ("RECORDING_STORAGE_CREDENTIALS", "hunter2")], "RECORDING_STORAGE_CREDENTIALS wants JSON"),
        (vec![s3, ("RECORDING_S3_ENDPOINT", "hunter2")], "RECORDING_S3_ENDPOINT wants an http"),
        (vec![s3, ("AWS_ENDPOINT_URL", "hunter2")], "AWS_ENDPOINT_URL wants an http"),
        (vec![s3, ("RECORDING_S3_CHECKSUM", "hunter2")], "RECORDING_S3_CHECKSUM wants crc64nvme"),
        (vec![s3, ("RECORDING_S3_SSE", "hunter2")], "RECORDING_S3_SSE wants AES256 or aws:kms"),
        (vec![s3, ("RECORDING_S3_SSE_KMS_KEY_ID", "k")], "RECORDING_S3_SSE wants aws:kms"),
        (vec![s3, ("RECORDING_S3_PATH_STYLE", "hunter2")], "RECORDING_S3_PATH_STYLE wants 1 or 0"),
        (vec![gcs, ("RECORDING_GCS_CREDENTIALS", "hunter2")], "RECORDING_GCS_CREDENTIALS wants the JSON"),
        (vec![gcs, ("RECORDING_STORAGE_CREDENTIALS", AWS)], "RECORDING_STORAGE_CREDENTIALS wants the JSON"),
        (
            vec![gcs, ("RECORDING_GCS_CREDENTIALS", GOOGLE), ("RECORDING_GCS_KEY_FILENAME", "k.json")],
            "RECORDING_GCS_KEY_FILENAME wants to be unset",
        ),
        (vec![("BLOB_READ_WRITE_TOKEN", "hunter2")], "BLOB_READ_WRITE_TOKEN wants a token"),
        (vec![s3, ("RECORDING_S3_ENDPOINT", "https://u:hunter2@x")], "RECORDING_S3_ENDPOINT wants an http"),
        (
            vec![gcs, ("RECORDING_GCS_ENDPOINT", "https://u:hunter2@x")],
            "RECORDING_GCS_ENDPOINT wants an http",
        ),
        (
            vec![("BLOB_READ_WRITE_TOKEN", TOKEN), ("VERCEL_BLOB_API_URL", "https://u:hunter2@x")],
            "VERCEL_BLOB_API_URL wants an http",
        ),
        (
            vec![("BLOB_READ_WRITE_TOKEN", TOKEN), ("VERCEL_BLOB_DOWNLOAD_URL", "https://u:hunter2@x")],
            "VERCEL_BLOB_DOWNLOAD_URL wants an http",
        ),
        (
            vec![("BLOB_READ_WRITE_TOKEN", TOKEN), ("VERCEL_BLOB_API_URL", "hunter2")],
            "VERCEL_BLOB_API_URL wants an http",
        ),
    ] {
        let found = read(&pairs).unwrap_err();
        assert!(found.starts_with(line) && !found.contains("hunter2") && !found.contains('\n'), "{found}");
    }
}

#[test]
fn no_secret_is_printed() {
    for pairs in [
        vec![
            ("RECORDING_S3_BUCKET", "b"),
            ("RECORDING_S3_ACCESS_KEY_ID", "id"),
            ("RECORDING_S3_SECRET_ACCESS_KEY", "hunter2"),
            ("RECORDING_S3_SESSION_TOKEN", "hunter2"),
        ],
        vec![("RECORDING_S3_BUCKET", "b"), ("RECORDING_STORAGE_CREDENTIALS", AWS)],
        vec![("RECORDING_GCS_BUCKET", "b"), ("RECORDING_GCS_CREDENTIALS", GOOGLE)],
        vec![("BLOB_READ_WRITE_TOKEN", TOKEN)],
    ] {
        let printed = format!("{:?}", read(&pairs).unwrap());
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}

#[test]
fn an_endpoint_of_ones_own_has_the_bucket_in_the_path_unless_told_otherwise() {
    let endpoint = ("RECORDING_S3_ENDPOINT", "http://127.0.0.1:9000/");
    for (pairs, wanted) in [
        (vec![], false),
        (vec![endpoint], true),
        (vec![("AWS_ENDPOINT_URL_S3", "https://s3.example.org")], true),
        (vec![endpoint, ("RECORDING_S3_PATH_STYLE", "0")], false),
        (vec![("RECORDING_S3_PATH_STYLE", "1")], true),
    ] {
        let all = [&[("RECORDING_S3_BUCKET", "b")], &pairs[..]].concat();
        let Ok(StorageSettings::S3(s3)) = read(&all) else { panic!("{all:?}") };
        assert_eq!(s3.path_style, wanted, "{all:?}");
    }
}

#[test]
fn googles_key_is_where_a_variable_says_ours_first() {
    let (own, general) = ("RECORDING_GCS_KEY_FILENAME", "GOOGLE_APPLICATION_CREDENTIALS");
    for (pairs, wanted) in [
        (vec![], None),
        (vec![(general, "/b")], Some((general, "/b"))),
        (vec![(own, "/a"), (general, "/b")], Some((own, "/a"))),
    ] {
        let all = [&[("RECORDING_GCS_BUCKET", "b")], &pairs[..]].concat();
        let Ok(StorageSettings::Gcs(gcs)) = read(&all) else { panic!("{all:?}") };
        let found = match gcs.credentials {
            GcsCredentials::KeyFile { variable, path } => Some((variable, path)),
            _ => None,
        };
        assert_eq!(found, wanted.map(|(variable, path)| (variable, path.into())), "{all:?}");
    }
}

#[tokio::test]
async fn a_key_that_is_none_of_googles_is_refused_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    let path = file.display().to_string();
    for (content, variable) in [
        (None, "RECORDING_GCS_KEY_FILENAME"),
        (Some("hunter2"), "RECORDING_GCS_KEY_FILENAME"),
        (Some(r#"{"type": "hunter2"}"#), "RECORDING_GCS_KEY_FILENAME"),
        (Some(GOOGLE), "RECORDING_GCS_KEY_FILENAME"),
        (Some(GOOGLE), "GOOGLE_APPLICATION_CREDENTIALS"),
    ] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let settings = read(&[("RECORDING_GCS_BUCKET", "b"), (variable, &path)]).unwrap();
        let line = settings.open().await.err().unwrap().to_string();
        assert!(line.starts_with(&format!("{variable} wants")) && !line.contains("hunter2"), "{line}");
    }
}

#[test]
fn a_store_is_named_in_its_token() {
    for pair in [
        ("BLOB_READ_WRITE_TOKEN", TOKEN),
        ("RECORDING_STORAGE_CREDENTIALS", r#"{"token": "vercel_blob_rw_store1_hunter2"}"#),
    ] {
        let pairs = [("RECORDING_STORAGE_PROVIDER", "vercel-blob"), pair];
        let Ok(StorageSettings::VercelBlob(settings)) = read(&pairs) else { panic!("{pair:?}") };
        assert_eq!((settings.store_id.as_str(), settings.token.expose()), ("store1", TOKEN));
        assert_eq!(settings.api_url, "https://vercel.com/api/blob");
        assert_eq!(settings.download_url, "https://store1.private.blob.vercel-storage.com");
    }
}

#[test]
fn no_host_of_aws_is_guessed() {
    for (other, wanted) in [
        (vec![], None),
        (vec![("RECORDING_S3_REGION", "cn-north-1")], None),
        (vec![("RECORDING_S3_ENDPOINT", "https://s3.example.org/")], Some("https://s3.example.org")),
    ] {
        let all = [&[("RECORDING_S3_BUCKET", "b")], &other[..]].concat();
        assert_eq!(read(&all).unwrap().server_url().as_deref(), wanted, "{all:?}");
    }
}

fn backup(pairs: &[(&str, &str)]) -> Result<Option<BackupSettings>, String> {
    let env = Env::from_pairs(pairs.iter().copied());
    let first = StorageSettings::from_env(&env).map_err(|error| error.to_string())?;
    BackupSettings::from_env(&env, &first).map_err(|error| error.to_string())
}

#[test]
fn a_second_storage_is_read_by_names_of_its_own() {
    assert!(backup(&[("RECORDING_S3_BUCKET", "b")]).unwrap().is_none());
    for (pairs, wanted) in [
        (vec![("RECORDING_STORAGE_BACKUP_OUTPUT_DIR", "/x")], "local"),
        (vec![("RECORDING_STORAGE_BACKUP_S3_BUCKET", "b"), ("RECORDING_OUTPUT_DIR", "/x")], "s3"),
        (vec![("RECORDING_STORAGE_BACKUP_GCS_BUCKET", "b")], "gcs"),
        (vec![("RECORDING_STORAGE_BACKUP_BLOB_READ_WRITE_TOKEN", TOKEN)], "vercel-blob"),
        (vec![("RECORDING_STORAGE_BACKUP_PROVIDER", "aws"), ("RECORDING_STORAGE_BACKUP_BUCKET", "b")], "s3"),
    ] {
        let found = backup(&pairs).unwrap().unwrap();
        assert_eq!((provider_of(&found.storage), found.after.as_secs()), (wanted, 900), "{pairs:?}");
    }
    let found = backup(&[("RECORDING_STORAGE_BACKUP_OUTPUT_DIR", "/x"), ("BACKUP_AFTER", "0s")]);
    assert!(found.unwrap().unwrap().after.is_zero());
}

#[test]
fn a_second_storage_that_is_none_is_refused_by_name() {
    let folder = ("RECORDING_STORAGE_BACKUP_OUTPUT_DIR", "/x");
    for (pairs, line) in [
        (vec![("BACKUP_AFTER", "5m")], "RECORDING_STORAGE_BACKUP_PROVIDER is not set"),
        (vec![folder, ("BACKUP_AFTER", "2h")], "BACKUP_AFTER wants a duration of at most 1h"),
        (vec![folder, ("BACKUP_AFTER", "hunter2")], "BACKUP_AFTER wants a duration"),
        (
            vec![("RECORDING_STORAGE_BACKUP_PROVIDER", "local")],
            "RECORDING_STORAGE_BACKUP_OUTPUT_DIR is not set",
        ),
        (vec![("RECORDING_STORAGE_BACKUP_PROVIDER", "ftp")], "RECORDING_STORAGE_BACKUP_PROVIDER wants local"),
        (
            vec![("RECORDING_STORAGE_BACKUP_S3_SSE", "AES256")],
            "RECORDING_STORAGE_BACKUP_OUTPUT_DIR is not set",
        ),
        (
            vec![
                folder,
                ("RECORDING_STORAGE_BACKUP_S3_BUCKET", "b"),
                ("RECORDING_STORAGE_BACKUP_GCS_BUCKET", "b"),
            ],
            "RECORDING_STORAGE_BACKUP_PROVIDER is not set",
        ),
        (
            vec![folder, ("RECORDING_OUTPUT_DIR", "/x")],
            "RECORDING_STORAGE_BACKUP_OUTPUT_DIR wants another place than the first storage's",
        ),
        (
            vec![("RECORDING_S3_BUCKET", "b"), ("RECORDING_STORAGE_BACKUP_S3_BUCKET", "b")],
            "RECORDING_STORAGE_BACKUP_S3_BUCKET wants another place",
        ),
        (
            vec![("BLOB_READ_WRITE_TOKEN", TOKEN), ("RECORDING_STORAGE_BACKUP_BLOB_READ_WRITE_TOKEN", TOKEN)],
            "RECORDING_STORAGE_BACKUP_BLOB_READ_WRITE_TOKEN wants another place",
        ),
    ] {
        let found = backup(&pairs).unwrap_err();
        assert!(found.starts_with(line) && !found.contains("hunter2") && !found.contains('\n'), "{found}");
    }
}
