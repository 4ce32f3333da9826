//! One session of one user: its connection, whose turn it is to offer, and what it wants to see.
//!
//! It must not know other sessions.

use std::collections::HashMap;

use crate::codec::Size;
use crate::command::{Layer, Muting, Reception, Role, Wish};
use crate::ids::{Medium, Mid, RoomId, User};
use crate::layers::trial::Trials;
use crate::leg::Leg;
use crate::negotiation::{Negotiation, Standing};
use crate::peer::{Identity, Kind, Peer, identity};
use crate::tap::TapMark;
use crate::track::TrackId;

/// Wishes kept per session: one per user of a large room and medium. More are refused silently, oldest wishes stay and may change.
const MAX_WISHES: usize = 1024;

/// How much of a track is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The best layer.
    pub(crate) layer: Layer,
    /// How large it is shown, if the client told.
    pub(crate) tile: Option<Size>,
}

pub(crate) struct Session {
    pub(crate) room: RoomId,
    pub(crate) user: User,
    pub(crate) role: Role,
    pub(crate) peer: Peer,
    pub(crate) negotiation: Negotiation,
    pub(crate) standing: Standing,
    pub(crate) trials: Trials,
    /// Tracks by the SSRC that the client sends them with.
    pub(crate) sources: HashMap<u32, TrackId>,
    /// Tracks by the SSRC that we send them with.
    pub(crate) legs: HashMap<u32, TrackId>,
    /// Numbers of SSRCs whose track has gone, for the next one on them: as many as the connection has senders.
    pub(crate) resting: HashMap<u32, Leg>,
    pub(crate) screens: Vec<Mid>,
    /// Whether it waits for a flush.
    pub(crate) dirty: bool,
    /// The client's connection that has failed, if this session is in another's place.
    former: Option<Identity>,
    media: HashMap<Mid, Medium>,
    wishes: HashMap<(User, Option<Medium>), Wish>,
    muted: HashMap<Option<Medium>, Muting>,
}

impl Session {
    pub(crate) fn new(room: RoomId, user: User, role: Role, peer: Peer, negotiation: Negotiation) -> Self {
        Self {
            room,
            user,
            role,
            peer,
            negotiation,
            standing: Standing::Apart,
            trials: Trials::default(),
            sources: HashMap::new(),
            legs: HashMap::new(),
            resting: HashMap::new(),
            screens: Vec::new(),
            dirty: false,
            former: None,
            media: HashMap::new(),
            wishes: HashMap::new(),
            muted: HashMap::new(),
        }
    }

    /// Takes over what was asked for an older session.
    pub(crate) fn take_over(&mut self, older: Self) {
        self.former = older.peer.agreed_with().cloned().or(older.former);
        (self.wishes, self.muted) = (older.wishes, older.muted);
    }

    /// Whether a description is of the connection that has failed. It would go on with the keys of a handshake that this session has
    /// never seen: nothing that it sends could be read, and its client would not know.
    pub(crate) fn is_of_former(&self, sdp: &str) -> bool {
        self.former.is_some() && identity(sdp) == self.former
    }

    /// What it wants of a track; `None` is nothing.
    pub(crate) fn wants(&self, of: &User, medium: Medium) -> Option<Wanted> {
        if *of == self.user {
            return None;
        }
        let wish =
            self.wishes.get(&(of.clone(), Some(medium))).or_else(|| self.wishes.get(&(of.clone(), None)));
        let unasked = match &self.role {
            Role::Member(Reception::Everything) | Role::Listener(Reception::Everything) => {
                Wish::UpTo(Layer::Full)
            }
            Role::Player { of: played } if played == of => Wish::UpTo(Layer::Full),
            _ => Wish::No,
        };
        match wish.copied().unwrap_or(unasked) {
            Wish::No => None,
            Wish::UpTo(layer) => Some(Wanted { layer, tile: None }),
            Wish::Tile(layer, size) => Some(Wanted { layer, tile: Some(size) }),
        }
    }

    /// Notes a wish. One about all media replaces those about single ones.
    pub(crate) fn wish(&mut self, of: User, medium: Option<Medium>, wish: Wish) {
        if medium.is_none() {
            self.wishes.retain(|(user, _), _| *user != of);
        }
        let key = (of, medium);
        if self.wishes.len() < MAX_WISHES || self.wishes.contains_key(&key) {
            self.wishes.insert(key, wish);
        }
    }

    /// Somebody has left: what was wanted of them is over.
    pub(crate) fn forget(&mut self, user: &User) {
        self.wishes.retain(|(of, _), _| of != user);
    }

    /// Whether a track of its own is muted.
    pub(crate) fn muting(&self, medium: Medium) -> Muting {
        self.muted.get(&Some(medium)).or_else(|| self.muted.get(&None)).copied().unwrap_or(Muting::Unmuted)
    }

    /// What a recording that knows of no mute of a medium but one about all media has to be told of a track.
    pub(crate) fn muted_mark(&self, medium: Medium) -> Option<TapMark> {
        match self.muting(medium) {
            Muting::Muted => Some(TapMark::Muted),
            Muting::Unmuted => self.is_muted_whole().then_some(TapMark::Unmuted),
        }
    }

    /// Whether all its tracks are muted, those to come included, unless one of them was unmuted since.
    pub(crate) fn is_muted_whole(&self) -> bool {
        self.muted.get(&None) == Some(&Muting::Muted)
    }

    /// Notes a mute. One about all media replaces those about single ones.
    pub(crate) fn mute(&mut self, medium: Option<Medium>, muting: Muting) {
        if medium.is_none() {
            self.muted.clear();
        }
        self.muted.insert(medium, muting);
    }

    /// What a section shows: the first of pictures is the camera and the others are screens, unless the client has said so. It
    /// stays what it was.
    pub(crate) fn medium(&mut self, mid: &Mid) -> Medium {
        let sending = self.peer.sending();
        let kind = sending.iter().find(|(other, _)| other == mid).map(|(_, kind)| *kind);
        let (first, other) = if kind == Some(Kind::Audio) {
            (Medium::Audio, Medium::ScreenAudio)
        } else {
            (Medium::Video, Medium::Screen)
        };
        let said = self.screens.contains(mid);
        if let Some(known) = self.media.get(mid)
            && (!said || *known == other)
        {
            return *known;
        }
        self.media.retain(|known, _| sending.iter().any(|(other, _)| other == known));
        let medium = if said || self.media.values().any(|taken| *taken == first) { other } else { first };
        self.media.insert(mid.clone(), medium);
        medium
    }
}
