//! S3 at its worst: answers that are torn, lost or refused, parts that are damaged on their way, uploads that are gone or may not
//! be asked about. A real server, with a gateway before it that meets single requests.

use bytes::Bytes;
use e2e::seaweed::Seaweed;
use e2e::servers::faults::{Fault, Plan, Refusal};
use e2e::servers::gateway::Gateway;
use futures::TryStreamExt;
use shared::storage::{SharedStorage, StorageError, verify};

use crate::files::{File, Watch, attributes, put, read};
use crate::resume::cut_off;

const KEY: &str = "recordings/rec_1/recording.webm";
/// Three parts, the last one short.
const SIZE: usize = (2 << 24) + 12_345;
/// How parts are recognised, and what is asked of an upload.
const PART: &str = "partNumber=";
const UPLOAD: &str = "uploadId=";

struct Fixture {
    server: Seaweed,
    gateway: Gateway,
    storage: SharedStorage,
}

impl Fixture {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    async fn with(other: &[(&'static str, &str)]) -> Self {
        let server = Seaweed::start().await;
        let gateway = Gateway::before(server.address()).await;
        let url = gateway.url();
        let settings = server.settings(&[other, &[("RECORDING_S3_ENDPOINT", &url)]].concat());
        let storage = settings.open().await.unwrap();
        Self { server, gateway, storage }
    }

    /// How many uploads are begun and neither finished nor given up, past the gateway.
    async fn unfinished(&self) -> usize {
        let storage = self.server.settings(&[]).open().await.unwrap();
        storage.unfinished("").try_collect::<Vec<_>>().await.unwrap().len()
    }

    async fn put(&self, file: &File, watch: &Watch) -> Result<(), StorageError> {
        put(self.storage.as_ref(), KEY, &file.path, watch).await
    }

    async fn stored(&self, file: &File) {
        verify(self.storage.as_ref(), KEY, &file.print, None).await.unwrap();
    }
}

fn keeping() -> Watch {
    Watch { keeps: true, ..Watch::default() }
}

/// What a later attempt is given.
fn resuming(watch: Watch) -> Watch {
    Watch { kept: watch.kept, keeps: true, ..Watch::default() }
}

fn refused(status: u16, code: &str) -> Fault {
    let body = format!("<Error><Code>{code}</Code><Message>as the test asks</Message></Error>");
    Fault::Refused(Refusal { status, retry_after: None, body })
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_and_is_proven() {
    let (at, file) = (Fixture::start().await, File::of(SIZE));
    at.put(&file, &Watch::default()).await.unwrap();
    at.gateway.set(Plan::met([
        ("GET", KEY, Fault::Torn),
        ("GET", KEY, Fault::Torn),
        ("GET", KEY, Fault::Cut),
    ]));
    assert!(read(at.storage.as_ref(), KEY, 7..SIZE as u64 + 7).await == file.bytes()[7..]);
    assert_eq!(at.gateway.faults().injected(), 3);
    at.gateway.set(Plan::met([("GET", KEY, Fault::Torn)]));
    at.stored(&file).await;
    assert_eq!(at.gateway.faults().injected(), 1);
}

#[tokio::test]
async fn an_object_that_is_replaced_while_a_download_is_broken_off_does_not_mix() {
    let (at, file) = (Fixture::start().await, File::of(SIZE));
    at.put(&file, &Watch::default()).await.unwrap();
    at.gateway.set(Plan::met([("GET", KEY, Fault::Torn)]));
    let mut blocks = at.storage.get_range(KEY, 0..SIZE as u64).await.unwrap();
    let first = blocks.try_next().await.unwrap().unwrap();
    at.storage.put_bytes(KEY, Bytes::from(vec![7; SIZE]), &attributes()).await.unwrap();
    let rest: Result<Vec<Bytes>, _> = blocks.try_collect().await;
    let error = rest.expect_err("its other half is another's");
    assert!(error.to_string().contains("replaced"), "{error}");
    assert!(!first.is_empty());
}

#[tokio::test]
async fn an_upload_that_was_completed_and_not_noted_is_not_sent_again() {
    for other in [&[][..], &[("RECORDING_S3_CHECKSUM", "when-required")]] {
        let (at, file) = (Fixture::with(other).await, File::of(SIZE));
        let watch = keeping();
        at.put(&file, &watch).await.unwrap();
        // The worker is gone before it has noted that.
        at.gateway.set(Plan::met([
            ("PUT", PART, refused(400, "Sent")),
            ("POST", "uploads", refused(400, "Begun")),
        ]));
        let again = resuming(watch);
        at.put(&file, &again).await.unwrap();
        assert_eq!((at.gateway.faults().injected(), again.sent()), (0, SIZE as u64));
        // What is there now is another's, or nothing at all.
        at.gateway.set(Plan::Sound);
        at.storage.put_bytes(KEY, Bytes::from(vec![7; SIZE]), &attributes()).await.unwrap();
        let again = resuming(again);
        at.put(&file, &again).await.unwrap();
        at.stored(&file).await;
        at.storage.delete(KEY).await.unwrap();
        at.put(&file, &resuming(again)).await.unwrap();
        at.stored(&file).await;
    }
}

#[tokio::test]
async fn a_part_that_was_damaged_on_its_way_is_sent_again_and_ends_no_upload() {
    let (at, file) = (Fixture::start().await, File::of(SIZE));
    let damaged = |times: usize| Plan::met(vec![("PUT", "partNumber=2", refused(400, "BadDigest")); times]);
    at.gateway.set(damaged(2));
    at.put(&file, &Watch::default()).await.unwrap();
    assert_eq!(at.gateway.faults().injected(), 2);
    at.stored(&file).await;

    at.gateway.set(damaged(4));
    let watch = keeping();
    let error = at.put(&file, &watch).await.unwrap_err();
    assert!(matches!(error, StorageError::Mismatch { .. }), "{error}");
    assert_eq!(at.unfinished().await, 1, "the other parts are as good as before");
    at.gateway.set(Plan::met([("POST", "uploads", refused(400, "Begun"))]));
    at.put(&file, &resuming(watch)).await.unwrap();
    assert_eq!((at.gateway.faults().injected(), at.unfinished().await), (0, 0));
    at.stored(&file).await;
}

#[tokio::test]
async fn an_error_in_an_answer_that_began_as_a_success_is_for_waiting() {
    let (at, file) = (Fixture::start().await, File::of(SIZE));
    at.gateway.set(Plan::met([("POST", UPLOAD, refused(200, "ServiceUnavailable"))]));
    let watch = keeping();
    let error = at.put(&file, &watch).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    assert_eq!(at.unfinished().await, 1, "it is not thrown away");
    at.gateway.set(Plan::met([("PUT", PART, refused(400, "Sent"))]));
    at.put(&file, &resuming(watch)).await.unwrap();
    assert_eq!(at.gateway.faults().injected(), 0);
    at.stored(&file).await;
}

#[tokio::test]
async fn an_upload_that_is_gone_is_begun_anew() {
    let (at, file) = (Fixture::start().await, File::of(SIZE));
    at.gateway.set(Plan::met([("PUT", "partNumber=3", refused(404, "NoSuchUpload"))]));
    let watch = keeping();
    let error = at.put(&file, &watch).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("begin anew"), "{error}");
    at.put(&file, &resuming(watch)).await.unwrap();
    at.stored(&file).await;
}

#[tokio::test]
async fn an_upload_that_may_not_be_asked_about_is_passed_over() {
    let (at, file) = (Fixture::start().await, File::of(SIZE));
    let cut = cut_off(at.storage.as_ref(), KEY, &File::of(7 << 24)).await;
    assert_eq!(at.unfinished().await, 1);
    at.gateway.set(Plan::met([("GET", UPLOAD, refused(403, "AccessDenied"))]));
    at.put(&file, &resuming(cut)).await.unwrap();
    assert_eq!((at.gateway.faults().injected(), at.unfinished().await), (1, 0));
    at.stored(&file).await;
}
