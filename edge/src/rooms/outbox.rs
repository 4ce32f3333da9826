//! What waits for one socket. A client that does not read is closed, not waited for.

use axum::extract::ws::Utf8Bytes;
use shared::id::CallId;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use crate::signal::frame::Outgoing;

/// Frames that may wait for one socket: a join of a full room tells two frames a person, and more is a client that has stopped
/// reading.
const FRAMES_MAX: usize = 512;

/// What a socket is given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mail {
    /// A frame's text, which all of a room share.
    Frame(Utf8Bytes),
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
    /// More waited than a client that reads leaves waiting.
    TooSlow,
    /// The media threads have no place for another connection.
    Overloaded,
}

/// The way to one socket. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    room: CallId,
    frames: mpsc::Sender<Mail>,
    /// Something found no room: what a client believes of the room is wrong from then on, so it has to join again.
    overflowed: CancellationToken,
}

/// The end of the way, where the socket takes what came.
#[derive(Debug)]
pub(crate) struct Mailbox {
    mail: mpsc::Receiver<Mail>,
    overflowed: CancellationToken,
}

impl Mailbox {
    /// What comes next. When something found no room, that is to close at once: what waits is for a client that does not read.
    pub(crate) async fn next(&mut self) -> Mail {
        let too_slow = Mail::Close(Goodbye::TooSlow);
        tokio::select! {
            biased;
            () = self.overflowed.cancelled() => too_slow,
            mail = self.mail.recv() => mail.unwrap_or(too_slow),
        }
    }
}

impl Outbox {
    /// A way, and its end.
    pub(crate) fn new(room: CallId) -> (Self, Mailbox) {
        let (frames, mail) = mpsc::channel(FRAMES_MAX);
        let overflowed = CancellationToken::new();
        (Self { room, frames, overflowed: overflowed.clone() }, Mailbox { mail, overflowed })
    }

    /// Queues a frame; one that finds no room closes the socket.
    pub(crate) fn tell(&self, what: &Outgoing) {
        self.pass(what.text(Some(&self.room), None).into());
    }

    /// Queues a frame's text, as [`Outbox::tell`] does.
    pub(crate) fn pass(&self, text: Utf8Bytes) {
        self.put(Mail::Frame(text));
    }

    /// Asks the socket to close after what waits.
    pub(crate) fn close(&self, why: Goodbye) {
        self.put(Mail::Close(why));
    }

    /// Whether the socket has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.frames.is_closed()
    }

    fn put(&self, mail: Mail) {
        if let Err(TrySendError::Full(_)) = self.frames.try_send(mail) {
            self.overflowed.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_box_that_has_overflowed_says_so_before_anything_else() {
        let (outbox, mut mailbox) = Outbox::new(CallId::parse("call").unwrap());
        for _ in 0..FRAMES_MAX {
            outbox.tell(&Outgoing::Pong);
        }
        assert!(matches!(mailbox.next().await, Mail::Frame(_)));
        outbox.tell(&Outgoing::Pong);
        assert!(matches!(mailbox.next().await, Mail::Frame(_)));
        (0..2).for_each(|_| outbox.tell(&Outgoing::Pong));
        assert_eq!(mailbox.next().await, Mail::Close(Goodbye::TooSlow));
        assert!(!outbox.is_gone());
        drop(mailbox);
        assert!(outbox.is_gone());
    }
}
