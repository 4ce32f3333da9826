//! Figures: how well media flow in a call, and how much this edge carries.
//!
//! Numbers are the media threads' own; this file asks for them and writes them down. A thread that has too much to do gives none.

use std::time::Duration;

use serde_json::{Value, json};
use sfu::{LegReport, PeerReport, TrackReport};
use shared::clock::Timestamp;
use shared::id::{CallId, UserId};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, timeout};

use super::{Denied, Metrics, Room, Rooms, overloaded};
use crate::driver::{Overloaded, ShardId, Traffic};
use crate::signal::frame::Outgoing;

/// How many reports may be waited for at once; more are asked by nobody but a flood.
const REPORTS_MAX: usize = 1_024;
/// How long a media thread may take for its figures; it takes milliseconds. Rooms of other threads wait behind it,
/// once in each round.
const REPORT_MAX: Duration = Duration::from_secs(2);

/// What this edge carries now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Rooms with somebody in them.
    pub(crate) rooms: usize,
    /// People in them.
    pub(crate) participants: usize,
    /// Bytes since the process began.
    pub(crate) traffic: Traffic,
}

/// Somebody in a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InCall {
    /// Who.
    pub(crate) user: UserId,
    /// Since when.
    pub(crate) joined_at: Timestamp,
    /// What comes from them, one per track and layer.
    pub(crate) published: Value,
    /// What goes to them, one per track.
    pub(crate) received: Value,
}

impl Rooms {
    /// What this edge carries now.
    pub(crate) fn carried(&self) -> Carried {
        let state = self.0.state();
        let rooms = state.rooms.values().filter(|room| !room.is_empty()).count();
        let participants = state.rooms.values().map(Room::present).sum();
        Carried { rooms, participants, traffic: self.0.media.traffic() }
    }

    /// Everybody in a call, with figures of quality. `None`: it has no room here.
    ///
    /// # Errors
    /// `overloaded`.
    pub(crate) async fn in_call(&self, call: &CallId) -> Result<Option<Vec<InCall>>, Denied> {
        let people: Vec<(UserId, sfu::PeerId, Timestamp)> = match self.0.state().rooms.get(call) {
            None => return Ok(None),
            Some(room) => {
                room.members().map(|(user, member)| (user.clone(), member.peer, member.joined_at)).collect()
            }
        };
        let reports = self.report(call).await.map_err(overloaded)?;
        let in_call = people.into_iter().map(|(user, peer, joined_at)| {
            // Somebody who has just come may not be known to the media thread.
            let report = reports.iter().find(|report| report.peer == peer);
            let published = report.map_or_else(|| json!([]), |report| all(&report.published, published));
            let received = report.map_or_else(|| json!([]), |report| all(&report.received, received));
            InCall { user, joined_at, published, received }
        });
        Ok(Some(in_call.collect()))
    }

    /// Figures of quality of one call.
    ///
    /// # Errors
    /// When the media thread has too much to do, or is no more.
    async fn report(&self, call: &CallId) -> Result<Vec<PeerReport>, Overloaded> {
        let (waiting, told) = oneshot::channel();
        let token = {
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
            token
        };
        let told = timeout(REPORT_MAX, told).await;
        told.ok().and_then(Result::ok).ok_or_else(|| {
            self.0.state().reports.remove(&token);
            Overloaded
        })
    }
}

/// Tells every room its figures, and operators those of all, every `QUALITY_INTERVAL_MS`.
pub(super) async fn tell_quality(rooms: Rooms, mut metrics: Metrics) {
    let mut ticks = tokio::time::interval(rooms.0.settings.quality_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell_quality_once(&rooms, &mut metrics).await;
    }
}

/// One round. A thread that has no figures for one room is not waited for again.
pub(super) async fn tell_quality_once(rooms: &Rooms, metrics: &mut Metrics) {
    let calls: Vec<(CallId, ShardId)> = {
        let state = rooms.0.state();
        state.rooms.iter().map(|(call, room)| (call.clone(), room.shard)).collect()
    };
    let mut silent: Vec<ShardId> = Vec::new();
    for (call, shard) in &calls {
        if silent.contains(shard) {
            continue;
        }
        let Ok(peers) = rooms.report(call).await else {
            silent.push(*shard);
            continue;
        };
        for report in peers.iter().filter(|report| is_person(report)) {
            let figures = json!({ "participants": all_seen_by(report.peer, &peers) });
            rooms.tell_peer(report.peer, &Outgoing::Quality(figures));
        }
        metrics.observe(call, &peers);
    }
    let calls: Vec<CallId> = calls.into_iter().map(|(call, _)| call).collect();
    metrics.forget_all_but(&calls);
}

/// What one person is told: of everybody what they publish, and what they themselves receive. What all receive of all grows with the
/// square of a room: 50 people would be sent 0.8 MB each time.
fn all_seen_by(peer: sfu::PeerId, peers: &[PeerReport]) -> Value {
    let one = |report: &PeerReport| {
        let mut told = json!({
            "userId": report.user.as_str(),
            "published": all(&report.published, published),
            "estimateBps": report.estimate_bps,
        });
        if report.peer == peer {
            told["received"] = all(&report.received, received);
        }
        told
    };
    peers.iter().filter(|report| is_person(report)).map(one).collect()
}

/// Players are told to nobody.
fn is_person(report: &PeerReport) -> bool {
    UserId::parse(report.user.as_str()).is_ok()
}

fn all<T>(of: &[T], told: fn(&T) -> Value) -> Value {
    of.iter().map(told).collect()
}

fn published(track: &TrackReport) -> Value {
    json!({
        "kind": track.medium.as_str(),
        "layer": track.rid,
        "packets": track.packets,
        "bytes": track.bytes,
        "overLimit": track.over_limit,
        "bitrateBps": track.bitrate_bps,
        "loss": track.loss,
        "jitterMs": track.jitter.as_secs_f64() * 1e3,
    })
}

fn received(leg: &LegReport) -> Value {
    json!({
        "userId": leg.of.as_str(),
        "kind": leg.medium.as_str(),
        "layer": leg.rid,
        "packets": leg.packets,
        "bytes": leg.bytes,
        "bitrateBps": leg.bitrate_bps,
        "loss": leg.loss,
        "jitterMs": leg.jitter.as_secs_f64() * 1e3,
        "roundTripMs": leg.round_trip.map(|time| time.as_secs_f64() * 1e3),
    })
}
