//! One socket's life: frames in, frames out, and an end in good order.
//!
//! Decisions:
//! - One task reads and writes: a socket's frames are answered in the order in which they came, and there is no lock.
//! - The client's silence is measured by anything that comes, pongs included: [`SILENCE_MAX`] after the last, it is gone. A place is
//!   kept for as long after the last that was heard, so nobody who has vanished is shown to the others for longer.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::frame::{Ask, BadFrame, FRAME_MAX_BYTES, Incoming, Outgoing};
use crate::auth::Caller;
use crate::error::Code;
use crate::rooms::{Denied, Goodbye, Mail, Mailbox, Outbox, Rooms, Seat};

/// How often the client is pinged.
const PING_EVERY: Duration = Duration::from_secs(5);
/// A client of whom nothing has come for this long is gone (API, section 6).
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// The longest that one write may take: a client that does not read is closed.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// The longest that a client may take for closing its half: it may first have to read what the network holds for it.
const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// Frames of one client in a second, with a burst of ten seconds' worth: a page's join trickles some twenty candidates at once.
const FRAMES_PER_SECOND: u32 = 50;
/// What a client is told to wait when this edge ends.
pub(crate) const DRAIN_RETRY: Duration = Duration::from_secs(1);

/// Close codes (RFC 6455, section 7.4; 4000 and above are ours).
mod close {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const GOING_AWAY: u16 = 1001;
    pub(super) const TOO_BIG: u16 = 1009;
    /// What the registry of close codes calls "try again later".
    pub(super) const TRY_AGAIN_LATER: u16 = 1013;
    pub(super) const TOO_MANY: u16 = 1008;
    pub(super) const REPLACED: u16 = 4001;
    pub(super) const ROOM_CLOSED: u16 = 4002;
    pub(super) const SILENT: u16 = 4003;
}

/// A socket that is served.
struct Session {
    rooms: Rooms,
    caller: Caller,
    seat: Option<Seat>,
    allowance: Allowance,
}

/// Why a socket ends, and the code it is told.
struct End(u16, &'static str);

/// What one turn of the loop found.
enum Turn {
    Came(Option<Result<Message, axum::Error>>),
    Mail(Mail),
    Ping,
    Silence,
    Stop,
}

/// Serves a socket until it ends.
pub(crate) async fn serve(mut socket: WebSocket, rooms: Rooms, caller: Caller, stop: CancellationToken) {
    let mut session = Session { rooms, caller, seat: None, allowance: Allowance::full(Instant::now()) };
    let (mut end, mut mailbox) = (None, None);
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut heard, mut silence) = (Instant::now(), std::pin::pin!(sleep(SILENCE_MAX)));
    while end.is_none() {
        let turn = tokio::select! {
            // What has come counts before the time that has passed: after a stall of ours both are there.
            biased;
            () = stop.cancelled() => Turn::Stop,
            came = socket.recv() => Turn::Came(came),
            mail = next_mail(&mut mailbox) => Turn::Mail(mail),
            _ = pings.tick() => Turn::Ping,
            () = &mut silence => Turn::Silence,
        };
        end = match turn {
            Turn::Came(Some(Ok(message))) => {
                heard = Instant::now();
                silence.as_mut().reset(heard + SILENCE_MAX);
                session.came(&mut socket, message, &mut mailbox).await
            }
            Turn::Came(Some(Err(error))) => Some(broken(&error)),
            Turn::Came(None) => Some(End(close::NORMAL, "")),
            Turn::Mail(Mail::Frame(text)) => write(&mut socket, Message::Text(text)).await,
            Turn::Mail(Mail::Close(why)) => Some(goodbye(why)),
            Turn::Silence => Some(End(close::SILENT, "nothing came")),
            Turn::Ping => write(&mut socket, Message::Ping(Vec::new().into())).await,
            Turn::Stop => session.draining(&mut socket).await,
        };
    }
    // The room tells by the mailbox whether this socket is the one that sits there: its session may go on in a newer one.
    drop(mailbox);
    if let Some(seat) = session.seat.take() {
        let silent = matches!(end, Some(End(close::SILENT, _)));
        session.rooms.lost(&seat, if silent { heard } else { Instant::now() });
    }
    if let Some(End(code, reason)) = end {
        let frame = CloseFrame { code, reason: reason.into() };
        // The other end may be gone.
        let _ = timeout(WRITE_MAX, socket.send(Message::Close(Some(frame)))).await;
        let _ = timeout(FAREWELL_MAX, farewell(&mut socket)).await;
    }
}

/// Waits for the client's half of the closing (RFC 6455, section 7.1.1). A socket that is closed while something comes is reset, and
/// its client never reads why, nor what came before.
async fn farewell(socket: &mut WebSocket) {
    while let Some(Ok(_)) = socket.recv().await {}
}

async fn next_mail(mailbox: &mut Option<Mailbox>) -> Mail {
    match mailbox {
        Some(mailbox) => mailbox.next().await,
        None => std::future::pending().await,
    }
}

impl Session {
    async fn came(
        &mut self,
        socket: &mut WebSocket,
        message: Message,
        mailbox: &mut Option<Mailbox>,
    ) -> Option<End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Close(_) => return Some(End(close::NORMAL, "")),
            Message::Ping(_) | Message::Pong(_) => return None,
            Message::Binary(_) => {
                return self.refuse(socket, Code::InvalidRequest, "frames are JSON text".into(), None).await;
            }
        };
        if !self.allowance.take(Instant::now()) {
            return Some(End(close::TOO_MANY, "too many frames"));
        }
        let frame = match Incoming::parse(&text) {
            Ok(frame) => frame,
            Err(BadFrame { code, detail, request }) => {
                return self.refuse(socket, code, detail, request).await;
            }
        };
        let request = frame.request.clone();
        match self.ask(frame, mailbox).await {
            Ok(None) => None,
            Ok(Some(answer)) => {
                let room = self.seat.as_ref().map(|seat| &seat.call);
                write(socket, Message::Text(answer.text(room, request.as_deref()).into())).await
            }
            Err((code, detail)) => self.refuse(socket, code, detail, request).await,
        }
    }

    async fn ask(
        &mut self,
        frame: Incoming,
        mailbox: &mut Option<Mailbox>,
    ) -> Result<Option<Outgoing>, Denied> {
        if frame.user != self.caller.user {
            return Err((Code::Forbidden, "userId is not the token's subject".into()));
        }
        let seated = self.seat.as_ref().filter(|seat| seat.call == frame.room);
        match (frame.ask, seated) {
            (Ask::Ping, _) => Ok(Some(Outgoing::Pong)),
            (Ask::Join(_), Some(_)) => Err((Code::InvalidRequest, "this socket has joined already".into())),
            (Ask::Join(_), None) if self.seat.is_some() => {
                Err((Code::InvalidRequest, "a socket is in one room; leave it first".into()))
            }
            (Ask::Join(join), None) => {
                let told = |error: crate::error::ApiError| (error.code(), error.detail().to_owned());
                let admitted = self.rooms.admit(&self.caller, &frame.room).await.map_err(told)?;
                let (outbox, mail) = Outbox::new(frame.room);
                let (seat, joined) = self.rooms.join(admitted, join, outbox)?;
                (self.seat, *mailbox) = (Some(seat), Some(mail));
                Ok(Some(joined))
            }
            (Ask::Leave, Some(seat)) => {
                self.rooms.leave(seat);
                (self.seat, *mailbox) = (None, None);
                Ok(None)
            }
            (ask, Some(seat)) => self.rooms.ask(seat, Incoming { ask, ..frame }),
            (_, None) => Err((Code::NotJoined, "join the room first".into())),
        }
    }

    async fn refuse(
        &self,
        socket: &mut WebSocket,
        code: Code,
        detail: String,
        request: Option<String>,
    ) -> Option<End> {
        debug!(user.id = %self.caller.user, "a frame was refused: {detail}");
        let room = self.seat.as_ref().map(|seat| &seat.call);
        let text = Outgoing::Error(BadFrame { code, detail, request: request.clone() })
            .text(room, request.as_deref());
        write(socket, Message::Text(text.into())).await
    }

    async fn draining(&self, socket: &mut WebSocket) -> Option<End> {
        let retry_after_ms = u64::try_from(DRAIN_RETRY.as_millis()).unwrap_or(u64::MAX);
        let room = self.seat.as_ref().map(|seat| &seat.call);
        let text = Outgoing::Draining { retry_after_ms }.text(room, None);
        write(socket, Message::Text(text.into())).await.or(Some(End(close::GOING_AWAY, "the edge ends")))
    }
}

async fn write(socket: &mut WebSocket, message: Message) -> Option<End> {
    match timeout(WRITE_MAX, socket.send(message)).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some(End(close::NORMAL, "")),
        Err(_) => Some(goodbye(Goodbye::TooSlow)),
    }
}

fn goodbye(why: Goodbye) -> End {
    match why {
        Goodbye::Replaced => End(close::REPLACED, "joined from elsewhere"),
        Goodbye::RoomClosed => End(close::ROOM_CLOSED, "the call is over"),
        Goodbye::TooSlow => End(close::TRY_AGAIN_LATER, "frames were not read"),
        Goodbye::Overloaded => End(close::TRY_AGAIN_LATER, "overloaded"),
    }
}

fn broken(error: &axum::Error) -> End {
    // tungstenite tells a frame beyond the limit in its error alone.
    if error.to_string().contains("too long") || error.to_string().contains("too large") {
        return End(close::TOO_BIG, "a frame is at most 256 KiB");
    }
    End(close::NORMAL, "")
}

/// How many frames a client may send now: a bucket that fills by [`FRAMES_PER_SECOND`].
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    const BURST: f64 = 10.0 * FRAMES_PER_SECOND as f64;

    fn full(at: Instant) -> Self {
        Self { left: Self::BURST, at }
    }

    fn take(&mut self, now: Instant) -> bool {
        let gained = now.duration_since(self.at).as_secs_f64() * f64::from(FRAMES_PER_SECOND);
        (self.left, self.at) = ((self.left + gained).min(Self::BURST), now);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

/// The longest message that the socket takes.
pub(crate) const MESSAGE_MAX: usize = FRAME_MAX_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_stopped_and_a_burst_is_not() {
        let begun = Instant::now();
        let mut allowance = Allowance::full(begun);
        assert!((0..500).all(|_| allowance.take(begun)));
        assert!(!allowance.take(begun));
        assert!(allowance.take(begun + Duration::from_secs(1)));
    }
}
