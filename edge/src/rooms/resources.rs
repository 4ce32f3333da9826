//! Sessions without a socket: publishers by WHIP and players by WHEP. A publisher is a member like others; a player is nobody that the
//! others are told of, and takes a seat all the same.
//!
//! Their connection is all that is known of them: when it is silent for [`LINK_DOWN_MAX`], or has failed, they are gone.

use std::time::Duration;

use shared::id::{CallId, UserId};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use ulid::Ulid;

use super::players::Player;
use super::{Admitted, Denied, Inner, Member, Presence, Publishing, Room, Rooms, State, capture, overloaded};
use crate::driver::ShardId;
use crate::error::Code;
use crate::signal::fragment::{Credentials, Fragment, Last, renewed};
use crate::signal::frame::LeaveReason;

/// How long a media thread may take for its answer; it takes milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a session may be without a connection: the first checks over a slow TURN server take some seconds, and a restart of a
/// phone that changes networks some more.
pub(super) const LINK_DOWN_MAX: Duration = Duration::from_secs(30);

/// Whether media can flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// It can.
    Up,
    /// Not yet, or not now.
    Down {
        /// Since when.
        since: Instant,
    },
}

impl Link {
    pub(super) fn down() -> Self {
        Self::Down { since: Instant::now() }
    }

    pub(super) fn is_gone(self, now: Instant) -> bool {
        matches!(self, Self::Down { since } if now.duration_since(since) >= LINK_DOWN_MAX)
    }
}

/// A session that HTTP requests speak of.
#[derive(Debug)]
pub(super) struct Resource {
    call: CallId,
    user: UserId,
    peer: sfu::PeerId,
    shard: ShardId,
    /// The client's offer, to restart ICE with.
    offer: String,
    /// Names the ICE session that goes on now.
    tag: String,
}

/// A session that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Names it in later requests.
    pub(crate) session: String,
    /// Our answer.
    pub(crate) answer: String,
    /// Names its ICE session.
    pub(crate) tag: String,
}

/// A request about a session: whose it must be, and which.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) call: &'a CallId,
    pub(crate) user: &'a UserId,
    pub(crate) session: &'a str,
}

/// What a request demands of the ICE session before anything is done (RFC 9725, section 4.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Whichever it is.
    Any,
    /// One of these.
    OneOf(Vec<String>),
}

/// What became of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Patched {
    /// Its candidates are tried.
    Trickled,
    /// ICE begins anew.
    Restarted {
        /// Our whole answer.
        answer: String,
        /// Names the new ICE session.
        tag: String,
    },
}

impl Rooms {
    /// Begins to publish by WHIP, in place of whatever session the person had.
    ///
    /// # Errors
    /// `not-granted`, `room-full`, `overloaded`, `invalid-description`.
    pub(crate) async fn publish(&self, admitted: Admitted, offer: String) -> Result<Opened, Denied> {
        let inner = &*self.0;
        let Admitted { call, user, host, max, publishing } = admitted;
        if publishing == Publishing::Withheld {
            return Err((Code::NotGranted, "the token does not grant publishing".to_owned()));
        }
        let (peer, shard) = {
            let mut state = inner.state();
            inner.may_begin(&state, &call)?;
            let shard = match state.rooms.get_mut(&call) {
                Some(room) => {
                    room.max = max;
                    room.has_space_for(&user)?;
                    room.shard
                }
                None => inner.media.place(),
            };
            (state.next_peer(), shard)
        };
        let name = sfu::User::new(user.as_str());
        let answer = self.begin(&call, (&user, name), (peer, shard), sfu::Role::Publisher, &offer).await?;
        let opened = opened(answer)?;
        let mut state = inner.state();
        // The room may have ended while the thread answered.
        if let Err(denied) = inner.may_begin(&state, &call) {
            inner.hang_up(shard, peer);
            return Err(denied);
        }
        let room =
            state.rooms.entry(call.clone()).or_insert_with(|| Room::new(call.clone(), host, max, shard));
        if let Err(denied) = room.is_on(shard).and_then(|()| room.has_space_for(&user)) {
            inner.hang_up(shard, peer);
            return Err(denied);
        }
        let member = Member::new(
            peer,
            publishing,
            opened.session.clone(),
            Presence::Publishing(Link::down()),
            None,
            inner.clock.now(),
        );
        room.seat(&user, member, &inner.media, &inner.facts);
        state.keep(
            &opened,
            Resource { call: call.clone(), user, peer, shard, offer, tag: opened.tag.clone() },
        );
        drop(state);
        capture::reconcile(self, &call);
        Ok(opened)
    }

    /// Begins to play somebody by WHEP.
    ///
    /// # Errors
    /// `no-such-participant`, `not-publishing`, `room-full`, `overloaded`, `invalid-description`.
    pub(crate) async fn play(&self, admitted: Admitted, of: UserId, offer: String) -> Result<Opened, Denied> {
        let inner = &*self.0;
        let Admitted { call, user, .. } = admitted;
        let (peer, shard) = {
            let mut state = inner.state();
            let peer = state.next_peer();
            let room = state.rooms.get(&call).ok_or_else(|| nobody(&of))?;
            room.can_be_played(&of)?;
            (peer, room.shard)
        };
        let role = sfu::Role::Player { of: sfu::User::new(of.as_str()) };
        // No id of a person has a slash: the media threads take a player for nobody, and so people can play themselves.
        let name = sfu::User::new(format!("play/{user}"));
        let answer = self.begin(&call, (&user, name), (peer, shard), role, &offer).await?;
        let opened = opened(answer)?;
        let mut state = inner.state();
        let there = state.rooms.get_mut(&call).ok_or_else(|| nobody(&of));
        let seated = there.and_then(|room| {
            room.is_on(shard)?;
            let media = room.can_be_played(&of)?;
            room.add_player(peer, Player { user: user.clone(), of, media, link: Link::down() });
            Ok(())
        });
        if let Err(denied) = seated {
            inner.hang_up(shard, peer);
            return Err(denied);
        }
        state.keep(&opened, Resource { call, user, peer, shard, offer, tag: opened.tag.clone() });
        Ok(opened)
    }

    /// Takes a client's candidates, or begins ICE anew when it comes with other credentials than before.
    ///
    /// # Errors
    /// `no-such-session`, `precondition-failed`, `overloaded`, `invalid-description`.
    pub(crate) async fn patch(
        &self,
        about: About<'_>,
        condition: &Condition,
        fragment: Fragment,
    ) -> Result<Patched, Denied> {
        let inner = &*self.0;
        let (peer, shard, anew) = {
            let state = inner.state();
            let resource = state.resource(about)?;
            if let Condition::OneOf(tags) = condition
                && !tags.contains(&resource.tag)
            {
                return Err(stale());
            }
            let fresh =
                fragment.credentials.filter(|new| Credentials::of(&resource.offer).as_ref() != Some(new));
            let anew = fresh.map(|credentials| renewed(&resource.offer, &credentials));
            (resource.peer, resource.shard, anew)
        };
        let patched = match anew {
            None => Patched::Trickled,
            Some(offer) => {
                let answer = self.exchange(shard, peer, None, offer.clone()).await?;
                let tag = tag(&answer)?;
                let mut state = inner.state();
                state.resource(about)?;
                if let Some(resource) = state.resources.get_mut(about.session) {
                    (resource.offer, resource.tag) = (offer, tag.clone());
                }
                Patched::Restarted { answer, tag }
            }
        };
        let ends = (fragment.last == Last::Yes).then_some(None);
        for candidate in fragment.candidates.into_iter().map(Some).chain(ends) {
            inner.media.command(shard, sfu::Command::Candidate { peer, candidate }).map_err(overloaded)?;
        }
        Ok(patched)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// `no-such-session`.
    pub(crate) fn end(&self, about: About<'_>) -> Result<(), Denied> {
        let inner = &*self.0;
        let mut state = inner.state();
        let (peer, call) = state.resource(about).map(|resource| (resource.peer, resource.call.clone()))?;
        state.resources.remove(about.session);
        state.peers.remove(&peer);
        if let Some(room) = state.rooms.get_mut(&call)
            && !room.remove_player(peer, inner)
        {
            room.remove(about.user, LeaveReason::Left, inner);
        }
        Ok(())
    }

    /// Notes whether a session's media can flow.
    pub(super) fn linked(&self, peer: sfu::PeerId, link: Link) {
        self.in_room_of(peer, |room, user| room.linked(user, peer, link));
    }

    /// A media thread has answered an offer or refused it; gives the answer back when nobody waits for it here.
    pub(super) fn answered(
        &self,
        peer: sfu::PeerId,
        answer: Result<String, Denied>,
    ) -> Option<Result<String, Denied>> {
        match self.0.state().answers.remove(&peer) {
            None => Some(answer),
            // Whoever asked may be gone.
            Some(waiting) => waiting.send(answer).ok().and(None),
        }
    }

    /// Connects a new session; one that cannot be is not left behind.
    async fn begin(
        &self,
        call: &CallId,
        (user, name): (&UserId, sfu::User),
        (peer, shard): (sfu::PeerId, ShardId),
        role: sfu::Role,
        offer: &str,
    ) -> Result<String, Denied> {
        let room = sfu::RoomId::new(call.as_str());
        let join = sfu::Command::Join { room, peer, user: name, role };
        self.0.state().peers.insert(peer, (call.clone(), user.clone()));
        let answer = self.exchange(shard, peer, Some(join), offer.to_owned()).await;
        if answer.is_err() {
            self.0.hang_up(shard, peer);
        }
        answer
    }

    /// Offers for a client, who joins before if they have not, and waits for our answer or for why there is none.
    async fn exchange(
        &self,
        shard: ShardId,
        peer: sfu::PeerId,
        join: Option<sfu::Command>,
        sdp: String,
    ) -> Result<String, Denied> {
        let (waiting, told) = oneshot::channel();
        {
            let mut state = self.0.state();
            if state.answers.contains_key(&peer) {
                return Err(stale());
            }
            let offer = sfu::Command::Offer { peer, sdp, screens: Vec::new() };
            for command in join.into_iter().chain([offer]) {
                self.0.media.command(shard, command).map_err(overloaded)?;
            }
            state.answers.insert(peer, waiting);
        }
        let told = timeout(ANSWER_MAX, told).await;
        match told {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(denied))) => Err(denied),
            Ok(Err(_)) | Err(_) => {
                self.0.state().answers.remove(&peer);
                Err((Code::Overloaded, "the media thread did not answer in time; try again".to_owned()))
            }
        }
    }
}

impl Inner {
    fn hang_up(&self, shard: ShardId, peer: sfu::PeerId) {
        // A thread with too much to do lets the connection run out by itself.
        let _ = self.media.command(shard, sfu::Command::Leave { peer });
    }
}

impl State {
    fn keep(&mut self, opened: &Opened, resource: Resource) {
        self.peers.insert(resource.peer, (resource.call.clone(), resource.user.clone()));
        self.resources.insert(opened.session.clone(), resource);
    }

    /// A session of this person that still has its place.
    fn resource(&self, about: About<'_>) -> Result<&Resource, Denied> {
        let resource = self.resources.get(about.session);
        let own = |resource: &&Resource| resource.call == *about.call && resource.user == *about.user;
        let seated = |resource: &&Resource| {
            self.rooms.get(&resource.call).is_some_and(|room| room.has_peer(&resource.user, resource.peer))
        };
        let gone = || (Code::NoSuchSession, "there is no such session".to_owned());
        resource.filter(own).filter(seated).ok_or_else(gone)
    }

    /// Forgets the sessions that have lost their place.
    pub(super) fn forget_resources(&mut self) {
        let Self { rooms, resources, .. } = self;
        resources.retain(|_, resource| {
            rooms.get(&resource.call).is_some_and(|room| room.has_peer(&resource.user, resource.peer))
        });
    }
}

fn opened(answer: String) -> Result<Opened, Denied> {
    let tag = tag(&answer)?;
    Ok(Opened { session: Ulid::generate().to_string(), answer, tag })
}

/// Our credentials change with every ICE session, and with nothing else.
fn tag(answer: &str) -> Result<String, Denied> {
    let none = || (Code::InvalidDescription, "the offer has no media that could flow".to_owned());
    Ok(Credentials::of(answer).ok_or_else(none)?.ufrag)
}

fn stale() -> Denied {
    (Code::PreconditionFailed, "the session's ICE goes on under another etag".to_owned())
}

pub(super) fn nobody(of: &UserId) -> Denied {
    (Code::NoSuchParticipant, format!("{of} is not in the call"))
}
