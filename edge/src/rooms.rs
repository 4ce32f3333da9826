//! Who is in which call, now: rooms in memory, and what has to follow in the database.
//!
//! This module must not know sockets' frames beyond their meaning, nor HTTP. It stands between signaling, the media threads and
//! the rows: joins and leaves change memory at once, and are told to the database by a task that waits for it when it is away.
//!
//! | file | holds |
//! |---|---|
//! | `room` | one room: members, what is told to whom |
//! | `resources`, `players` | sessions without a socket: WHIP and WHEP |
//! | `outbox` | what waits for one socket, bounded |
//! | `admit` | who may come in, and where a call lives |
//! | `facts` | joins and leaves on their way to rows |
//! | `media` | what the media threads tell |
//! | `stats`, `metrics` | figures of quality, for people and for operators, and how much is carried |
//! | `capture` | a room's tap follows its recording |
//! | `closing` | rooms that are over and whose threads could not be told |
//! | `sweep` | the end of what has waited long enough |
//!
//! Decisions:
//! - A person who lost their socket keeps their place for 15 s (`AWAY_MAX`): media goes on as long as ICE lives, nobody is told, and
//!   the recording's timeline shows no leave for a reload. Who has been silent for as long on a socket that stands is gone at once: a
//!   client that wants its place back gives a silent socket up sooner, as the page's does.
//! - A room that is empty ends its call after `CALL_EMPTY_TIMEOUT`, measured by this process; a call that was active when the
//!   process died is taken for empty from the start on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::clock::SharedClock;
use shared::env::{Env, EnvError};
use shared::id::{CallId, UserId};
use shared::lifecycle::Tasks;
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use ulid::Ulid;

use crate::driver::{Capacity, Media, Overloaded};
use crate::error::Code;
use crate::ice::IceSettings;
use crate::recordings::Starter;
use crate::signal::frame::{Ask, Candidate, Incoming, Join, LeaveReason, Outgoing, Subscription};

mod admit;
mod capture;
mod closing;
mod facts;
mod media;
mod metrics;
mod outbox;
mod players;
mod resources;
mod room;
mod stats;
mod sweep;
#[cfg(test)]
mod tests;

pub(crate) use admit::{Admitted, Publishing};
use closing::Closing;
use facts::Facts;
use metrics::Metrics;
pub(crate) use outbox::{Goodbye, Mail, Mailbox, Outbox};
use resources::Resource;
pub(crate) use resources::{About, Condition, Opened, Patched};
use room::{Member, Presence, Room};
pub(crate) use stats::InCall;

/// How long somebody who lost their socket keeps their place (API, section 6).
pub(crate) const AWAY_MAX: Duration = Duration::from_secs(15);
/// How long an empty call goes on unless `CALL_EMPTY_TIMEOUT` says otherwise (API, section 3).
const EMPTY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often qualities are told unless `QUALITY_INTERVAL_MS` says otherwise.
const QUALITY_INTERVAL_MS: u64 = 5_000;
/// What rooms read.
#[derive(Debug, Clone)]
pub struct RoomSettings {
    /// `CALL_EMPTY_TIMEOUT`.
    pub empty_timeout: Duration,
    /// `QUALITY_INTERVAL_MS`.
    pub quality_interval: Duration,
    /// `WEBRTC_ICE_SERVERS`, `WEBRTC_TURN_*`.
    pub ice: IceSettings,
}

impl RoomSettings {
    /// Reads them.
    ///
    /// # Errors
    /// The first variable that is wrong.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        let wants = "milliseconds, 500 or more";
        let quality = env.parsed("QUALITY_INTERVAL_MS", QUALITY_INTERVAL_MS, wants)?;
        if quality < 500 {
            return Err(EnvError::wants("QUALITY_INTERVAL_MS", wants));
        }
        Ok(Self {
            empty_timeout: env.duration("CALL_EMPTY_TIMEOUT", EMPTY_TIMEOUT)?,
            quality_interval: Duration::from_millis(quality),
            ice: IceSettings::from_env(env)?,
        })
    }
}

/// The rooms of this edge. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rooms(Arc<Inner>);

struct Inner {
    settings: RoomSettings,
    db: PgPool,
    clock: SharedClock,
    tasks: Tasks,
    starter: Starter,
    media: Media,
    facts: Facts,
    state: Mutex<State>,
    /// Told when a room's tap could not follow its recording, or a room could not be closed.
    behind: Notify,
}

#[derive(Default)]
struct State {
    rooms: HashMap<CallId, Room>,
    /// Whose session a peer of the media threads is.
    peers: HashMap<sfu::PeerId, (CallId, UserId)>,
    last_peer: u64,
    reports: HashMap<u64, oneshot::Sender<Vec<sfu::PeerReport>>>,
    last_report: u64,
    /// Who waits for a media thread's answer to an offer.
    answers: HashMap<sfu::PeerId, oneshot::Sender<Result<String, Denied>>>,
    /// Sessions of WHIP and WHEP, by their name.
    resources: HashMap<String, Resource>,
    /// Rooms that are over and whose threads do not know yet.
    closing: Closing,
}

/// One socket's place in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) call: CallId,
    pub(crate) user: UserId,
    /// Tells this session from a later one of the same person.
    pub(crate) session: String,
}

/// A wish that was not fulfilled; the socket stays.
pub(crate) type Denied = (Code, String);

impl Rooms {
    /// Begins to hold rooms, and to listen to the media threads.
    ///
    /// # Errors
    /// When the name of a metric is taken.
    pub(crate) fn start(
        settings: RoomSettings,
        starter: Starter,
        media: Media,
        happened: mpsc::Receiver<sfu::Event>,
        registry: &prometheus::Registry,
        tasks: &Tasks,
    ) -> prometheus::Result<Self> {
        let metrics = Metrics::register(registry)?;
        let (facts, told) = facts::channel();
        let rooms = Self(Arc::new(Inner {
            settings,
            db: starter.db.clone(),
            clock: Arc::clone(&starter.clock),
            tasks: tasks.clone(),
            media,
            facts,
            state: Mutex::default(),
            behind: Notify::new(),
            starter,
        }));
        rooms.background(facts::write_all(rooms.clone(), told));
        rooms.background(media::listen(rooms.clone(), happened));
        rooms.background(capture::follow(rooms.clone()));
        rooms.background(capture::tell_outcomes(rooms.clone()));
        rooms.background(stats::tell_quality(rooms.clone(), metrics));
        rooms.background(sweep::run(rooms.clone()));
        Ok(rooms)
    }

    /// Takes a seat, in a room that is made when there is none.
    pub(crate) fn join(
        &self,
        admitted: Admitted,
        join: Join,
        outbox: Outbox,
    ) -> Result<(Seat, Outgoing), Denied> {
        let Admitted { call, user, host, max, publishing } = admitted;
        let inner = &*self.0;
        let mut state = inner.state();
        let fresh = state.next_peer();
        inner.may_begin(&state, &call)?;
        // A room begins with its first seat: one that nobody got into would be empty, and end its call.
        let mut begun = None;
        let room = match state.rooms.get_mut(&call) {
            Some(room) => room,
            None => begun.insert(Room::new(call.clone(), host, max, inner.media.place())),
        };
        room.max = max;
        room.has_space_for(&user)?;
        let taken_up = room.take_up(&user, join.session_id.as_deref(), publishing, &outbox);
        let (peer, session) = match taken_up {
            Some(seat) => seat,
            None => {
                let session = Ulid::generate().to_string();
                let reception = match join.receive {
                    Some(false) => sfu::Reception::Nothing,
                    Some(true) | None => sfu::Reception::Everything,
                };
                let role = match publishing {
                    Publishing::Granted => sfu::Role::Member(reception),
                    Publishing::Withheld => sfu::Role::Listener(reception),
                };
                inner.media.command(room.shard, room.enter(&user, fresh, role)).map_err(overloaded)?;
                let presence = Presence::Here(outbox);
                let at = inner.clock.now();
                let member = Member::new(fresh, publishing, session.clone(), presence, join.metadata, at);
                room.seat(&user, member, &inner.media, &inner.facts);
                (fresh, session)
            }
        };
        let joined =
            room.joined(&user, &session, &inner.settings.ice.servers_for(&user, inner.clock.now()).servers);
        if let Some(room) = begun {
            state.rooms.insert(call.clone(), room);
        }
        state.peers.insert(peer, (call.clone(), user.clone()));
        drop(state);
        capture::reconcile(self, &call);
        Ok((Seat { call, user, session }, joined))
    }

    /// Does what a seated client asks, other than joining.
    pub(crate) fn ask(&self, seat: &Seat, frame: Incoming) -> Result<Option<Outgoing>, Denied> {
        let inner = &*self.0;
        let mut state = inner.state();
        let room = state.rooms.get_mut(&seat.call).ok_or_else(not_joined)?;
        let peer = room.holds(seat).ok_or_else(not_joined)?.peer;
        let command = match (frame.ask, frame.target) {
            (Ask::Offer { data, .. }, Some(target)) => return room.relay("offer", &seat.user, &target, data),
            (Ask::Answer { data, .. }, Some(target)) => {
                return room.relay("answer", &seat.user, &target, data);
            }
            (Ask::Candidate { data, .. }, Some(target)) => {
                return room.relay("ice-candidate", &seat.user, &target, data);
            }
            (Ask::Message(data), Some(target)) => return room.relay("message", &seat.user, &target, data),
            (Ask::Message(data), None) => {
                room.tell_others(&seat.user, &Outgoing::Relayed("message", seat.user.clone(), data));
                return Ok(None);
            }
            (Ask::Offer { sdp, screens, .. }, None) => {
                let screens = screens.into_iter().map(sfu::Mid::new).collect();
                sfu::Command::Offer { peer, sdp, screens }
            }
            (Ask::Answer { sdp, .. }, None) => sfu::Command::Answer { peer, sdp },
            (Ask::Candidate { candidate, .. }, None) => sfu::Command::Candidate {
                peer,
                candidate: candidate.map(|Candidate { candidate, .. }| candidate),
            },
            (Ask::Mute(kind), _) => room.mute(seat, peer, kind, sfu::Muting::Muted),
            (Ask::Unmute(kind), _) => room.mute(seat, peer, kind, sfu::Muting::Unmuted),
            (Ask::Subscribe(wanted), _) => subscribe(peer, &wanted, room::wish(&wanted)),
            (Ask::Unsubscribe(unwanted), _) => subscribe(peer, &unwanted, sfu::Wish::No),
            (Ask::Ping, _) => return Ok(Some(Outgoing::Pong)),
            (Ask::Join(_) | Ask::Leave, _) => return Ok(None),
        };
        inner.media.command(room.shard, command).map_err(overloaded)?;
        Ok(None)
    }

    /// Gives a seat up.
    pub(crate) fn leave(&self, seat: &Seat) {
        let inner = &*self.0;
        let mut state = inner.state();
        if let Some(room) = state.rooms.get_mut(&seat.call)
            && let Some(peer) = room.holds(seat).map(|member| member.peer)
        {
            room.remove(&seat.user, LeaveReason::Left, inner);
            state.peers.remove(&peer);
        }
    }

    /// The socket is gone; the seat is kept until nothing has been heard for [`AWAY_MAX`].
    pub(crate) fn lost(&self, seat: &Seat, heard: Instant) {
        let mut state = self.0.state();
        let Some(room) = state.rooms.get_mut(&seat.call) else { return };
        room.away(seat, heard);
        if room.gone(Instant::now()).contains(&seat.user) {
            let peer = room.member(&seat.user).map(|member| member.peer);
            room.remove(&seat.user, LeaveReason::Disconnected, &self.0);
            state.peers.retain(|other, _| Some(*other) != peer);
        }
    }

    /// Everybody leaves a call that was ended.
    pub(crate) fn close(&self, call: &CallId) {
        let inner = &*self.0;
        let mut state = inner.state();
        inner.close(&mut state, call);
        state.peers.retain(|_, (of, _)| of != call);
    }

    /// Tells a call's people something.
    fn tell(&self, call: &CallId, what: &Outgoing) {
        if let Some(room) = self.0.state().rooms.get(call) {
            room.tell_all(what);
        }
    }

    fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.0.tasks.stop.clone();
        self.0.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rooms that run take in whom they may; beyond the capacity no other begins, nor one whose call has another that is ending.
    fn may_begin(&self, state: &State, call: &CallId) -> Result<(), Denied> {
        let ends = state.closing.has(call);
        if state.rooms.contains_key(call) || !ends && self.media.capacity(state.sessions()) == Capacity::Free
        {
            return Ok(());
        }
        Err((Code::Overloaded, "this edge carries as many calls as it can; try again later".to_owned()))
    }
}

impl State {
    fn next_peer(&mut self) -> sfu::PeerId {
        self.last_peer += 1;
        sfu::PeerId(self.last_peer)
    }

    fn sessions(&self) -> usize {
        self.rooms.values().map(Room::sessions).sum()
    }
}

fn subscribe(peer: sfu::PeerId, of: &Subscription, wish: sfu::Wish) -> sfu::Command {
    let medium = of.kind.map(room::medium);
    sfu::Command::Subscribe { peer, of: sfu::User::new(of.user_id.as_str()), medium, wish }
}

fn overloaded(_: Overloaded) -> Denied {
    (Code::Overloaded, "this edge is at its limit; try again".to_owned())
}

fn not_joined() -> Denied {
    (Code::NotJoined, "join the room first".to_owned())
}
