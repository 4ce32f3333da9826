//! What waits for one socket. A client that does not read is closed, not waited for.

use shared::id::CallId;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::signal::frame::Outgoing;

/// Frames that may wait for one socket: a join of a full room tells two frames a person, and more is a client that has stopped
/// reading.
const FRAMES_MAX: usize = 512;

/// What a socket is given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mail {
    /// A frame's text.
    Frame(String),
    /// The socket must close, for this reason.
    Close(Goodbye),
}

/// Why a socket is closed by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// The same person came in from elsewhere (API, section 6: 4001).
    Replaced,
    /// The call is over.
    RoomClosed,
}

/// The way to one socket. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    room: CallId,
    frames: mpsc::Sender<Mail>,
}

impl Outbox {
    /// A way, and its end. The end of a full box sees its senders gone after what waits: the socket is closed.
    pub(crate) fn new(room: CallId) -> (Self, mpsc::Receiver<Mail>) {
        let (frames, mail) = mpsc::channel(FRAMES_MAX);
        (Self { room, frames }, mail)
    }

    /// Queues a frame. `false`: nobody reads any more.
    pub(crate) fn tell(&self, what: &Outgoing) -> bool {
        self.put(Mail::Frame(what.text(Some(&self.room), None)))
    }

    /// Asks the socket to close after what waits.
    pub(crate) fn close(&self, why: Goodbye) {
        self.put(Mail::Close(why));
    }

    /// Whether the socket has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.frames.is_closed()
    }

    fn put(&self, mail: Mail) -> bool {
        match self.frames.try_send(mail) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => false,
        }
    }
}
