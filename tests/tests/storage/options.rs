//! What an operator asks of S3 for every object.

use std::time::Duration;

use e2e::seaweed::Seaweed;
use shared::storage::{Link, verify};

use crate::files::{File, Watch, put};

#[tokio::test]
async fn objects_are_encrypted_and_of_the_class_that_the_settings_say() {
    let server = Seaweed::start().await;
    let asked = [("RECORDING_S3_SSE", "AES256"), ("RECORDING_S3_STORAGE_CLASS", "STANDARD_IA")];
    let storage = server.settings(&asked).open().await.unwrap();
    // In one request, and in parts.
    for (key, size) in [("small", 1_000), ("large", 17_000_003)] {
        let file = File::of(size);
        put(storage.as_ref(), key, &file.path, &Watch::default()).await.unwrap();
        verify(storage.as_ref(), key, &file.print, None).await.unwrap();
        let link = Link { valid: Duration::from_secs(60), disposition: None };
        let url = storage.temporary_url(key, &link).await.unwrap().unwrap();
        let answer = reqwest::get(url).await.unwrap().error_for_status().unwrap();
        assert_eq!(answer.headers()["x-amz-server-side-encryption"], "AES256", "{key}");
        assert_eq!(answer.headers()["x-amz-storage-class"], "STANDARD_IA", "{key}");
    }
}
