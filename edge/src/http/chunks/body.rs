//! A request's body as it arrives: limits of time, and what becomes of it when the answer is given before it has arrived.
//!
//! Decisions:
//! - An answer that is given early (413, 403, 404, …) must reach a client that is still sending: a server that closes at once
//!   makes the client's system reset the connection and drop the answer. So the rest of a body that was let go is read and
//!   thrown away for a while, beside the answer.
//! - A client that waits for `100 Continue` has sent nothing yet, and learns from the answer not to.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use futures::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::problem::Problem;
use crate::settings::Patience;

/// The most of a let-go body that is read: what a client has under way in its own and our buffers is less.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
/// The longest that a let-go body is read.
const LINGER: Duration = Duration::from_secs(5);

/// A body that is being read.
pub(super) struct Arriving {
    stream: BodyDataStream,
    pause: Duration,
    deadline: Instant,
}

impl Arriving {
    pub(super) fn new(body: Body, patience: Patience) -> Self {
        let deadline = Instant::now() + patience.body;
        Self { stream: body.into_data_stream(), pause: patience.pause, deadline }
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let next = timeout_at(self.deadline.min(Instant::now() + self.pause), self.stream.next());
        match next.await {
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(Problem::BrokenOff),
            Err(_) => Err(Problem::TooSlow),
        }
    }
}

/// Wraps a request's body so that, when it is let go before its end, the rest is read and thrown away for a while.
pub(crate) async fn linger(request: Request) -> Request {
    let expects = request.headers().contains_key(EXPECT);
    let asked = if expects { Asked::NotYet } else { Asked::Yes };
    request.map(|body| Body::new(Lingering { body: Some(body), asked }))
}

/// Whether the client is sending its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    NotYet,
    Yes,
}

struct Lingering {
    body: Option<Body>,
    asked: Asked,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        self.asked = Asked::Yes;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| self.asked == Asked::Yes && !body.is_end_stream())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(timeout(LINGER, throw_away(body)));
        }
    }
}

async fn throw_away(body: Body) {
    let mut stream = body.into_data_stream();
    let mut left = LINGER_BYTES;
    while let Some(Ok(bytes)) = stream.next().await {
        let Some(rest) = left.checked_sub(bytes.len()) else { return };
        left = rest;
    }
}
