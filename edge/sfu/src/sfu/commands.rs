//! Commands that are not about descriptions: who comes and goes, what is wanted, muted and recorded.

use std::time::Instant;

use bytes::BytesMut;

use crate::command::{Command, Muting, Pausing, Role};
use crate::event::{Event, SignalError};
use crate::ids::{Medium, PeerId, RoomId, User};
use crate::negotiation::{Manners, Negotiation};
use crate::peer::{Peer, Publishing};
use crate::session::Session;
use crate::sfu::Sfu;
use crate::tap::{Tap, TapMark};
use crate::track::Track;

/// Share of the sessions that only rooms that run can have: those who are late, and those who reload.
const KEPT_PERCENT: usize = 10;

impl Sfu {
    pub(super) fn carry_out(&mut self, now: Instant, command: Command) {
        match command {
            Command::Join { room, peer, user, role } => self.join(now, room, peer, user, role),
            Command::Renew { peer, fresh } => self.renew(now, peer, fresh),
            Command::Leave { peer } => self.depart(now, peer),
            Command::CloseRoom { room } => self.close_room(now, &room),
            Command::Offer { peer, sdp, screens } => self.on_offer(now, peer, sdp, screens),
            Command::Answer { peer, sdp } => self.on_answer(now, peer, &sdp),
            Command::Candidate { peer, candidate } => self.on_candidate(peer, candidate.as_deref()),
            Command::Subscribe { peer, of, medium, wish } => {
                if let Some(session) = self.sessions.get_mut(&peer) {
                    session.wish(of, medium, wish);
                    self.subscribe_all(now, peer);
                    self.share(now, peer);
                }
            }
            Command::Mute { peer, medium, muting } => self.mute(now, peer, medium, muting),
            Command::Record { room, tap } => self.record(now, &room, tap),
            Command::Pause { room, pausing } => self.pause(now, &room, pausing),
            Command::Report { room, token } => self.report(now, room.as_ref(), token),
        }
    }

    fn join(&mut self, now: Instant, room: RoomId, id: PeerId, user: User, role: Role) {
        if self.sessions.contains_key(&id) {
            return self.refuse(id, SignalError::AlreadyJoined);
        }
        if self.is_full_for(&room) {
            return self.refuse(id, SignalError::Full);
        }
        let negotiation = Negotiation::new(manners(&role), now);
        let session = match self.session(now, room, user, role, negotiation) {
            Ok(session) => session,
            Err(error) => return self.refuse(id, error),
        };
        let (at, user) = (self.unix_us(now), session.user.clone());
        self.enter(now, id, session);
        if let Some(there) = self.sessions.get(&id).and_then(|session| self.rooms.get_mut(&session.room)) {
            // An older session's mutes are not this one's.
            there.mark(&user, None, at, TapMark::Unmuted);
        }
    }

    /// Whether or not the fresh session can be made, the older one ends: its connection is over.
    fn renew(&mut self, now: Instant, older: PeerId, id: PeerId) {
        if self.sessions.contains_key(&id) {
            return self.refuse(id, SignalError::AlreadyJoined);
        }
        let Some(older) = self.leave(now, older) else {
            return self.refuse(id, SignalError::NotMade("nobody is there to take the place of".to_owned()));
        };
        let (room, user, role) = (older.room.clone(), older.user.clone(), older.role.clone());
        let negotiation = Negotiation::renewed(manners(&role));
        let mut session = match self.session(now, room, user, role, negotiation) {
            Ok(session) => session,
            Err(error) => return self.refuse(id, error),
        };
        session.take_over(older);
        let muted = session.is_muted_whole();
        self.enter(now, id, session);
        if muted {
            self.mark_timeline(now, id, None, TapMark::Muted);
        }
    }

    fn session(
        &self,
        now: Instant,
        room: RoomId,
        user: User,
        role: Role,
        negotiation: Negotiation,
    ) -> Result<Session, SignalError> {
        let publishing = match role {
            Role::Member(_) | Role::Publisher => Publishing::Allowed,
            Role::Listener(_) | Role::Player { .. } => Publishing::Refused,
        };
        let peer = Peer::new(&self.factory, publishing, now)
            .map_err(|error| SignalError::NotMade(error.to_string()))?;
        Ok(Session::new(room, user, role, peer, negotiation))
    }

    fn enter(&mut self, now: Instant, id: PeerId, session: Session) {
        let at = self.unix_us(now);
        let there = self.rooms.entry(session.room.clone()).or_default();
        there.mark(&session.user, None, at, TapMark::Joined);
        there.members.push(id);
        self.sessions.insert(id, session);
        self.subscribe_all(now, id);
        self.mark(id);
    }

    /// Whether nobody may come into a room: the last of the capacity is for rooms that run.
    fn is_full_for(&self, room: &RoomId) -> bool {
        let kept = if self.rooms.contains_key(room) { 0 } else { self.max_sessions * KEPT_PERCENT / 100 };
        self.sessions.len() + kept >= self.max_sessions
    }

    /// Ends a session. With somebody's last one goes what the others wanted of them.
    fn depart(&mut self, now: Instant, id: PeerId) {
        let Some(Session { room, user, .. }) = self.leave(now, id) else { return };
        let members = self.rooms.get(&room).map(|there| there.members.clone()).unwrap_or_default();
        let is_theirs = |other: &PeerId| self.sessions.get(other).is_some_and(|other| other.user == user);
        if members.iter().any(is_theirs) {
            return;
        }
        for member in members {
            if let Some(session) = self.sessions.get_mut(&member) {
                session.forget(&user);
            }
        }
    }

    /// Ends a session and gives what is left of it.
    fn leave(&mut self, now: Instant, id: PeerId) -> Option<Session> {
        let mut session = self.sessions.remove(&id)?;
        session.peer.close();
        let farewells = &mut self.farewells;
        session.peer.flush(now, &mut |path, datagram| farewells.push((path, BytesMut::from(datagram))));
        self.demux.remove(id);
        self.timers.remove(&id);
        let at = self.unix_us(now);
        let room = self.rooms.get_mut(&session.room)?;
        room.members.retain(|member| *member != id);
        let same = |other: &PeerId| self.sessions.get(other).is_some_and(|other| other.user == session.user);
        let stays = room.members.iter().any(same);
        for track in room.tracks.values_mut() {
            track.legs.retain(|leg| leg.peer != id);
        }
        for track in room.tracks_of(id) {
            self.unpublish(&session.room, track);
        }
        self.forget_voice(id, &session.room);
        if let Some(room) = self.rooms.get_mut(&session.room).filter(|_| !stays) {
            room.mark(&session.user, None, at, TapMark::Left);
        }
        self.forget_idle(&session.room);
        Some(session)
    }

    fn close_room(&mut self, now: Instant, room: &RoomId) {
        let members = self.rooms.get_mut(room).map(|there| there.members.clone()).unwrap_or_default();
        for id in members {
            self.leave(now, id);
        }
        self.rooms.remove(room);
        self.room_timers.remove(room);
    }

    fn forget_idle(&mut self, room: &RoomId) {
        if self.rooms.get(room).is_some_and(crate::room::Room::is_idle) {
            self.rooms.remove(room);
            self.room_timers.remove(room);
        }
    }

    fn mute(&mut self, now: Instant, id: PeerId, medium: Option<Medium>, muting: Muting) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.mute(medium, muting);
        let Some(room) = self.rooms.get_mut(&session.room) else { return };
        for track in room
            .tracks
            .values_mut()
            .filter(|track| track.owner == id && medium.is_none_or(|only| only == track.medium))
        {
            if muting == Muting::Muted {
                track.pause();
            } else if track.muting == Muting::Muted {
                track.want_keyframes(now);
            }
            track.muting = muting;
        }
        let members = room.members.clone();
        for member in members {
            self.share(now, member);
        }
        if medium.is_none_or(|only| only == Medium::Audio) {
            self.switch_microphone(now, id);
        }
        let mark = if muting == Muting::Muted { TapMark::Muted } else { TapMark::Unmuted };
        self.mark_timeline(now, id, medium, mark);
        self.mark(id);
    }

    fn record(&mut self, now: Instant, room: &RoomId, tap: Option<Box<dyn Tap>>) {
        let at = self.unix_us(now);
        let there = self.rooms.entry(room.clone()).or_default();
        (there.tap, there.pausing) = (tap, Pausing::Running);
        if there.tap.is_none() {
            there.tracks.values_mut().for_each(Track::end_tap);
        } else {
            there.tracks.values_mut().for_each(|track| track.begin_tap(now));
            let members = there.members.clone();
            for id in &members {
                self.mark(*id);
            }
            self.mark_present(at, room, &members);
        }
        self.forget_idle(room);
    }

    fn pause(&mut self, now: Instant, room: &RoomId, pausing: Pausing) {
        let at_us = self.unix_us(now);
        let Some(there) = self.rooms.get_mut(room) else { return };
        let Some(tap) = &mut there.tap else { return };
        match (there.pausing, pausing) {
            (Pausing::Running, Pausing::Paused { since_us }) => {
                tap.pause(since_us.min(at_us));
                there.tracks.values_mut().for_each(Track::end_tap);
            }
            (Pausing::Paused { .. }, Pausing::Running) => {
                tap.resume(at_us);
                there.tracks.values_mut().for_each(|track| track.begin_tap(now));
                let members = there.members.clone();
                members.into_iter().for_each(|member| self.mark(member));
            }
            _ => return,
        }
        if let Some(there) = self.rooms.get_mut(room) {
            there.pausing = pausing;
        }
    }

    /// Tells a new recording who is there and what is muted.
    fn mark_present(&mut self, at: i64, room: &RoomId, members: &[PeerId]) {
        let Some(there) = self.rooms.get_mut(room) else { return };
        for session in members.iter().filter_map(|id| self.sessions.get(id)) {
            there.mark(&session.user, None, at, TapMark::Joined);
            if session.is_muted_whole() {
                there.mark(&session.user, None, at, TapMark::Muted);
            }
        }
        // A screen's sound stands in its pictures' log, and they tell.
        let telling = there.tracks.values().filter(|track| track.medium != Medium::ScreenAudio);
        let of = |track: &Track| {
            let mark = self.sessions.get(&track.owner)?.muted_mark(track.medium)?;
            Some((track.user.clone(), track.medium, mark))
        };
        let muted: Vec<(User, Medium, TapMark)> = telling.filter_map(of).collect();
        for (user, medium, mark) in muted {
            there.mark(&user, Some(medium), at, mark);
        }
    }

    pub(super) fn refuse(&mut self, peer: PeerId, error: SignalError) {
        self.events.push_back(Event::Refused { peer, error });
    }
}

fn manners(role: &Role) -> Manners {
    match role {
        Role::Member(_) | Role::Listener(_) => Manners::BothOffer,
        Role::Publisher | Role::Player { .. } => Manners::ClientOffers,
    }
}
