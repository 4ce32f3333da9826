//! `worker doctor`, the program: what it says of a machine that is well, and of each thing that is not.

use e2e::fake_gcs::FakeGcs;
use e2e::gcs::Gcs;
use e2e::postgres::Postgres;
use e2e::program::{Output, command, output};
use e2e::seaweed::Seaweed;
use e2e::servers::faults::{Fault, Plan, Refusal};
use e2e::servers::gateway::Gateway;
use e2e::system::binary;
use shared::testing::TestDatabase;
use tempfile::TempDir;

/// A machine on which all is well, but for what a test sets.
pub(crate) struct Machine {
    folder: TempDir,
    settings: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn with(database_url: &str) -> Self {
        let folder =
            tempfile::Builder::new().prefix("callreel-doctor-").tempdir().expect("a folder below /tmp");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let settings = vec![
            ("DATABASE_URL".to_owned(), database_url.to_owned()),
            ("SPOOL_URL".to_owned(), path("spool")),
            ("SCRATCH_DIR".to_owned(), path("scratch")),
            ("RECORDING_OUTPUT_DIR".to_owned(), path("recordings")),
        ];
        Self { folder, settings }
    }

    pub(crate) fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn examine(&self) -> Output {
        let settings = self.settings.iter().map(|(name, value)| (name, value));
        output(command(binary("worker")).arg("doctor").envs(settings).current_dir(self.folder.path()))
    }
}

/// Beside a server of this process, which answers meanwhile.
fn examine(machine: &Machine) -> Output {
    tokio::task::block_in_place(|| machine.examine())
}

/// The line of a check.
pub(crate) fn line<'a>(done: &'a Output, check: &str) -> &'a str {
    let mut lines = done.stdout.lines();
    lines.find(|line| line.split_whitespace().nth(1) == Some(check)).unwrap_or_else(|| panic!("{done:?}"))
}

pub(crate) fn is_ill(done: &Output, check: &str, says: &str) {
    let line = line(done, check);
    assert!(
        !done.ok && line.starts_with("FAIL ") && line.contains(says) && line.contains("; cure: "),
        "{line}"
    );
}

#[tokio::test]
async fn all_is_well_with_a_folder() {
    let database = Postgres::create().await;
    let done = Machine::with(database.url()).examine();
    assert!(done.ok, "{done:?}");
    for check in ["settings", "database", "migrations", "ffmpeg", "storage", "spool", "disk", "clock"] {
        assert!(line(&done, check).starts_with("ok "), "{done:?}");
    }
}

#[tokio::test]
async fn all_is_well_with_a_bucket_and_nothing_stays_in_it() {
    let (database, server) = (Postgres::create().await, Seaweed::start().await);
    let set = |machine: Machine, (name, value): (&str, String)| machine.set(name, value);
    let machine = server.variables().into_iter().fold(Machine::with(database.url()), set);
    let done = machine.examine();
    assert!(done.ok && line(&done, "storage").contains("takes, tells, gives, links and deletes"), "{done:?}");
    assert!(line(&done, "clock").contains("storage's clock"), "{done:?}");
    let storage = server.settings(&[]).open().await.unwrap();
    assert!(futures::StreamExt::next(&mut storage.list("")).await.is_none());

    let done = machine.set("RECORDING_S3_SECRET_ACCESS_KEY", "wrong").examine();
    is_ill(&done, "storage", "refuses the credentials");
    assert!(!done.stdout.contains("wrong"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_with_googles_storage_and_a_wrong_key_is_told() {
    let (database, server) = (Postgres::create().await, Gcs::start().await);
    let set = |machine: Machine, (name, value): (&str, String)| machine.set(name, value);
    let machine = server.variables().into_iter().fold(Machine::with(database.url()), set);
    let done = examine(&machine);
    assert!(done.ok && line(&done, "storage").contains("takes, tells, gives, links and deletes"), "{done:?}");
    assert!(server.is_empty(), "nothing stays");
    let machine = machine.set("RECORDING_GCS_CREDENTIALS", Gcs::wrong_key());
    is_ill(&examine(&machine), "storage", "refuses the credentials: Invalid Credentials");
    let machine =
        machine.set("RECORDING_GCS_CREDENTIALS", "").set("RECORDING_GCS_KEY_FILENAME", "/no/such/key.json");
    is_ill(&examine(&machine), "storage", "RECORDING_GCS_KEY_FILENAME wants a file that can be read");
}

#[tokio::test]
async fn all_is_well_with_an_emulator_that_knows_no_links() {
    let (database, server) = (Postgres::create().await, FakeGcs::start().await);
    let set = |machine: Machine, (name, value): (&str, String)| machine.set(name, value);
    let machine = server.variables().into_iter().fold(Machine::with(database.url()), set);
    let done = machine.examine();
    assert!(done.ok && line(&done, "storage").contains("takes, tells, gives and deletes"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_go_on_with_an_upload_are_told_by_what_they_lack() {
    let (database, server) = (Postgres::create().await, Seaweed::start().await);
    let gateway = Gateway::before(server.address()).await;
    let set = |machine: Machine, (name, value): (&str, String)| machine.set(name, value);
    let machine = server.variables().into_iter().fold(Machine::with(database.url()), set);
    let machine = machine.set("RECORDING_S3_ENDPOINT", gateway.url());
    let body = "<Error><Code>AccessDenied</Code><Message>not allowed</Message></Error>".to_owned();
    for (method, address, action) in [
        ("GET", "uploadId=", "ListParts"),
        ("GET", "uploads", "ListMultipartUploads"),
        ("DELETE", "uploadId=", "AbortMultipartUpload"),
    ] {
        let denied = Fault::Refused(Refusal { status: 403, retry_after: None, body: body.clone() });
        gateway.set(Plan::met([(method, address, denied)]));
        is_ill(&examine(&machine), "storage", &format!("refuses the credentials: {action}: AccessDenied"));
    }
    gateway.set(Plan::Sound);
    assert!(examine(&machine).ok);
    let storage = server.settings(&[]).open().await.unwrap();
    assert!(futures::StreamExt::next(&mut storage.list("")).await.is_none());
    assert_eq!(
        futures::StreamExt::count(storage.unfinished("")).await,
        1,
        "the one that could not be given up"
    );
}

#[tokio::test]
async fn a_wrong_bucket_is_named() {
    let (database, server) = (Postgres::create().await, Seaweed::start().await);
    let set = |machine: Machine, (name, value): (&str, String)| machine.set(name, value);
    let machine = server.variables().into_iter().fold(Machine::with(database.url()), set);
    is_ill(&machine.set("RECORDING_S3_BUCKET", "nowhere").examine(), "storage", "there is no bucket nowhere");
}

#[tokio::test]
async fn a_database_without_tables_is_told_from_one_that_is_away() {
    let bare = TestDatabase::create().await;
    let done = Machine::with(&bare.url).examine();
    is_ill(&done, "migrations", "run `worker migrate`");
    assert!(line(&done, "database").starts_with("ok "), "{done:?}");
    let done = Machine::with("postgres://nobody@127.0.0.1:1/nothing").examine();
    is_ill(&done, "database", "cannot be used");
    is_ill(&done, "clock", "cannot be used");
}

#[tokio::test]
async fn what_cannot_be_reached_or_written_is_told() {
    let database = Postgres::create().await;
    let machine = Machine::with(database.url())
        .set("RECORDING_S3_BUCKET", "b")
        .set("RECORDING_S3_ENDPOINT", "http://127.0.0.1:1");
    is_ill(&machine.examine(), "storage", "http://127.0.0.1:1");
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("recordings").display().to_string();
    let done = Machine::with(database.url()).set("RECORDING_OUTPUT_DIR", below).examine();
    is_ill(&done, "storage", "RECORDING_OUTPUT_DIR");
    is_ill(&done, "disk", "RECORDING_OUTPUT_DIR");
}

#[tokio::test]
async fn a_wrong_setting_is_named_and_not_shown() {
    let done = Machine::with("postgres://x@y/z").set("RECORDING_S3_ACCESS_KEY_ID", "hunter2").examine();
    is_ill(&done, "settings", "RECORDING_S3_BUCKET is not set");
    assert!(!done.stdout.contains("hunter2") && done.stdout.lines().count() == 1, "{done:?}");
}

#[tokio::test]
async fn the_backup_is_examined_as_well_and_must_be_another_place() {
    let (database, server) = (Postgres::create().await, Seaweed::start().await);
    let set = |machine: Machine, (name, value): (&str, String)| machine.set(name, value);
    let machine = server.backup_variables().into_iter().fold(Machine::with(database.url()), set);
    let done = machine.examine();
    assert!(done.ok && line(&done, "backup").contains("takes, tells, gives, links and deletes"), "{done:?}");
    let other_name = server.endpoint().replace("127.0.0.1", "localhost");
    let machine = server.variables().into_iter().fold(machine, set);
    let done = machine.set("RECORDING_S3_ENDPOINT", other_name).examine();
    is_ill(&done, "backup", "it is the first storage itself");
    let done = Machine::with(database.url()).set("RECORDING_STORAGE_BACKUP_OUTPUT_DIR", "/proc/x").examine();
    is_ill(&done, "backup", "RECORDING_STORAGE_BACKUP_OUTPUT_DIR");
    is_ill(&done, "disk", "RECORDING_STORAGE_BACKUP_OUTPUT_DIR");
}
