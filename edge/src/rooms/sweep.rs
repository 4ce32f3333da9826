//! Ends what has waited long enough: seats of people who stay away, calls that stay empty.

use std::collections::HashMap;
use std::time::Duration;

use shared::id::CallId;
use tokio::time::{Instant, MissedTickBehavior};

use super::facts::{self, Fact};
use super::{Inner, Rooms, State};
use crate::signal::frame::LeaveReason;

/// How often rooms are looked over for people who stay away and calls that stay empty.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Runs until the process stops.
pub(super) async fn run(rooms: Rooms) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut empty_since = facts::calls_left_by_a_crash(&rooms).await;
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let ended = rooms.0.sweep(now, &mut empty_since);
        for call in ended {
            rooms.0.facts.tell(Fact::Empty { call });
        }
    }
}

impl Inner {
    fn sweep(&self, now: Instant, empty_since: &mut HashMap<CallId, Instant>) -> Vec<CallId> {
        let mut state = self.state();
        for room in state.rooms.values_mut() {
            for user in room.gone(now) {
                room.remove(&user, LeaveReason::Disconnected, self);
            }
            for player in room.players_gone(now) {
                room.remove_player(player, self);
            }
        }
        for (call, room) in &state.rooms {
            match room.is_empty() {
                true => _ = empty_since.entry(call.clone()).or_insert(now),
                false => _ = empty_since.remove(call),
            }
        }
        let over = |since: &Instant| now.duration_since(*since) >= self.settings.empty_timeout;
        let ended: Vec<CallId> =
            empty_since.iter().filter(|(_, since)| over(since)).map(|(call, _)| call.clone()).collect();
        for call in &ended {
            empty_since.remove(call);
            self.close(&mut state, call);
        }
        let State { rooms, peers, .. } = &mut *state;
        peers.retain(|peer, (call, user)| rooms.get(call).is_some_and(|room| room.has_peer(user, *peer)));
        state.forget_resources();
        ended
    }
}
