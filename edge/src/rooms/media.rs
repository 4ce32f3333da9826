//! What the media threads tell: descriptions for clients, who speaks, who is lost, and figures of quality.

use serde_json::{Value, json};
use sfu::{Event, LegReport, PeerReport, TrackReport};
use shared::id::{CallId, UserId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::info;

use super::Rooms;
use crate::driver::Overloaded;
use crate::error::Code;
use crate::signal::frame::{BadFrame, LeaveReason, Outgoing};

/// How many reports may be waited for at once; more are asked by nobody but a flood.
const REPORTS_MAX: usize = 1_024;

/// Passes on what happens until the media threads end.
pub(super) async fn listen(rooms: Rooms, mut happened: mpsc::Receiver<Event>) {
    while let Some(event) = happened.recv().await {
        rooms.on(event);
    }
}

impl Rooms {
    fn on(&self, event: Event) {
        match event {
            Event::Answer { peer, sdp } => self.tell_peer(peer, &Outgoing::Answer(sdp)),
            Event::Offer { peer, sdp } => self.tell_peer(peer, &Outgoing::Offer(sdp)),
            Event::Refused { peer, error } => {
                let bad =
                    BadFrame { code: Code::InvalidDescription, detail: error.to_string(), request: None };
                self.tell_peer(peer, &Outgoing::Error(bad));
            }
            Event::ActiveSpeaker { room, user } => {
                let user = user.and_then(|user| UserId::parse(user.as_str()).ok());
                if let Ok(call) = CallId::parse(room.as_str()) {
                    self.tell(&call, &Outgoing::ActiveSpeaker(user));
                }
            }
            Event::Failed { peer } => self.failed(peer),
            Event::Report { token, peers } => {
                if let Some(waiting) = self.0.state().reports.remove(&token) {
                    // Whoever asked may be gone.
                    let _ = waiting.send(peers);
                }
            }
            Event::Connected { peer } => info!("media of session {peer} are connected"),
            Event::Lost { peer } => info!("media of session {peer} are silent"),
            Event::Published { .. } | Event::Unpublished { .. } => {}
        }
    }

    fn tell_peer(&self, peer: sfu::PeerId, what: &Outgoing) {
        let state = self.0.state();
        if let Some((call, user)) = state.peers.get(&peer)
            && let Some(room) = state.rooms.get(call)
        {
            room.tell_peer(user, peer, what);
        }
    }

    /// A connection that is over takes its person along, when their socket is gone as well; a client that is there opens a new
    /// one with its next offer.
    fn failed(&self, peer: sfu::PeerId) {
        let inner = &*self.0;
        let mut state = inner.state();
        let Some((call, user)) = state.peers.get(&peer).cloned() else { return };
        let fresh = state.new_peer();
        let Some(room) = state.rooms.get_mut(&call).filter(|room| room.has_peer(&user, peer)) else { return };
        if room.is_away(&user) {
            return room.remove(&user, LeaveReason::Disconnected, inner);
        }
        if room.renew(&user, fresh, &inner.media).is_ok() {
            state.peers.remove(&peer);
            state.peers.insert(fresh, (call, user));
        }
    }

    /// Figures of quality of one call, or of all.
    ///
    /// # Errors
    /// When the media thread has too much to do.
    pub(crate) async fn report(&self, call: &CallId) -> Result<Vec<PeerReport>, Overloaded> {
        let (waiting, told) = oneshot::channel();
        {
            let mut state = self.0.state();
            let Some(shard) = state.rooms.get(call).map(|room| room.shard) else { return Ok(Vec::new()) };
            if state.reports.len() >= REPORTS_MAX {
                return Err(Overloaded);
            }
            state.last_report += 1;
            let token = state.last_report;
            let room = Some(sfu::RoomId::new(call.as_str()));
            self.0.media.command(shard, sfu::Command::Report { room, token })?;
            state.reports.insert(token, waiting);
        }
        told.await.map_err(|_| Overloaded)
    }
}

/// Tells every room its figures, every `QUALITY_INTERVAL_MS`.
pub(super) async fn tell_quality(rooms: Rooms) {
    let mut ticks = tokio::time::interval(rooms.0.settings.quality_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let calls: Vec<CallId> = rooms.0.state().rooms.keys().cloned().collect();
        for call in calls {
            if let Ok(peers) = rooms.report(&call).await {
                let figures: Vec<Value> = peers.iter().map(quality).collect();
                rooms.tell(&call, &Outgoing::Quality(json!({ "participants": figures })));
            }
        }
    }
}

/// One person's figures as JSON.
pub(crate) fn quality(report: &PeerReport) -> Value {
    json!({
        "userId": report.user.as_str(),
        "published": report.published.iter().map(published).collect::<Vec<_>>(),
        "received": report.received.iter().map(received).collect::<Vec<_>>(),
    })
}

fn published(track: &TrackReport) -> Value {
    json!({ "kind": track.medium.as_str(), "layer": track.rid, "packets": track.packets, "bytes": track.bytes })
}

fn received(leg: &LegReport) -> Value {
    json!({
        "userId": leg.of.as_str(),
        "kind": leg.medium.as_str(),
        "layer": leg.rid,
        "packets": leg.packets,
        "bytes": leg.bytes,
        "loss": leg.loss,
        "jitterMs": leg.jitter.as_secs_f64() * 1e3,
        "roundTripMs": leg.round_trip.map(|time| time.as_secs_f64() * 1e3),
    })
}
