//! Tells the database that this edge is there. A database that is away is told later; nothing else waits for it.

use std::time::Duration;

use shared::clock::Timestamp;
use shared::db::edges;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::app::App;

/// How often an edge says that it is alive.
const SEEN_EVERY: Duration = Duration::from_secs(5);
/// The longest that one such statement may take: less than the interval, so that none overtakes another.
const SAYING_MAX: Duration = Duration::from_secs(4);

/// Registers this edge (once now, so that recordings may refer to it from the first request on), and goes on saying that it
/// is alive until the process is asked to stop.
pub(crate) async fn announce(app: &App) {
    let started_at = app.clock.now();
    let registered = say(app, Registered::No, started_at).await;
    let (app, stop) = (app.clone(), app.tasks.stop.clone());
    let tasks = app.tasks.clone();
    tasks.spawn(async move {
        stop.run_until_cancelled(keep_saying(&app, registered, started_at)).await;
    });
}

#[derive(Debug, Clone, Copy)]
enum Registered {
    Yes,
    No,
}

async fn keep_saying(app: &App, mut registered: Registered, started_at: Timestamp) {
    let mut ticks = interval(SEEN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        registered = say(app, registered, started_at).await;
    }
}

async fn say(app: &App, registered: Registered, started_at: Timestamp) -> Registered {
    let id = app.ingest.edge_id();
    let said = tokio::time::timeout(SAYING_MAX, async {
        match registered {
            Registered::Yes => edges::seen(&app.db, id, app.clock.now()).await,
            Registered::No => {
                edges::register(&app.db, id, app.links.base(), env!("CARGO_PKG_VERSION"), started_at).await
            }
        }
    });
    match said.await {
        Ok(Ok(())) => Registered::Yes,
        Ok(Err(error)) => {
            warn!(edge.id = %id, "cannot tell the database that this edge is alive: {error}");
            registered
        }
        Err(_) => {
            warn!(edge.id = %id, "the database took too long to hear that this edge is alive");
            registered
        }
    }
}
