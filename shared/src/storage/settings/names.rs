//! What the variables of storage are called, those of [`crate::env::Env`]. Written out, so that a search finds them.

/// The variables of one storage.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) provider: &'static str,
    pub(super) bucket: &'static str,
    pub(super) region: &'static str,
    pub(super) credentials: &'static str,
    pub(super) output_dir: &'static str,
    pub(super) s3: S3Names,
    pub(super) gcs: GcsNames,
    pub(super) vercel_blob: VercelBlobNames,
}

#[derive(Debug)]
pub(super) struct S3Names {
    pub(super) bucket: &'static str,
    pub(super) region: &'static str,
    pub(super) access_key_id: &'static str,
    pub(super) secret_access_key: &'static str,
    pub(super) session_token: &'static str,
    pub(super) endpoint: &'static str,
    pub(super) path_style: &'static str,
    pub(super) checksum: &'static str,
    pub(super) sse: &'static str,
    pub(super) sse_kms_key_id: &'static str,
    pub(super) storage_class: &'static str,
}

#[derive(Debug)]
pub(super) struct GcsNames {
    pub(super) bucket: &'static str,
    pub(super) project_id: &'static str,
    pub(super) key_filename: &'static str,
    pub(super) credentials: &'static str,
    pub(super) endpoint: &'static str,
}

#[derive(Debug)]
pub(super) struct VercelBlobNames {
    pub(super) token: &'static str,
    pub(super) api_url: &'static str,
    pub(super) download_url: &'static str,
}

/// Where finished recordings are kept.
pub(super) const RECORDING: Names = Names {
    provider: "RECORDING_STORAGE_PROVIDER",
    bucket: "RECORDING_STORAGE_BUCKET",
    region: "RECORDING_STORAGE_REGION",
    credentials: "RECORDING_STORAGE_CREDENTIALS",
    output_dir: "RECORDING_OUTPUT_DIR",
    s3: S3Names {
        bucket: "RECORDING_S3_BUCKET",
        region: "RECORDING_S3_REGION",
        access_key_id: "RECORDING_S3_ACCESS_KEY_ID",
        secret_access_key: "RECORDING_S3_SECRET_ACCESS_KEY",
        session_token: "RECORDING_S3_SESSION_TOKEN",
        endpoint: "RECORDING_S3_ENDPOINT",
        path_style: "RECORDING_S3_PATH_STYLE",
        checksum: "RECORDING_S3_CHECKSUM",
        sse: "RECORDING_S3_SSE",
        sse_kms_key_id: "RECORDING_S3_SSE_KMS_KEY_ID",
        storage_class: "RECORDING_S3_STORAGE_CLASS",
    },
    gcs: GcsNames {
        bucket: "RECORDING_GCS_BUCKET",
        project_id: "RECORDING_GCS_PROJECT_ID",
        key_filename: "RECORDING_GCS_KEY_FILENAME",
        credentials: "RECORDING_GCS_CREDENTIALS",
        endpoint: "RECORDING_GCS_ENDPOINT",
    },
    vercel_blob: VercelBlobNames {
        token: "BLOB_READ_WRITE_TOKEN",
        api_url: "VERCEL_BLOB_API_URL",
        download_url: "VERCEL_BLOB_DOWNLOAD_URL",
    },
};

/// Where they are kept while that is away.
pub(super) const BACKUP: Names = Names {
    provider: "RECORDING_STORAGE_BACKUP_PROVIDER",
    bucket: "RECORDING_STORAGE_BACKUP_BUCKET",
    region: "RECORDING_STORAGE_BACKUP_REGION",
    credentials: "RECORDING_STORAGE_BACKUP_CREDENTIALS",
    output_dir: "RECORDING_STORAGE_BACKUP_OUTPUT_DIR",
    s3: S3Names {
        bucket: "RECORDING_STORAGE_BACKUP_S3_BUCKET",
        region: "RECORDING_STORAGE_BACKUP_S3_REGION",
        access_key_id: "RECORDING_STORAGE_BACKUP_S3_ACCESS_KEY_ID",
        secret_access_key: "RECORDING_STORAGE_BACKUP_S3_SECRET_ACCESS_KEY",
        session_token: "RECORDING_STORAGE_BACKUP_S3_SESSION_TOKEN",
        endpoint: "RECORDING_STORAGE_BACKUP_S3_ENDPOINT",
        path_style: "RECORDING_STORAGE_BACKUP_S3_PATH_STYLE",
        checksum: "RECORDING_STORAGE_BACKUP_S3_CHECKSUM",
        sse: "RECORDING_STORAGE_BACKUP_S3_SSE",
        sse_kms_key_id: "RECORDING_STORAGE_BACKUP_S3_SSE_KMS_KEY_ID",
        storage_class: "RECORDING_STORAGE_BACKUP_S3_STORAGE_CLASS",
    },
    gcs: GcsNames {
        bucket: "RECORDING_STORAGE_BACKUP_GCS_BUCKET",
        project_id: "RECORDING_STORAGE_BACKUP_GCS_PROJECT_ID",
        key_filename: "RECORDING_STORAGE_BACKUP_GCS_KEY_FILENAME",
        credentials: "RECORDING_STORAGE_BACKUP_GCS_CREDENTIALS",
        endpoint: "RECORDING_STORAGE_BACKUP_GCS_ENDPOINT",
    },
    vercel_blob: VercelBlobNames {
        token: "RECORDING_STORAGE_BACKUP_BLOB_READ_WRITE_TOKEN",
        api_url: "RECORDING_STORAGE_BACKUP_VERCEL_BLOB_API_URL",
        download_url: "RECORDING_STORAGE_BACKUP_VERCEL_BLOB_DOWNLOAD_URL",
    },
};

impl Names {
    /// All of them.
    pub(super) fn all(&self) -> Vec<&'static str> {
        let general = [self.provider, self.bucket, self.region, self.credentials, self.output_dir];
        general.into_iter().chain(self.s3.all()).chain(self.gcs.own()).chain(self.vercel_blob.all()).collect()
    }
}

impl VercelBlobNames {
    fn all(&self) -> [&'static str; 3] {
        [self.token, self.api_url, self.download_url]
    }
}

impl S3Names {
    fn all(&self) -> impl Iterator<Item = &'static str> {
        let others = [
            self.session_token,
            self.path_style,
            self.checksum,
            self.sse,
            self.sse_kms_key_id,
            self.storage_class,
        ];
        self.own().into_iter().chain(others)
    }

    /// Those by which the provider is found.
    pub(super) fn own(&self) -> [&'static str; 5] {
        [self.bucket, self.region, self.access_key_id, self.secret_access_key, self.endpoint]
    }
}

impl GcsNames {
    /// Those by which the provider is found.
    pub(super) fn own(&self) -> [&'static str; 5] {
        [self.bucket, self.project_id, self.key_filename, self.credentials, self.endpoint]
    }
}
