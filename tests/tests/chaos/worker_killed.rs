//! A worker is killed at every moment of every stage; another one takes over, and there is one result.
//!
//! Each test prepares one recording per moment, kills a worker at each of them, and only then starts the one that finishes all:
//! the leases run out side by side.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use e2e::fixtures::Fixture;
use e2e::program::Program;
use e2e::system::Folders;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::moments::{Hold, at_once, frozen_ffmpeg, until, working_below};
use crate::result::{assert_encoded, assert_tidy, assert_whole};
use crate::workshop::{Recorded, Workshop, dismiss};

/// Files that an earlier attempt might have left: so many that deleting them takes longer than freezing who does it.
const BALLAST: usize = 30_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_at_any_moment_of_the_assembly_costs_nothing() {
    let workshop = Workshop::open(&[]).await;
    let fixture = Arc::new(Fixture::load("chrome-webm-vp8"));
    let mut recorded = Vec::new();
    for _ in 0..3 {
        recorded.push(workshop.record(&fixture, json!({})).await);
    }
    let slow = workshop
        .record(&fixture, json!({ "format": "mp4", "videoCodec": "h264", "audioCodec": "aac" }))
        .await;
    workshop.hold_jobs().await;
    let killing = Killing { workshop: &workshop, queue: "mux-recording", stage: "mux" };

    killing.after_the_claim(&recorded[0]).await;
    killing.while_ffmpeg_runs(&slow).await;
    killing.before_the_row(&recorded[1], "recording.webm").await;
    killing.after_the_row(&recorded[2], "thumbnails").await;

    finish(&workshop, "mux-recording", recorded.iter().chain([&slow])).await;
    for one in &recorded {
        one.assert_whole(&workshop).await;
    }
    assert_encoded(&workshop.system, &slow.client, &slow.recording, &fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_at_any_moment_of_the_thumbnails_costs_nothing() {
    let workshop = Workshop::open(&[]).await;
    let recorded = prepare(&workshop, 4, &["mux-recording"], "thumbnails").await;
    let killing = Killing { workshop: &workshop, queue: "make-thumbnails", stage: "thumbnails" };

    killing.after_the_claim(&recorded[0]).await;
    killing.while_ffmpeg_runs(&recorded[1]).await;
    killing.before_the_row(&recorded[2], "thumbnail-04.jpg").await;
    killing.after_the_row(&recorded[3], "upload").await;

    finish(&workshop, "make-thumbnails", &recorded).await;
    for one in &recorded {
        one.assert_whole(&workshop).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_at_any_moment_of_the_upload_costs_nothing() {
    let workshop = Workshop::open(&[]).await;
    let recorded = prepare(&workshop, 5, &["mux-recording", "make-thumbnails"], "upload").await;
    let killing = Killing { workshop: &workshop, queue: "upload-recording", stage: "upload" };

    killing.after_the_claim(&recorded[0]).await;
    killing.in_the_middle_of_the_upload(&recorded[1]).await;
    killing.before_the_completion(&recorded[2]).await;
    killing.after_the_row(&recorded[3], "completed").await;
    killing.before_the_cleaning(&recorded[4]).await;

    finish(&workshop, "upload-recording", &recorded).await;
    for one in &recorded {
        one.assert_whole(&workshop).await;
    }
}

/// Recordings at a stage that nobody works on yet.
async fn prepare(workshop: &Workshop, count: usize, queues: &[&str], stage: &str) -> Vec<Recorded> {
    let fixture = Arc::new(Fixture::load("ff-webm-vp8"));
    let mut recorded = Vec::new();
    for _ in 0..count {
        recorded.push(workshop.record(&fixture, json!({})).await);
    }
    let worker = workshop.worker(&queues.join(","), &[]).await;
    for one in &recorded {
        workshop.reaches(&one.recording, stage).await;
    }
    dismiss([worker]).await;
    workshop.hold_jobs().await;
    recorded
}

/// A new worker finishes all; each job whose worker was killed was tried twice.
async fn finish<'a>(workshop: &Workshop, queue: &str, recorded: impl IntoIterator<Item = &'a Recorded>) {
    let worker = workshop.worker("", &[]).await;
    workshop.free_all_jobs().await;
    for one in recorded {
        workshop.reaches(&one.recording, "completed").await;
        let ended = async || {
            let job = workshop.job(&one.recording, queue).await;
            (job.status == "Done").then_some(job)
        };
        let job = until("the killed worker's job to end", ended).await;
        assert_eq!(job.outcomes, ["lost", "done"], "{queue} of {}", one.recording.id);
    }
    workshop.all_jobs_end().await;
    dismiss([worker]).await;
    assert_tidy(&workshop.system);
}

impl Recorded {
    async fn assert_whole(&self, workshop: &Workshop) {
        assert_whole(&workshop.system, &self.client, &self.recording, &[("ann", &self.fixture)]).await;
    }
}

/// Kills a worker of one queue at a moment of a recording's job.
struct Killing<'a> {
    workshop: &'a Workshop,
    queue: &'a str,
    stage: &'a str,
}

impl Killing<'_> {
    async fn worker_for(&self, one: &Recorded) -> Program {
        self.workshop.free_jobs(&one.recording).await;
        self.workshop.worker(self.queue, &[]).await
    }

    /// The moment was met: the job is unfinished, and the recording where it ought to be.
    async fn assert_met(&self, one: &Recorded, stage: &str) {
        assert_eq!(self.workshop.stage(&one.recording).await, stage);
        let job = self.workshop.job(&one.recording, self.queue).await;
        assert_eq!((job.status.as_str(), job.outcomes), ("Running", vec!["open".to_owned()]));
    }

    fn staged(&self, one: &Recorded) -> PathBuf {
        self.workshop.system.folders.spool().join(&one.recording.id).join("staged")
    }

    /// It has taken the job and has done nothing: it cannot even look at the recording.
    async fn after_the_claim(&self, one: &Recorded) {
        let recordings = Hold::recordings(&self.workshop.url).await;
        let mut worker = self.worker_for(one).await;
        self.workshop.claimed(&one.recording, self.queue).await;
        worker.kill9();
        recordings.release_without_waiters().await;
        self.assert_met(one, self.stage).await;
    }

    /// FFmpeg is frozen, then its worker killed.
    async fn while_ffmpeg_runs(&self, one: &Recorded) {
        let scratch = self.workshop.system.folders.scratch();
        let found = tokio::spawn(frozen_ffmpeg(scratch.clone()));
        let mut worker = self.worker_for(one).await;
        found.await.expect("FFmpeg ran");
        worker.kill9();
        until("FFmpeg to end with its worker", async || working_below(&scratch).is_empty().then_some(()))
            .await;
        self.assert_met(one, self.stage).await;
    }

    /// The last of its files is in the spool, and it waits for the row.
    async fn before_the_row(&self, one: &Recorded, last: &str) {
        let mut row = Hold::recording(&self.workshop.url, &one.recording.id).await;
        let mut worker = self.worker_for(one).await;
        let written = || Folders::files(&self.staged(one)).iter().any(|file| file.ends_with(last));
        until(&format!("{last} in the spool"), async || written().then_some(())).await;
        until("the worker to wait for the row", async || (row.waiting().await > 0).then_some(())).await;
        worker.kill9();
        row.release_without_waiters().await;
        self.assert_met(one, self.stage).await;
    }

    /// The recording has moved on, and the job's end waits for its row.
    async fn after_the_row(&self, one: &Recorded, next: &str) {
        let recordings = Hold::recordings(&self.workshop.url).await;
        let mut worker = self.worker_for(one).await;
        let job = self.workshop.claimed(&one.recording, self.queue).await;
        let mut row = Hold::job(&self.workshop.url, &job.id).await;
        recordings.release().await;
        self.workshop.reaches(&one.recording, next).await;
        until("the worker to wait for the job's row", async || (row.waiting().await > 0).then_some(())).await;
        worker.kill9();
        row.release_without_waiters().await;
        self.assert_met(one, next).await;
    }

    /// Some files are in storage and noted; one is in storage and not noted.
    async fn in_the_middle_of_the_upload(&self, one: &Recorded) {
        let third = format!(
            "select from artifact where recording_id = '{}' and kind = 'thumbnail' and ordinal = 2 for update",
            one.recording.id
        );
        let mut artifact = Hold::with(&self.workshop.url, &third).await;
        let mut worker = self.worker_for(one).await;
        until("the third picture to be stored", async || (artifact.waiting().await > 0).then_some(())).await;
        worker.kill9();
        artifact.release_without_waiters().await;
        self.assert_met(one, self.stage).await;
    }

    /// Every file is in storage and noted, and it waits for the recording's row.
    async fn before_the_completion(&self, one: &Recorded) {
        let mut row = Hold::recording(&self.workshop.url, &one.recording.id).await;
        let mut worker = self.worker_for(one).await;
        let left = || {
            let left = "select count(*) from artifact where recording_id = $1 and state <> 'stored'";
            sqlx::query_scalar::<_, i64>(left).bind(&one.recording.id).fetch_one(&self.workshop.system.db)
        };
        until("every file to be stored", async || matches!(left().await, Ok(0)).then_some(())).await;
        until("the worker to wait for the row", async || (row.waiting().await > 0).then_some(())).await;
        worker.kill9();
        row.release_without_waiters().await;
        self.assert_met(one, self.stage).await;
    }

    /// The recording is completed, and not everything that was staged is deleted.
    async fn before_the_cleaning(&self, one: &Recorded) {
        let staged = self.staged(one);
        // Sorts before the names of attempts, so that theirs are still there.
        let ballast = staged.join("0-earlier-attempt");
        fs::create_dir(&ballast).expect("the spool is a folder");
        for n in 0..BALLAST {
            fs::write(ballast.join(n.to_string()), "").expect("the spool has room");
        }
        let mut worker = self.worker_for(one).await;
        let last = ballast.clone();
        let begun = move || (fs::read_dir(&last).map_or(0, Iterator::count) < BALLAST).then_some(());
        at_once("the cleaning to begin", begun).await;
        worker.signal(Signal::SIGSTOP);
        worker.kill9();
        assert!(!Folders::files(&staged).is_empty(), "the cleaning was faster than we");
        self.assert_met(one, "completed").await;
    }
}
