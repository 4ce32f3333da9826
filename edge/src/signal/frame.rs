//! The frames of the signaling socket (API, section 6): JSON text in both directions, those for clients in `outgoing`. Pure.
//!
//! This file must not know sockets, rooms or WebRTC: it says what a frame means, or why it means nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::id::{CallId, UserId};

use crate::error::Code;

mod outgoing;

pub(crate) use outgoing::{LeaveReason, Outgoing, Person, RecordingTold};

/// The longest frame that is taken. A browser's offer for fifty people is below 200 KiB.
pub(crate) const FRAME_MAX_BYTES: usize = 256 * 1024;
/// The longest `data` of a `message`, as JSON.
pub(crate) const MESSAGE_MAX_BYTES: usize = 16 * 1024;
/// The longest `metadata` of a `join`, as JSON: a name, a picture's address, a colour.
const METADATA_MAX_BYTES: usize = 4 * 1024;
/// The longest `requestId`; it is repeated in answers.
const REQUEST_ID_MAX_BYTES: usize = 128;
/// The most m-lines that a client may call screens.
const SCREENS_MAX: usize = 16;

/// A frame of a client, without its envelope.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Incoming {
    /// The call.
    pub(crate) room: CallId,
    /// Who says they sent it; must be the token's subject.
    pub(crate) user: UserId,
    /// Whom it is for; absent: the server, or everybody.
    pub(crate) target: Option<UserId>,
    /// Repeated in the answer, when there is one.
    pub(crate) request: Option<String>,
    /// What is asked.
    pub(crate) ask: Ask,
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ask {
    /// Enter the room.
    Join(Join),
    /// Leave it.
    Leave,
    /// A session description.
    Offer {
        /// Its text.
        sdp: String,
        /// The m-lines that show a screen.
        screens: Vec<String>,
        /// As it came, to be relayed to a person as is.
        data: Value,
    },
    /// The answer to one.
    Answer {
        /// Its text.
        sdp: String,
        /// As it came.
        data: Value,
    },
    /// An ICE candidate; `None`: there are no more.
    Candidate {
        /// The candidate.
        candidate: Option<Candidate>,
        /// As it came.
        data: Value,
    },
    /// Nothing is sent of this kind for now; `None`: of no kind.
    Mute(Option<Kind>),
    /// It is sent again.
    Unmute(Option<Kind>),
    /// What to receive of somebody.
    Subscribe(Subscription),
    /// What not to receive.
    Unsubscribe(Subscription),
    /// Anything, for the room or one person.
    Message(Value),
    /// Are you there?
    Ping,
}

/// How somebody enters.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Join {
    /// Told to the others.
    pub(crate) metadata: Option<Value>,
    /// Whether to receive what others publish; absent: yes.
    pub(crate) receive: Option<bool>,
    /// The session that a client takes up again after its socket was lost.
    pub(crate) session_id: Option<String>,
}

/// What to receive of somebody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Subscription {
    /// Who publishes it.
    pub(crate) user_id: UserId,
    /// What of it; absent: everything.
    #[serde(default)]
    pub(crate) kind: Option<Kind>,
    /// The best simulcast layer wanted; absent: the best there is.
    #[serde(default)]
    pub(crate) layer: Option<Layer>,
    /// How large it is shown, to be told again when that changes: no layer larger than what fills it is sent. Absent: unknown.
    #[serde(default)]
    pub(crate) size: Option<Size>,
}

/// How large something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Size {
    /// Pixels of the device, not of CSS.
    pub(crate) width: u32,
    /// Pixels of the device.
    pub(crate) height: u32,
}

/// What a track shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A microphone.
    Audio,
    /// A camera.
    Video,
    /// A screen.
    Screen,
}

/// A simulcast layer, by the `rid` that clients name it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Layer {
    /// A quarter of the size.
    #[serde(rename = "q")]
    Quarter,
    /// Half of it.
    #[serde(rename = "h")]
    Half,
    /// The full size.
    #[serde(rename = "f")]
    Full,
}

/// An ICE candidate as browsers serialise it (`RTCIceCandidateInit`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Candidate {
    /// The candidate attribute (RFC 8839, section 5.1); empty: there are no more for this m-line.
    pub(crate) candidate: String,
    /// The m-line's id.
    #[serde(default)]
    pub(crate) sdp_mid: Option<String>,
    /// The m-line's index.
    #[serde(default)]
    pub(crate) sdp_m_line_index: Option<u16>,
    /// The ICE generation.
    #[serde(default)]
    pub(crate) username_fragment: Option<String>,
}

/// Why a frame means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadFrame {
    /// Of what kind the mistake is.
    pub(crate) code: Code,
    /// A sentence for whoever wrote the client.
    pub(crate) detail: String,
    /// The frame's `requestId`, when that could be read.
    pub(crate) request: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    room_id: Option<String>,
    user_id: Option<String>,
    target_user_id: Option<String>,
    request_id: Option<Value>,
    data: Option<Value>,
}

impl Incoming {
    /// Reads a frame.
    ///
    /// # Errors
    /// Why it means nothing; the socket stays.
    pub(crate) fn parse(text: &str) -> Result<Self, BadFrame> {
        let envelope: Envelope = serde_json::from_str(text).map_err(|error| BadFrame {
            code: if error.is_data() { Code::InvalidRequest } else { Code::MalformedJson },
            detail: format!("the frame is not {{type, roomId, userId, data}}: {error}"),
            request: None,
        })?;
        let request = request_id(envelope.request_id.as_ref());
        envelope.open(request.clone()).map_err(|detail| BadFrame {
            code: Code::InvalidRequest,
            detail,
            request,
        })
    }
}

impl Envelope {
    fn open(self, request: Option<String>) -> Result<Incoming, String> {
        let id = |name: &str, raw: Option<String>| raw.ok_or_else(|| format!("{name} is missing"));
        let room = CallId::parse(&id("roomId", self.room_id)?).map_err(|error| format!("roomId: {error}"))?;
        let user = UserId::parse(&id("userId", self.user_id)?).map_err(|error| format!("userId: {error}"))?;
        let target = self.target_user_id.as_deref().map(UserId::parse).transpose();
        let target = target.map_err(|error| format!("targetUserId: {error}"))?;
        let ask = ask(&self.kind, self.data.unwrap_or(Value::Null))?;
        Ok(Incoming { room, user, target, request, ask })
    }
}

/// Numbers are taken too: clients count their requests.
fn request_id(raw: Option<&Value>) -> Option<String> {
    let text = match raw? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (text.len() <= REQUEST_ID_MAX_BYTES).then_some(text)
}

fn ask(kind: &str, data: Value) -> Result<Ask, String> {
    Ok(match kind {
        "join" => Ask::Join(join(data)?),
        "leave" => Ask::Leave,
        "offer" => {
            let sdp = sdp(&data, "offer")?;
            Ask::Offer { sdp, screens: screens(&data)?, data }
        }
        "answer" => Ask::Answer { sdp: sdp(&data, "answer")?, data },
        "ice-candidate" => Ask::Candidate { candidate: candidate(&data)?, data },
        "mute" => Ask::Mute(muted_kind(&data)?),
        "unmute" => Ask::Unmute(muted_kind(&data)?),
        "subscribe" => Ask::Subscribe(read(data, "{userId, kind?, layer?, size?: {width, height}}")?),
        "unsubscribe" => Ask::Unsubscribe(read(data, "{userId, kind?}")?),
        "message" => Ask::Message(sized(data, MESSAGE_MAX_BYTES, "data of a message is at most 16 KiB")?),
        "ping" => Ask::Ping,
        other => return Err(format!("there is no frame of type {}", short(other))),
    })
}

fn join(data: Value) -> Result<Join, String> {
    if data.is_null() {
        return Ok(Join::default());
    }
    let join: Join = read(data, "{metadata?, receive?, sessionId?}")?;
    if let Some(metadata) = &join.metadata {
        sized(metadata.clone(), METADATA_MAX_BYTES, "metadata of a join is at most 4 KiB")?;
    }
    Ok(join)
}

/// `{sdp: "…"}`, or `{sdp: {type, sdp}}` as browsers serialise a description.
fn sdp(data: &Value, kind: &str) -> Result<String, String> {
    let sdp = &data["sdp"];
    let text = match sdp {
        Value::Object(_) if sdp["type"].as_str().is_some_and(|given| given != kind) => {
            return Err(format!("data.sdp.type is not {kind}"));
        }
        Value::Object(_) => &sdp["sdp"],
        other => other,
    };
    let text = text.as_str().ok_or("data is {sdp}: a string, or {type, sdp}")?;
    if text.starts_with("v=") {
        Ok(text.to_owned())
    } else {
        Err("data.sdp is no session description".into())
    }
}

fn screens(data: &Value) -> Result<Vec<String>, String> {
    let screens: Option<Vec<String>> = read(data["screens"].clone(), "{sdp, screens?: [mid]}")?;
    let screens = screens.unwrap_or_default();
    if screens.len() > SCREENS_MAX { Err(format!("screens are {SCREENS_MAX} at most")) } else { Ok(screens) }
}

/// `{candidate: {candidate, sdpMid, …}}`, the candidate's own object, its text, or `null` at the end.
fn candidate(data: &Value) -> Result<Option<Candidate>, String> {
    const SHAPE: &str = "{candidate: {candidate, sdpMid, sdpMLineIndex} | null}";
    let inner = match data.get("candidate") {
        Some(Value::String(_)) => data,
        Some(inner) => inner,
        None if data.is_null() => &Value::Null,
        None => return Err(format!("data is {SHAPE}")),
    };
    let candidate: Option<Candidate> = read(inner.clone(), SHAPE)?;
    // Browsers tell the end of a generation by an empty candidate too (W3C webrtc, RTCIceCandidate).
    Ok(candidate.filter(|candidate| !candidate.candidate.is_empty()))
}

/// A camera and a microphone can be muted; a screen is shown or not.
fn muted_kind(data: &Value) -> Result<Option<Kind>, String> {
    if data.is_null() {
        return Ok(None);
    }
    let kind: Option<Kind> = read(data["kind"].clone(), "{kind?: \"audio\" | \"video\"}")?;
    match kind {
        Some(Kind::Screen) => Err("a screen is not muted: stop its track".into()),
        kind => Ok(kind),
    }
}

fn read<T: serde::de::DeserializeOwned>(data: Value, shape: &str) -> Result<T, String> {
    serde_json::from_value(data).map_err(|error| format!("data is {shape}: {error}"))
}

fn sized(data: Value, max: usize, wants: &str) -> Result<Value, String> {
    if data.to_string().len() > max { Err(wants.to_owned()) } else { Ok(data) }
}

/// Enough of somebody's word to recognise it.
fn short(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "so that a test writes its value in place")]
    fn ask_of(kind: &str, data: Value) -> Result<Ask, String> {
        let frame = json!({ "type": kind, "roomId": "r", "userId": "ann", "data": data });
        Incoming::parse(&frame.to_string()).map(|frame| frame.ask).map_err(|bad| bad.detail)
    }

    #[test]
    fn a_description_comes_as_text_or_as_browsers_serialise_it() {
        let plain = ask_of("offer", json!({ "sdp": "v=0\r\n" })).unwrap();
        let nested = ask_of("offer", json!({ "sdp": { "type": "offer", "sdp": "v=0\r\n" } })).unwrap();
        for ask in [plain, nested] {
            assert!(matches!(ask, Ask::Offer { sdp, .. } if sdp == "v=0\r\n"));
        }
        assert!(ask_of("offer", json!({ "sdp": { "type": "answer", "sdp": "v=0\r\n" } })).is_err());
        assert!(ask_of("answer", json!({ "sdp": "hello" })).is_err());
        assert!(ask_of("answer", json!({})).is_err());
    }

    #[test]
    fn the_end_of_candidates_is_null_or_empty() {
        let last = Ok::<_, String>(None);
        let read = |data| match ask_of("ice-candidate", data) {
            Ok(Ask::Candidate { candidate, .. }) => Ok(candidate.map(|one| one.candidate)),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error),
        };
        assert_eq!(read(Value::Null), last);
        assert_eq!(read(json!({ "candidate": null })), last);
        assert_eq!(read(json!({ "candidate": { "candidate": "", "sdpMid": "0" } })), last);
        let one = "candidate:1 1 udp 1 192.0.2.1 9 typ host";
        assert_eq!(read(json!({ "candidate": { "candidate": one } })), Ok(Some(one.to_owned())));
        assert_eq!(read(json!({ "candidate": one, "sdpMid": "0" })), Ok(Some(one.to_owned())));
        assert!(read(json!({ "candidate": 7 })).is_err());
    }

    #[test]
    fn what_cannot_be_read_says_why_and_keeps_its_request_id() {
        let bad = |text: &str| Incoming::parse(text).unwrap_err();
        assert_eq!(bad("{").code, Code::MalformedJson);
        assert_eq!(bad("[]").code, Code::InvalidRequest);
        let frame = r#"{"type":"dance","roomId":"r","userId":"ann","requestId":7}"#;
        assert_eq!((bad(frame).code, bad(frame).request.as_deref()), (Code::InvalidRequest, Some("7")));
        assert!(bad(r#"{"type":"ping","userId":"ann"}"#).detail.contains("roomId"));
        assert!(bad(r#"{"type":"ping","roomId":"r","userId":"a b"}"#).detail.contains("userId"));
    }

    #[test]
    fn limits_hold() {
        assert!(ask_of("message", json!("x".repeat(MESSAGE_MAX_BYTES))).is_err());
        assert!(ask_of("message", json!("x".repeat(MESSAGE_MAX_BYTES - 2))).is_ok());
        assert!(ask_of("join", json!({ "metadata": "x".repeat(METADATA_MAX_BYTES) })).is_err());
        assert!(ask_of("offer", json!({ "sdp": "v=0", "screens": vec!["1"; SCREENS_MAX + 1] })).is_err());
    }

    #[test]
    fn mute_names_audio_video_or_neither() {
        assert_eq!(ask_of("mute", Value::Null), Ok(Ask::Mute(None)));
        assert_eq!(ask_of("unmute", json!({ "kind": "audio" })), Ok(Ask::Unmute(Some(Kind::Audio))));
        assert!(ask_of("mute", json!({ "kind": "screen" })).is_err());
    }

    #[test]
    fn a_frame_for_a_client_carries_its_room_and_request() {
        let room = CallId::parse("r").unwrap();
        let text = Outgoing::Answer("v=0".into()).text(Some(&room), Some("7"));
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            frame,
            json!({ "type": "answer", "roomId": "r", "requestId": "7", "data": { "sdp": { "type": "answer", "sdp": "v=0" } } })
        );
        assert_eq!(Outgoing::Pong.text(None, None), r#"{"type":"pong"}"#);
    }
}
