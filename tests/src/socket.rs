//! Signaling as a client speaks it: frames of JSON, and the closing of the socket.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderMap, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::client::Client;

/// The longest that a frame is waited for: more than somebody who lost their socket keeps their place (15 s), on a busy machine.
pub const FRAME_WITHIN: Duration = Duration::from_secs(45);
/// What everybody is told now and then, beside what a test waits for.
const CHATTER: [&str; 2] = ["quality", "active-speaker"];

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// A frame.
    Frame(Value),
    /// The socket is closed, with this code.
    Closed(u16),
}

/// An open socket.
pub struct Socket {
    /// Whose.
    pub user: String,
    /// The room that frames name.
    pub room: String,
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// Asks for the upgrade. `Err`: the answer that came instead, with its body.
///
/// # Errors
/// The HTTP answer.
///
/// # Panics
/// When there is none.
pub async fn upgrade(
    base: &str,
    query: &str,
    headers: &HeaderMap,
) -> Result<(WebSocketStream<MaybeTlsStream<TcpStream>>, Option<String>), Box<Response<Option<Vec<u8>>>>> {
    let url = format!("{}/video-calls/ws{query}", base.replacen("http", "ws", 1));
    let mut request = url.into_client_request().expect("a URL of a socket");
    request.headers_mut().extend(headers.clone());
    match connect_async(request).await {
        Ok((stream, answer)) => {
            let chosen = answer.headers().get("sec-websocket-protocol");
            Ok((stream, chosen.and_then(|name| name.to_str().ok()).map(str::to_owned)))
        }
        Err(Error::Http(answer)) => Err(answer),
        Err(error) => panic!("no answer to the upgrade: {error}"),
    }
}

impl Socket {
    /// Opens a socket for somebody who is signed in, without joining.
    ///
    /// # Panics
    /// When it is not opened.
    pub async fn open(client: &Client, base: &str, room: &str) -> Self {
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", client.token);
        headers.insert("authorization", bearer.parse().expect("a token is ASCII"));
        let (stream, _) = upgrade(base, "", &headers).await.unwrap_or_else(|answer| panic!("{answer:?}"));
        Self { user: client.user.clone(), room: room.to_owned(), stream }
    }

    /// Opens a socket and joins; also what `joined` says.
    ///
    /// # Panics
    /// When it is not let in.
    pub async fn join(client: &Client, base: &str, room: &str) -> (Self, Value) {
        let mut socket = Self::open(client, base, room).await;
        socket.send("join", json!({})).await;
        let joined = socket.frame("joined").await;
        (socket, joined["data"].clone())
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// When the socket is closed.
    pub async fn send(&mut self, kind: &str, data: Value) {
        let frame = json!({ "type": kind, "roomId": self.room, "userId": self.user, "data": data });
        self.raw(frame.to_string()).await;
    }

    /// Sends a frame to one person.
    ///
    /// # Panics
    /// When the socket is closed.
    pub async fn send_to(&mut self, target: &str, kind: &str, data: Value) {
        let frame = json!({ "type": kind, "roomId": self.room, "userId": self.user, "targetUserId": target, "data": data });
        self.raw(frame.to_string()).await;
    }

    /// Sends text as it is.
    ///
    /// # Panics
    /// When the socket is closed.
    pub async fn raw(&mut self, text: impl Into<String>) {
        let sent = self.stream.send(Message::Text(text.into().into())).await;
        sent.unwrap_or_else(|error| panic!("{}'s socket is closed: {error}", self.user));
    }

    /// The next that comes, chatter apart.
    ///
    /// # Panics
    /// When nothing comes, or no JSON.
    pub async fn next(&mut self) -> Came {
        loop {
            match self.any().await {
                Came::Frame(frame) if CHATTER.iter().any(|kind| frame["type"] == *kind) => {}
                came => return came,
            }
        }
    }

    /// The next that comes, chatter as well.
    ///
    /// # Panics
    /// When nothing comes, or no JSON.
    pub async fn any(&mut self) -> Came {
        loop {
            let next = timeout(FRAME_WITHIN, self.stream.next()).await;
            let next = next.unwrap_or_else(|_| panic!("nothing comes for {}", self.user));
            match next {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
                    return Came::Frame(frame);
                }
                Some(Ok(Message::Close(frame))) => {
                    return Came::Closed(frame.map_or(CloseCode::Status.into(), |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Came::Closed(CloseCode::Abnormal.into()),
            }
        }
    }

    /// The next frame of a type; others before it are passed over.
    ///
    /// # Panics
    /// When the socket closes before it.
    pub async fn frame(&mut self, kind: &str) -> Value {
        loop {
            match self.any().await {
                Came::Frame(frame) if frame["type"] == kind => return frame,
                Came::Frame(_) => {}
                Came::Closed(code) => panic!("{} waits for {kind}; closed with {code}", self.user),
            }
        }
    }

    /// The code that the socket is closed with, frames before that passed over.
    ///
    /// # Panics
    /// When it stays open.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Came::Closed(code) = self.next().await {
                return code;
            }
        }
    }

    /// The code of the error that comes next.
    ///
    /// # Panics
    /// When none comes.
    pub async fn refused(&mut self) -> String {
        let frame = self.frame("error").await;
        frame["data"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Asks whether the server is there, and waits until it says so: everything sent before has been read.
    ///
    /// # Panics
    /// When it does not.
    pub async fn ping(&mut self) {
        self.send("ping", Value::Null).await;
        self.frame("pong").await;
    }
}
