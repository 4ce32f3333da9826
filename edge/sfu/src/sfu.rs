//! One shard: takes commands, datagrams and the time, and gives out datagrams and events.
//!
//! It must not know how sessions agree on media (`peer`) or which packet goes where (`track`): it finds the ones concerned and
//! carries things between them. Work is done at once for what came in, and once per batch for what goes out: a session that
//! something was done to is marked and looked after in [`Sfu::flush`].

mod commands;
mod forwarding;
mod publishing;
mod reporting;
mod sharing;
mod signaling;
mod speaking;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use crate::command::Command;
use crate::config::{Config, ConfigError};
use crate::demux::Demux;
use crate::event::Event;
use crate::ids::{PeerId, RoomId};
use crate::layers::trial::Trials;
use crate::negotiation::Standing;
use crate::path::{Arrival, Fate, Path};
use crate::peer::{Factory, PeerEvent};
use crate::room::Room;
use crate::session::Session;
use crate::tap::TapMark;
use crate::timers::Timers;
use crate::track::{Out, TrackId};

/// Everything of one shard.
pub struct Sfu {
    factory: Arc<Factory>,
    sessions: HashMap<PeerId, Session>,
    rooms: HashMap<RoomId, Room>,
    demux: Demux,
    timers: Timers<PeerId>,
    room_timers: Timers<RoomId>,
    /// Sessions to be looked after at the next flush.
    dirty: VecDeque<PeerId>,
    /// Packets that wait for the subscriber with the most.
    deepest: usize,
    /// Goodbyes of sessions that have left, given out at the next flush. A few datagrams per session, and a flush per batch.
    farewells: Vec<(Path, BytesMut)>,
    events: VecDeque<Event>,
    next_track: u64,
    max_sessions: usize,
    /// The wall clock as of the last arrival, or of the beginning, and the instant that belongs to it: commands carry no arrival of
    /// their own.
    clock: (Instant, Arrival),
    /// Scratch space of the forwarding.
    outs: Vec<Out>,
    wire: BytesMut,
}

impl Sfu {
    /// A shard without anybody. `wall` is what the clock of the wall says at `now`.
    ///
    /// # Errors
    /// Fails when nobody could reach it, or no certificate can be made.
    pub fn new(config: Config, now: Instant, wall: Arrival) -> Result<Self, ConfigError> {
        if config.candidates.is_empty() {
            return Err(ConfigError::NoCandidate);
        }
        if let Some(bad) = config
            .candidates
            .iter()
            .find(|candidate| candidate.address.ip().is_unspecified() || candidate.address.port() == 0)
        {
            return Err(ConfigError::Unreachable(bad.address));
        }
        Ok(Self {
            max_sessions: config.max_sessions,
            factory: Arc::new(Factory::new(config)?),
            sessions: HashMap::new(),
            rooms: HashMap::new(),
            demux: Demux::default(),
            timers: Timers::default(),
            room_timers: Timers::default(),
            dirty: VecDeque::new(),
            deepest: 0,
            farewells: Vec::new(),
            events: VecDeque::new(),
            next_track: 0,
            clock: (now, wall),
            outs: Vec::new(),
            wire: BytesMut::new(),
        })
    }

    /// The address at which a TURN server takes datagrams for us, from now on; `None`: there is none at the moment. Clients that
    /// negotiate from now on are told it. Does nothing without [`Config::relay`].
    pub fn relayed(&mut self, address: Option<SocketAddr>) {
        self.factory = Arc::new(self.factory.relayed(address));
        for session in self.sessions.values_mut() {
            session.peer.reached_by(&self.factory);
        }
    }

    /// Carries out a command; what comes of it is told by [`Self::poll_event`].
    pub fn command(&mut self, now: Instant, command: Command) {
        self.carry_out(now, command);
    }

    /// Takes a datagram, if it belongs to somebody.
    pub fn receive(&mut self, now: Instant, arrival: Arrival, path: Path, datagram: &[u8]) -> Fate {
        self.clock = (now, arrival);
        let Some(id) = self.demux.find(path, datagram) else { return Fate::Refused };
        let Some(session) = self.sessions.get_mut(&id) else { return Fate::Refused };
        let fate = session.peer.receive(now, path, datagram);
        self.mark(id);
        let within = self.take_inbound(now, arrival, id);
        if fate == Fate::Taken { within } else { fate }
    }

    /// Does what time has made due.
    pub fn timeout(&mut self, now: Instant) {
        while let Some(id) = self.timers.pop(now) {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.peer.timeout(now);
                self.mark(id);
            }
        }
        while let Some(room) = self.room_timers.pop(now) {
            self.room_timeout(now, &room);
        }
    }

    /// When to call [`Self::timeout`] next, if nothing comes in before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.room_timers.next()).min()
    }

    /// How many packets wait at most for one subscriber; `None` when [`Self::flush`] has nothing to do.
    pub fn waiting(&self) -> Option<usize> {
        (!self.dirty.is_empty() || !self.farewells.is_empty()).then_some(self.deepest)
    }

    /// Looks after every session that something was done to, and gives out all datagrams. To be called once after each batch of
    /// datagrams, commands and timeouts.
    pub fn flush(&mut self, now: Instant, out: &mut dyn FnMut(Path, &[u8])) {
        self.deepest = 0;
        for (path, datagram) in self.farewells.drain(..) {
            out(path, &datagram);
        }
        while let Some(id) = self.dirty.pop_front() {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.dirty = false;
                self.look_after(now, id, out);
            }
        }
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions, rooms, and entries of every table together: 0 when nobody is there and nothing is recorded.
    pub fn occupancy(&self) -> usize {
        self.sessions.len() + self.rooms.len() + self.demux.len() + self.timers.len() + self.room_timers.len()
    }

    fn look_after(&mut self, now: Instant, id: PeerId, out: &mut dyn FnMut(Path, &[u8])) {
        self.take_events(now, id);
        self.negotiate(now, id);
        self.ask_keyframes(now, id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let demux = &mut self.demux;
        session.peer.flush(now, &mut |path, datagram| {
            demux.sent(id, path, datagram);
            out(path, datagram);
        });
        self.schedule(now, id);
    }

    fn take_events(&mut self, now: Instant, id: PeerId) {
        while let Some(event) = self.sessions.get_mut(&id).and_then(|session| session.peer.poll_event()) {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            session.standing =
                if event == PeerEvent::Connected { Standing::Connected } else { Standing::Apart };
            self.events.push_back(match event {
                PeerEvent::Connected => Event::Connected { peer: id },
                PeerEvent::Lost => Event::Lost { peer: id },
                PeerEvent::Failed => Event::Failed { peer: id },
            });
            if event == PeerEvent::Connected {
                session.peer.begin_estimate(now);
                session.trials = Trials::default();
                self.share(now, id);
                self.want_keyframes_for(now, id);
            }
        }
    }

    fn schedule(&mut self, now: Instant, id: PeerId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let keyframe = self.rooms.get(&session.room).and_then(|room| {
            let own = session.sources.values().filter_map(|track| room.tracks.get(track));
            own.filter_map(crate::track::Track::next).min()
        });
        let wakes = [session.peer.next_timeout(), session.negotiation.next(), keyframe];
        if let Some(at) = wakes.into_iter().flatten().min() {
            self.timers.wake(&id, at.max(now));
        }
    }

    /// The session has to be looked after at the next flush.
    fn mark(&mut self, id: PeerId) {
        if let Some(session) = self.sessions.get_mut(&id)
            && !session.dirty
        {
            session.dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// Unix microseconds of an instant, by the last arrival.
    fn unix_us(&self, now: Instant) -> i64 {
        let (then, wall) = self.clock;
        let since = i64::try_from(now.saturating_duration_since(then).as_micros()).unwrap_or(i64::MAX);
        wall.unix_us.saturating_add(since)
    }

    fn mark_timeline(&mut self, now: Instant, id: PeerId, medium: Option<crate::ids::Medium>, mark: TapMark) {
        let at = self.unix_us(now);
        let Some(session) = self.sessions.get(&id) else { return };
        if let Some(room) = self.rooms.get_mut(&session.room) {
            room.mark(&session.user, medium, at, mark);
        }
    }

    fn next_track(&mut self) -> TrackId {
        self.next_track += 1;
        TrackId(self.next_track)
    }
}
