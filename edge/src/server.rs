//! Binding, running and stopping. Port 0 works, so that tests start the edge in the same way as `main`.
//!
//! Decision: the port is bound before the capture is opened. A wrong `PORT` shows at once, and clients that come while the
//! capture recovers wait in the kernel's backlog instead of being refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use prometheus::Registry;
use shared::clock::SharedClock;
use shared::lifecycle::Tasks;
use shared::storage::{StorageMetrics, Storages};
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::app::App;
use crate::auth::Auth;
use crate::driver::Media;
use crate::http::limits::Limits;
use crate::http::links::Links;
use crate::http::metrics::Metrics;
use crate::ingest::Ingest;
use crate::recordings::Starter;
use crate::rooms::Rooms;
use crate::settings::{DevLogin, Settings};
use crate::{http, presence};

mod connections;

/// An edge that is bound and ready to serve.
pub struct Edge {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    tasks: Tasks,
}

impl Edge {
    /// Binds the port, opens storage and capture, starts the background tasks.
    ///
    /// # Errors
    /// When the port is taken, or a folder cannot be made.
    pub async fn bind(settings: Settings, clock: SharedClock, tasks: Tasks) -> anyhow::Result<Self> {
        let listener = listen(&settings).await?;
        let address = listener.local_addr()?;
        let app = open(settings, address, clock, tasks.clone()).await?;
        presence::announce(&app).await;
        Ok(Self { listener, address, router: http::router(app), tasks })
    }

    /// What was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the tasks are asked to stop; then no connection is accepted, and running requests finish.
    pub fn serve(self) {
        info!(http.address = %self.address, "listening on http://{}", self.address);
        let stop = self.tasks.stop.clone();
        self.tasks.spawn(connections::serve(self.listener, self.router, stop));
    }
}

/// With the development login, anybody who reaches the port can be anybody: then only this machine reaches it.
async fn listen(settings: &Settings) -> anyhow::Result<TcpListener> {
    let host = match settings.dev_login {
        DevLogin::On => Ipv4Addr::LOCALHOST,
        DevLogin::Off => Ipv4Addr::UNSPECIFIED,
    };
    TcpListener::bind((host, settings.port))
        .await
        .with_context(|| format!("cannot listen on {host}:{}", settings.port))
}

async fn open(
    mut settings: Settings,
    address: SocketAddr,
    clock: SharedClock,
    tasks: Tasks,
) -> anyhow::Result<App> {
    if settings.dev_login == DevLogin::On {
        warn!("DEV_LOGIN is on: POST /dev/token hands out a token for any name to whoever asks");
    }
    let public_url = settings.public_url.clone();
    let public_url = public_url.unwrap_or_else(|| format!("http://127.0.0.1:{}", address.port()));
    settings.ingest.public_url.clone_from(&public_url);
    let registry = Registry::new();
    let metrics = Metrics::register(registry.clone())?;
    let db = shared::db::pool(&settings.shared.database_url, settings.database_max_connections)?;
    let storage = Storages::open(
        &settings.shared.storage,
        settings.shared.backup.as_ref(),
        &StorageMetrics::register(&registry)?,
    )
    .await?;
    let auth = Auth::start(&settings.auth, &tasks).await?;
    let limits = Limits::start(settings.rates, settings.client_address, &tasks);
    let ingest =
        Ingest::open(settings.ingest.clone(), db.clone(), clock.clone(), tasks.clone(), &registry).await?;
    let (media, happened) =
        Media::start(&settings.media, settings.rooms.ice.own_turn(), &clock, &registry, &tasks)?;
    let starter = Starter {
        db: db.clone(),
        clock: Arc::clone(&clock),
        ingest: ingest.clone(),
        max_duration: settings.ingest.max_duration,
    };
    let rooms = Rooms::start(settings.rooms.clone(), starter, media, happened, &registry, &tasks)?;
    Ok(App {
        rooms,
        db,
        clock,
        settings: Arc::new(settings),
        auth,
        ingest,
        storage,
        metrics,
        limits,
        links: Links::new(public_url),
        tasks,
    })
}
