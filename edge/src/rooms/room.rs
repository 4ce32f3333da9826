//! One room: who sits in it, and who is told what. Changes memory and queues; waits for nothing.

use std::collections::{BTreeMap, HashMap};

use axum::extract::ws::Utf8Bytes;
use serde_json::Value;
use shared::clock::Timestamp;
use shared::id::{CallId, RecordingId, UserId};
use tokio::time::Instant;

use super::facts::{Fact, Facts};
use super::outbox::{Goodbye, Outbox};
use super::players::Player;
use super::resources::Link;
use super::{AWAY_MAX, Denied, Inner, Publishing, Seat};
use crate::driver::{Media, Overloaded, ShardId};
use crate::error::Code;
use crate::ice::IceServer;
use crate::signal::frame::{Kind, Layer, LeaveReason, Outgoing, Person, Size, Subscription};

/// A room.
pub(super) struct Room {
    pub(super) call: CallId,
    pub(super) host: UserId,
    pub(super) shard: ShardId,
    /// How many may be in it at once.
    pub(super) max: usize,
    /// The recording that the room's tap writes to.
    pub(super) recording: Option<RecordingId>,
    /// Whether the tap rests.
    pub(super) pausing: sfu::Pausing,
    /// Recordings that have stopped and whose end people still wait for, oldest first.
    pub(super) awaited: Vec<RecordingId>,
    pub(super) players: HashMap<sfu::PeerId, Player>,
    members: BTreeMap<UserId, Member>,
}

/// Somebody in it.
pub(super) struct Member {
    pub(super) peer: sfu::PeerId,
    pub(super) publishing: Publishing,
    pub(super) session: String,
    pub(super) presence: Presence,
    pub(super) metadata: Option<Value>,
    pub(super) muted: Vec<Kind>,
    pub(super) joined_at: Timestamp,
    /// What comes from them.
    pub(super) publishes: Vec<sfu::Medium>,
}

impl Member {
    pub(super) fn new(
        peer: sfu::PeerId,
        publishing: Publishing,
        session: String,
        presence: Presence,
        metadata: Option<Value>,
        joined_at: Timestamp,
    ) -> Self {
        let (muted, publishes) = (Vec::new(), Vec::new());
        Self { peer, publishing, session, presence, metadata, muted, joined_at, publishes }
    }
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
    /// They publish by WHIP and have none.
    Publishing(Link),
}

impl Room {
    pub(super) fn new(call: CallId, host: UserId, max: usize, shard: ShardId) -> Self {
        let (players, members) = (HashMap::new(), BTreeMap::new());
        Self {
            call,
            host,
            shard,
            max,
            recording: None,
            pausing: sfu::Pausing::Running,
            awaited: Vec::new(),
            players,
            members,
        }
    }

    /// Whether the room has stayed where a session of it was begun.
    pub(super) fn is_on(&self, shard: ShardId) -> Result<(), Denied> {
        if self.shard == shard {
            return Ok(());
        }
        Err((Code::Overloaded, "the call has just begun elsewhere; try again".to_owned()))
    }

    /// Whether somebody more, or again, may sit down.
    pub(super) fn has_space_for(&self, user: &UserId) -> Result<(), Denied> {
        if self.members.contains_key(user) { Ok(()) } else { self.has_space() }
    }

    /// Whether a seat is free.
    pub(super) fn has_space(&self) -> Result<(), Denied> {
        if self.sessions() < self.max {
            return Ok(());
        }
        Err((Code::RoomFull, format!("the call takes {} people", self.max)))
    }

    /// Gives a lost socket's seat to the new socket of the same session, unless its token grants something else.
    pub(super) fn take_up(
        &mut self,
        user: &UserId,
        session: Option<&str>,
        publishing: Publishing,
        outbox: &Outbox,
    ) -> Option<(sfu::PeerId, String)> {
        let resumed = |member: &&mut Member| {
            session == Some(member.session.as_str())
                && publishing == member.publishing
                && !matches!(member.presence, Presence::Publishing(_))
        };
        let member = self.members.get_mut(user).filter(resumed)?;
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
            // A session begins without mutes.
            for kind in &older.muted {
                self.tell_others(user, &Outgoing::Unmute(user.clone(), Some(*kind)));
            }
            // A thread with too much to do lets the old connection run out by itself.
            let _ = media.command(self.shard, sfu::Command::Leave { peer: older.peer });
            self.members.insert(user.clone(), member);
            self.end_players_of(user, media);
            return;
        }
        self.members.insert(user.clone(), member);
        if let Some(person) = self.person(user) {
            self.tell_others(user, &Outgoing::ParticipantJoined(person));
        }
        facts.tell(Fact::Joined { call: self.call.clone(), user: user.clone(), at });
    }

    /// What the media thread is asked when somebody comes in.
    pub(super) fn enter(&self, user: &UserId, peer: sfu::PeerId, role: sfu::Role) -> sfu::Command {
        sfu::Command::Join {
            room: sfu::RoomId::new(self.call.as_str()),
            peer,
            user: sfu::User::new(user.as_str()),
            role,
        }
    }

    /// Gives somebody whose connection has failed a new one, that their client's next offer opens. What they have muted and what they
    /// receive stays.
    pub(super) fn renew(
        &mut self,
        user: &UserId,
        peer: sfu::PeerId,
        media: &Media,
    ) -> Result<(), Overloaded> {
        let Some(member) = self.members.get_mut(user) else { return Ok(()) };
        media.command(self.shard, sfu::Command::Renew { peer: member.peer, fresh: peer })?;
        member.peer = peer;
        Ok(())
    }

    /// What somebody who has just sat down is told.
    pub(super) fn joined(&self, user: &UserId, session: &str, ice: &[IceServer]) -> Outgoing {
        let others = self.members.keys().filter(|other| *other != user);
        Outgoing::Joined {
            participants: others.filter_map(|other| self.person(other)).collect(),
            recording: self.recording.clone(),
            recording_paused: self.pausing != sfu::Pausing::Running,
            ice_servers: ice.to_vec(),
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
        let away = |member: &Member| !matches!(member.presence, Presence::Here(_));
        self.member(user).is_some_and(away)
    }

    pub(super) fn has_peer(&self, user: &UserId, peer: sfu::PeerId) -> bool {
        let plays = || self.players.get(&peer).is_some_and(|player| player.user == *user);
        self.members.get(user).is_some_and(|member| member.peer == peer) || plays()
    }

    /// Notes whether media of somebody without a socket can flow.
    pub(super) fn linked(&mut self, user: &UserId, peer: sfu::PeerId, now: Link) {
        if let Some(player) = self.players.get_mut(&peer) {
            player.link = now;
        } else if let Some(Member { presence: Presence::Publishing(link), .. }) = self.of_peer(user, peer) {
            *link = now;
        }
    }

    /// Notes that something comes from somebody.
    pub(super) fn published(&mut self, user: &UserId, peer: sfu::PeerId, medium: sfu::Medium, media: &Media) {
        let Some(member) = self.of_peer(user, peer) else { return };
        member.publishes.push(medium);
        self.end_players_of_medium(user, medium, media);
    }

    /// Notes that something comes no more.
    pub(super) fn unpublished(&mut self, user: &UserId, peer: sfu::PeerId, medium: sfu::Medium) {
        if let Some(member) = self.of_peer(user, peer)
            && let Some(at) = member.publishes.iter().position(|one| *one == medium)
        {
            member.publishes.swap_remove(at);
        }
    }

    fn of_peer(&mut self, user: &UserId, peer: sfu::PeerId) -> Option<&mut Member> {
        self.members.get_mut(user).filter(|member| member.peer == peer)
    }

    /// Notes that a seat's socket is gone, unless a newer one has taken its session up.
    pub(super) fn away(&mut self, seat: &Seat, since: Instant) {
        let member = self.members.get_mut(&seat.user).filter(|member| member.session == seat.session);
        if let Some(member) = member
            && let Presence::Here(outbox) = &member.presence
            && outbox.is_gone()
        {
            member.presence = Presence::Away { since };
        }
    }

    /// Who has been away for too long.
    pub(super) fn gone(&self, now: Instant) -> Vec<UserId> {
        let gone = |member: &Member| match member.presence {
            Presence::Here(_) => false,
            Presence::Away { since } => now.duration_since(since) >= AWAY_MAX,
            Presence::Publishing(link) => link.is_gone(now),
        };
        self.members.iter().filter(|(_, member)| gone(member)).map(|(user, _)| user.clone()).collect()
    }

    pub(super) fn remove(&mut self, user: &UserId, why: LeaveReason, inner: &Inner) {
        let Some(member) = self.members.remove(user) else { return };
        // A thread with too much to do lets the connection run out by itself.
        let _ = inner.media.command(self.shard, sfu::Command::Leave { peer: member.peer });
        self.end_players_of(user, &inner.media);
        self.tell_all(&Outgoing::ParticipantLeft(user.clone(), why));
        let at = inner.clock.now();
        inner.facts.tell(Fact::Left { call: self.call.clone(), user: user.clone(), at });
    }

    /// Ends the place of somebody for whom no connection could be made; their client may try again.
    pub(super) fn turn_away(&mut self, user: &UserId, peer: sfu::PeerId, inner: &Inner) {
        let Some(member) = self.members.get(user).filter(|member| member.peer == peer) else { return };
        if let Presence::Here(outbox) = &member.presence {
            outbox.close(Goodbye::Overloaded);
        }
        self.remove(user, LeaveReason::Disconnected, inner);
    }

    /// Everybody goes: the call is over.
    pub(super) fn close(&mut self) {
        self.tell_all(&Outgoing::RoomClosed);
        for member in std::mem::take(&mut self.members).into_values() {
            if let Presence::Here(outbox) = &member.presence {
                outbox.close(Goodbye::RoomClosed);
            }
        }
        self.players.clear();
    }

    /// Notes a mute, tells the room, and gives what the media threads are to do.
    pub(super) fn mute(
        &mut self,
        seat: &Seat,
        peer: sfu::PeerId,
        kind: Option<Kind>,
        muting: sfu::Muting,
    ) -> sfu::Command {
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
        sfu::Command::Mute { peer, medium: kind.map(medium), muting }
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
        self.pass(what, self.members.iter().filter(|(other, _)| *other != user));
    }

    pub(super) fn tell_all(&self, what: &Outgoing) {
        self.pass(what, self.members.iter());
    }

    /// The frame is written out once for all.
    fn pass<'a>(&self, what: &Outgoing, to: impl Iterator<Item = (&'a UserId, &'a Member)>) {
        let text = Utf8Bytes::from(what.text(Some(&self.call), None));
        to.filter_map(|(_, member)| member.outbox()).for_each(|outbox| outbox.pass(text.clone()));
    }

    pub(super) fn present(&self) -> usize {
        self.members.len()
    }

    /// How many seats are taken.
    pub(super) fn sessions(&self) -> usize {
        self.members.len() + self.players.len()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&UserId, &Member)> {
        self.members.iter()
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
        if let Some(outbox) = self.outbox() {
            outbox.tell(what);
        }
    }

    fn outbox(&self) -> Option<&Outbox> {
        match &self.presence {
            Presence::Here(outbox) => Some(outbox),
            Presence::Away { .. } | Presence::Publishing(_) => None,
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

pub(super) fn wish(wanted: &Subscription) -> sfu::Wish {
    let most = match wanted.layer {
        Some(Layer::Quarter) => sfu::Layer::Quarter,
        Some(Layer::Half) => sfu::Layer::Half,
        Some(Layer::Full) | None => sfu::Layer::Full,
    };
    match wanted.size {
        None => sfu::Wish::UpTo(most),
        Some(Size { width, height }) => sfu::Wish::Tile(most, sfu::codec::Size { width, height }),
    }
}
