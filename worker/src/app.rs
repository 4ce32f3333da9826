//! The worker as a process: its folders, its queue, and its port for Prometheus.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use prometheus::Registry;
use shared::clock::{Clock, SystemClock};
use shared::env::{EnvError, unusable_folder};
use shared::lifecycle::Signals;
use shared::storage::{StorageMetrics, Storages};
use shared::telemetry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::ctx::Ctx;
use crate::ffmpeg::FFMPEG;
use crate::ffprobe::FFPROBE;
use crate::jobs;
use crate::metrics::Metrics;
use crate::process;
use crate::queue::{QueueError, Runner};
use crate::scratch::Scratch;
use crate::settings::Settings;

/// A worker that is ready to take jobs.
pub struct Worker {
    runner: Runner<Ctx>,
    registry: Registry,
    listener: TcpListener,
}

impl Worker {
    /// Opens what the worker needs. The database may still be away.
    ///
    /// # Errors
    /// When FFmpeg is not installed, a folder cannot be made or the port cannot be bound.
    pub async fn bind(settings: Settings) -> anyhow::Result<Self> {
        [FFMPEG, FFPROBE].into_iter().try_for_each(must_be_installed)?;
        let registry = Registry::new();
        let db = shared::db::pool(&settings.shared.database_url, settings.max_connections)?;
        let storage = Storages::open(
            &settings.shared.storage,
            settings.shared.backup.as_ref(),
            &StorageMetrics::register(&registry)?,
        )
        .await?;
        let ctx = Ctx {
            db: db.clone(),
            clock: Arc::new(SystemClock),
            spool: settings.shared.spool.open(&settings.scratch_dir).await?,
            storage: storage.clone(),
            keys: settings.shared.keys,
            scratch: Arc::new(
                Scratch::open(&settings.scratch_dir)
                    .map_err(|error| unusable_folder("SCRATCH_DIR", error))?,
            ),
            media: settings.shared.media,
            retention: settings.shared.retention,
            capture_keep: settings.shared.capture_keep,
            sweep_patience: settings.sweep_patience,
            started_at: SystemClock.now(),
            ffmpeg_threads: settings.ffmpeg_threads,
            metrics: Metrics::register(&registry)?,
        };
        jobs::expire_recordings::must_fit_the_disk(&ctx)?;
        crate::queue::register_metrics(&registry)?;
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.metrics_port));
        let listener = TcpListener::bind(address).await.context("METRICS_PORT cannot be used")?;
        let runner = jobs::register(Runner::new(db, settings.queue, ctx), settings.concurrency, &storage);
        Ok(Self { runner, registry, listener })
    }

    /// Where metrics are served.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn metrics_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes jobs until `stop` is cancelled; running jobs then have their grace to finish.
    ///
    /// # Errors
    /// When the queue ends by itself: the process must be started anew.
    pub async fn run(self, stop: CancellationToken) -> Result<(), QueueError> {
        info!("worker takes jobs; metrics on port {}", self.listener.local_addr().map_or(0, |at| at.port()));
        let metrics = AbortOnDropHandle::new(tokio::spawn(serve_metrics(self.listener, self.registry)));
        let ended = self.runner.run(stop).await;
        drop(metrics);
        ended
    }

    /// Takes jobs until a signal comes. A second signal ends at once.
    pub async fn run_until(self, mut signals: Signals) -> ExitCode {
        let stop = CancellationToken::new();
        let running = self.run(stop.clone());
        tokio::pin!(running);
        let ended = tokio::select! {
            ended = &mut running => ended,
            () = signals.recv() => {
                info!("asked to stop: running jobs may finish");
                stop.cancel();
                tokio::select! {
                    ended = &mut running => ended,
                    () = signals.recv() => {
                        warn!("second signal: ending at once; what runs is taken up elsewhere");
                        return ExitCode::FAILURE;
                    }
                }
            }
        };
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                error!("the worker ends to be started anew: {reason}");
                ExitCode::FAILURE
            }
        }
    }
}

/// A worker without FFmpeg must not take jobs that it can only fail.
fn must_be_installed(program: &str) -> Result<(), EnvError> {
    if process::is_installed(program) {
        return Ok(());
    }
    Err(EnvError::not_installed(program, process::PATH))
}

async fn serve_metrics(listener: TcpListener, registry: Registry) {
    let text = move || {
        let text = telemetry::render(&registry);
        async move { ([(CONTENT_TYPE, telemetry::METRICS_CONTENT_TYPE)], text) }
    };
    let routes = Router::new().route("/metrics", get(text)).route("/healthz", get(async || "ok\n"));
    if let Err(error) = axum::serve(listener, routes).await {
        warn!("metrics are no longer served: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_named() {
        assert_eq!(must_be_installed("sh"), Ok(()));
        let missing = must_be_installed("no-such-program").unwrap_err().to_string();
        assert!(missing.starts_with("no-such-program is not installed"), "{missing}");
    }
}
