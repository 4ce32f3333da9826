//! Tracks that the edge captured become Matroska files whose zero is the recording's start.
//!
//! All of a recording's logs are surveyed before any is assembled: a participant's logs share one clock, and where the
//! recording's rows tell of no pause, one that a log tells of holds for all. What the clocks are learnt from is held for one participant at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use shared::capture::rtp::{Logged, Records};
use shared::id::{TrackId, UserId};
use shared::recording::{AfterLoss, Recording};
use shared::spool::Spool;
use shared::track::{Track, TrackSource};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::track::{AssembledTrack, all_paused, empty, ms, reason, usable};
use crate::assemble::rtp::{self, Clocks, LogSource, RtpAssembled, RtpPlan, Survey};
use crate::assemble::{AssembleError, Kind, Span};
use crate::ctx::Ctx;
use crate::media::Turn;

/// Written at once to the assembled file.
const BUFFER: usize = 1 << 20;

/// A track whose log has been read once.
#[derive(Debug)]
struct Surveyed {
    track: Track,
    survey: Survey,
    clocks: Clocks,
    plan: Arc<RtpPlan>,
}

/// The logs of a recording: those of the reserve tell of clocks and pauses as well.
#[derive(Debug)]
pub(super) struct Logs {
    /// None of them is read before one is wanted.
    unread: Vec<Track>,
    surveyed: BTreeMap<TrackId, Surveyed>,
    plan: RtpPlan,
}

impl Logs {
    /// Of all of a recording's tracks. `paused`: what is known besides the logs, microseconds since the epoch.
    pub(super) fn new(recording: &Recording, tracks: &[Track], paused: &[Span]) -> Self {
        let plan = RtpPlan {
            start_us: recording.started_at.timestamp_micros(),
            stop_us: recording.stopped_at.map(|at| at.timestamp_micros()),
            after_loss: recording.options.after_loss.map_or_else(rtp::AfterLoss::default, after_loss),
            pauses: paused.to_vec(),
        };
        let unread = tracks.iter().filter(|track| track.source == TrackSource::Server).cloned().collect();
        Self { unread, surveyed: BTreeMap::new(), plan }
    }

    /// Assembles a track into `folder`; before the first, all logs are surveyed.
    ///
    /// # Errors
    /// When a log cannot be read or the file cannot be written.
    pub(super) async fn assemble(
        &mut self,
        ctx: &Ctx,
        track: &Track,
        folder: &Path,
        cancel: &CancellationToken,
    ) -> anyhow::Result<AssembledTrack> {
        let unread = std::mem::take(&mut self.unread);
        if !unread.is_empty() {
            self.surveyed = survey(ctx, unread, self.plan.clone(), cancel).await?;
        }
        let surveyed = self.surveyed.remove(&track.id).context("each log is assembled once")?;
        let (spool, folder, cancel) = (ctx.spool.clone(), folder.to_owned(), cancel.clone());
        let done = ctx.blocking(move || assemble_blocking(&spool, &surveyed, &folder, &cancel)).await?;
        ctx.metrics.assembled(track.bytes);
        Ok(done)
    }
}

/// Surveys logs.
async fn survey(
    ctx: &Ctx,
    tracks: Vec<Track>,
    mut plan: RtpPlan,
    cancel: &CancellationToken,
) -> anyhow::Result<BTreeMap<TrackId, Surveyed>> {
    let (spool, cancel) = (ctx.spool.clone(), cancel.clone());
    ctx.blocking(move || {
        let mut all = Vec::new();
        for tracks in by_participant(tracks) {
            let read = |track: &Track| rtp::survey(|| Source::open(&spool, track, &cancel));
            let mut surveys = tracks.iter().map(read).collect::<anyhow::Result<Vec<Survey>>>()?;
            let clocks = Clocks::learn(&mut surveys);
            all.extend(tracks.into_iter().zip(surveys).zip(clocks));
        }
        let surveys: Vec<&Survey> = all.iter().map(|((_, survey), _)| survey).collect();
        // All tracks are cut by the rows alike. When the tap rested is a little later, which logs tell as gaps.
        if plan.pauses.is_empty() {
            plan.pauses = rtp::pauses(&surveys);
        }
        let plan = Arc::new(plan);
        let surveyed = |((track, survey), clocks): ((Track, Survey), Clocks)| {
            (track.id.clone(), Surveyed { track, survey, clocks, plan: Arc::clone(&plan) })
        };
        Ok(all.into_iter().map(surveyed).collect())
    })
    .await
}

fn after_loss(asked: AfterLoss) -> rtp::AfterLoss {
    match asked {
        AfterLoss::Freeze => rtp::AfterLoss::default(),
        AfterLoss::Keep => rtp::AfterLoss::Keep,
    }
}

fn by_participant(tracks: Vec<Track>) -> impl Iterator<Item = Vec<Track>> {
    let mut participants: BTreeMap<UserId, Vec<Track>> = BTreeMap::new();
    for track in tracks {
        participants.entry(track.participant.clone()).or_default().push(track);
    }
    participants.into_values()
}

fn assemble_blocking(
    spool: &Spool,
    surveyed: &Surveyed,
    folder: &Path,
    cancel: &CancellationToken,
) -> anyhow::Result<AssembledTrack> {
    let Surveyed { track, survey, clocks, plan } = surveyed;
    let began_ms = plan.start_us / 1_000;
    let name = format!("{}.mkv", track.id);
    let out = BufWriter::with_capacity(BUFFER, File::create(folder.join(&name))?);
    let mut source = Source::open(spool, track, cancel)?;
    match rtp::assemble(&mut source, survey, clocks, plan, out) {
        Ok(done) => {
            let turns = done.rotations.len();
            info!(track.id = %track.id, "track {}: {} packets lost, {turns} turns of the picture", track.id, done.lost);
            if done.unplaced > 0 {
                warn!(track.id = %track.id, "track {}: nothing tells the time of {} frames", track.id, done.unplaced);
            }
            Ok(AssembledTrack { turn: turn(&done), ..usable(track, name, began_ms, &done.file) })
        }
        Err(AssembleError::AllPaused) => Ok(all_paused(track, began_ms)),
        Err(AssembleError::NoMedia { detail, .. }) => {
            warn!(track.id = %track.id, "track {} holds no media: {detail}", track.id);
            let last_us = survey.arrivals.map_or(plan.start_us, |(_, last)| last);
            Ok(empty(track, began_ms, ms(last_us - plan.start_us), reason(survey.why_empty())))
        }
        Err(error) => Err(error.into()),
    }
}

/// How a track's pictures must be turned.
fn turn(done: &RtpAssembled) -> Turn {
    let pictures = done.file.streams.iter().filter(|stream| stream.kind == Kind::Video);
    let first_us = pictures.map(|stream| stream.first_us).min().unwrap_or(0);
    // A picture's time is no earlier than the millisecond that it lies in.
    let from_ms = |us: i64| u64::try_from(us / 1_000).unwrap_or(0);
    match done.rotations.as_slice() {
        [] => Turn::None,
        [only] if only.time_us <= first_us => Turn::All(only.degrees / 90),
        all => Turn::Changing(all.iter().map(|turn| (from_ms(turn.time_us), turn.degrees / 90)).collect()),
    }
}

/// The log as the assembly reads it: one record in memory at a time.
struct Source {
    records: Records,
    cancel: CancellationToken,
}

impl Source {
    fn open(spool: &Spool, track: &Track, cancel: &CancellationToken) -> anyhow::Result<Self> {
        let records = Records::open(spool, &track.recording, &track.id)?;
        Ok(Self { records, cancel: cancel.clone() })
    }
}

impl LogSource for Source {
    fn next_logged(&mut self) -> io::Result<Option<Logged>> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.records.read_next().map_err(io::Error::other)
    }
}
