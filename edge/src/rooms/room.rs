//! One room: who sits in it, and who is told what. Changes memory and queues; waits for nothing.

use std::collections::BTreeMap;

use serde_json::Value;
use shared::clock::Timestamp;
use shared::id::{CallId, RecordingId, UserId};
use tokio::time::Instant;

use super::facts::{Fact, Facts};
use super::outbox::{Goodbye, Outbox};
use super::{AWAY_MAX, Denied, Inner, Seat};
use crate::driver::{Media, ShardId};
use crate::error::Code;
use crate::signal::frame::{Kind, Layer, LeaveReason, Outgoing, Person};

/// A room.
pub(super) struct Room {
    pub(super) call: CallId,
    pub(super) host: UserId,
    pub(super) shard: ShardId,
    /// How many may be in it at once.
    pub(super) max: usize,
    /// The recording that the room's tap writes to.
    pub(super) recording: Option<RecordingId>,
    members: BTreeMap<UserId, Member>,
}

/// Somebody in it.
pub(super) struct Member {
    pub(super) peer: sfu::PeerId,
    pub(super) session: String,
    pub(super) presence: Presence,
    pub(super) metadata: Option<Value>,
    pub(super) muted: Vec<Kind>,
    pub(super) joined_at: Timestamp,
}

/// Whether their socket is there.
pub(super) enum Presence {
    /// It is.
    Here(Outbox),
    /// It was lost.
    Away {
        /// When.
        since: Instant,
    },
}

impl Room {
    pub(super) fn new(call: CallId, host: UserId, shard: ShardId) -> Self {
        Self { call, host, shard, max: 0, recording: None, members: BTreeMap::new() }
    }

    /// Whether somebody more, or again, may sit down.
    pub(super) fn has_space_for(&self, user: &UserId) -> Result<(), Denied> {
        if self.members.contains_key(user) || self.members.len() < self.max {
            return Ok(());
        }
        Err((Code::RoomFull, format!("the call takes {} people", self.max)))
    }

    /// Gives a lost socket's seat to the new socket of the same session.
    pub(super) fn take_up(
        &mut self,
        user: &UserId,
        session: Option<&str>,
        outbox: &Outbox,
    ) -> Option<(sfu::PeerId, String)> {
        let member = self.members.get_mut(user).filter(|member| session == Some(member.session.as_str()))?;
        if let Presence::Here(older) = &member.presence {
            older.close(Goodbye::Replaced);
        }
        member.presence = Presence::Here(outbox.clone());
        Some((member.peer, member.session.clone()))
    }

    /// Seats somebody, in the place of their older session if there is one: then nobody else notices.
    pub(super) fn seat(&mut self, user: &UserId, mut member: Member, media: &Media, facts: &Facts) {
        let at = member.joined_at;
        if let Some(older) = self.members.get(user) {
            member.joined_at = older.joined_at;
            if let Presence::Here(outbox) = &older.presence {
                outbox.close(Goodbye::Replaced);
            }
            // A thread with too much to do lets the old connection run out by itself.
            let _ = media.command(self.shard, sfu::Command::Leave { peer: older.peer });
            self.members.insert(user.clone(), member);
            return;
        }
        self.members.insert(user.clone(), member);
        if let Some(person) = self.person(user) {
            self.tell_others(user, &Outgoing::ParticipantJoined(person));
        }
        facts.tell(Fact::Joined { call: self.call.clone(), user: user.clone(), at });
    }

    /// What somebody who has just sat down is told.
    pub(super) fn joined(&self, user: &UserId, session: &str) -> Outgoing {
        let others = self.members.keys().filter(|other| *other != user);
        Outgoing::Joined {
            participants: others.filter_map(|other| self.person(other)).collect(),
            recording: self.recording.clone(),
            ice_servers: Value::Array(Vec::new()),
            session: session.to_owned(),
        }
    }

    /// Whether a seat is still this session's.
    pub(super) fn holds(&self, seat: &Seat) -> Option<&Member> {
        self.members.get(&seat.user).filter(|member| member.session == seat.session)
    }

    pub(super) fn member(&self, user: &UserId) -> Option<&Member> {
        self.members.get(user)
    }

    /// Whether somebody sits there without a socket.
    pub(super) fn is_away(&self, user: &UserId) -> bool {
        self.member(user).is_some_and(|member| matches!(member.presence, Presence::Away { .. }))
    }

    pub(super) fn has_peer(&self, user: &UserId, peer: sfu::PeerId) -> bool {
        self.members.get(user).is_some_and(|member| member.peer == peer)
    }

    /// Notes that a seat's socket is gone, unless a newer one has taken its session up.
    pub(super) fn away(&mut self, seat: &Seat, now: Instant) {
        let member = self.members.get_mut(&seat.user).filter(|member| member.session == seat.session);
        if let Some(member) = member
            && let Presence::Here(outbox) = &member.presence
            && outbox.is_gone()
        {
            member.presence = Presence::Away { since: now };
        }
    }

    /// Who has been away for too long.
    pub(super) fn gone(&self, now: Instant) -> Vec<UserId> {
        let gone = |member: &Member| match member.presence {
            Presence::Here(_) => false,
            Presence::Away { since } => now.duration_since(since) >= AWAY_MAX,
        };
        self.members.iter().filter(|(_, member)| gone(member)).map(|(user, _)| user.clone()).collect()
    }

    pub(super) fn remove(&mut self, user: &UserId, why: LeaveReason, inner: &Inner) {
        let Some(member) = self.members.remove(user) else { return };
        // A thread with too much to do lets the connection run out by itself.
        let _ = inner.media.command(self.shard, sfu::Command::Leave { peer: member.peer });
        self.tell_all(&Outgoing::ParticipantLeft(user.clone(), why));
        let at = inner.clock.now();
        inner.facts.tell(Fact::Left { call: self.call.clone(), user: user.clone(), at });
    }

    /// Everybody goes: the call is over.
    pub(super) fn close(&mut self, inner: &Inner) {
        self.tell_all(&Outgoing::RoomClosed);
        for member in std::mem::take(&mut self.members).into_values() {
            if let Presence::Here(outbox) = &member.presence {
                outbox.close(Goodbye::RoomClosed);
            }
        }
        let room = sfu::RoomId::new(self.call.as_str());
        let _ = inner.media.command(self.shard, sfu::Command::Record { room: room.clone(), tap: None });
        let _ = inner.media.command(self.shard, sfu::Command::CloseRoom { room });
    }

    /// Notes a mute, tells the room, and gives what the media threads are to do.
    pub(super) fn mute(&mut self, seat: &Seat, kind: Option<Kind>, muting: sfu::Muting) -> sfu::Command {
        let told = match muting {
            sfu::Muting::Muted => Outgoing::Mute(seat.user.clone(), kind),
            sfu::Muting::Unmuted => Outgoing::Unmute(seat.user.clone(), kind),
        };
        if let Some(member) = self.members.get_mut(&seat.user) {
            let kinds = kind.map_or(vec![Kind::Audio, Kind::Video], |kind| vec![kind]);
            member.muted.retain(|muted| !kinds.contains(muted));
            if muting == sfu::Muting::Muted {
                member.muted.extend(kinds);
            }
        }
        self.tell_others(&seat.user, &told);
        sfu::Command::Mute { peer: seat.peer, medium: kind.map(medium), muting }
    }

    /// Passes something to one person as it is.
    pub(super) fn relay(
        &self,
        kind: &'static str,
        from: &UserId,
        to: &UserId,
        data: Value,
    ) -> Result<Option<Outgoing>, Denied> {
        let there = self
            .members
            .get(to)
            .ok_or_else(|| (Code::NoSuchParticipant, format!("{to} is not in the call")))?;
        there.tell(&Outgoing::Relayed(kind, from.clone(), data));
        Ok(None)
    }

    pub(super) fn tell_peer(&self, user: &UserId, peer: sfu::PeerId, what: &Outgoing) {
        if let Some(member) = self.members.get(user).filter(|member| member.peer == peer) {
            member.tell(what);
        }
    }

    pub(super) fn tell_others(&self, user: &UserId, what: &Outgoing) {
        self.members.iter().filter(|(other, _)| *other != user).for_each(|(_, member)| member.tell(what));
    }

    pub(super) fn tell_all(&self, what: &Outgoing) {
        self.members.values().for_each(|member| member.tell(what));
    }

    pub(super) fn present(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn person(&self, user: &UserId) -> Option<Person> {
        let member = self.members.get(user)?;
        Some(Person {
            user_id: user.clone(),
            metadata: member.metadata.clone(),
            muted: member.muted.clone(),
            joined_at: member.joined_at,
        })
    }
}

impl Member {
    fn tell(&self, what: &Outgoing) {
        if let Presence::Here(outbox) = &self.presence {
            outbox.tell(what);
        }
    }
}

pub(super) fn medium(kind: Kind) -> sfu::Medium {
    match kind {
        Kind::Audio => sfu::Medium::Audio,
        Kind::Video => sfu::Medium::Video,
        Kind::Screen => sfu::Medium::Screen,
    }
}

pub(super) fn layer(layer: Option<Layer>) -> sfu::Layer {
    match layer {
        Some(Layer::Quarter) => sfu::Layer::Quarter,
        Some(Layer::Half) => sfu::Layer::Half,
        Some(Layer::Full) | None => sfu::Layer::Full,
    }
}
