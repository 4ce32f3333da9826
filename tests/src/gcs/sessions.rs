//! Sessions: an object that comes in chunks. What a chunk that breaks off has brought stays, in whole steps of [`STEP`].

#![expect(clippy::result_large_err, reason = "an answer either way, as axum has it")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::json;
use ulid::Ulid;

use super::objects::{Parameters, Shared, Told, crc32c_text};
use super::{BUCKET, Fault, Server, answers};

/// Chunks are a multiple of this but for the last one.
const STEP: u64 = 256 * 1024;

pub(super) struct Session {
    key: String,
    told: Told,
    size: u64,
    file: Arc<File>,
    name: String,
    received: u64,
    /// Whoever writes has the latest; who asks how far it is takes it away.
    turn: u64,
    standing: Standing,
}

#[derive(Clone, PartialEq, Eq)]
enum Standing {
    Open,
    Done,
    Ended,
}

impl Session {
    pub(super) fn is_open(&self) -> bool {
        self.standing == Standing::Open
    }

    fn kept(&self) -> u64 {
        if self.received == self.size { self.size } else { self.received - self.received % STEP }
    }

    fn how_far(&self) -> Response {
        let mut answer = answers::of_session(308);
        if let Some(last) = self.kept().checked_sub(1) {
            let range = HeaderValue::from_str(&format!("bytes=0-{last}")).expect("a number");
            answer.headers_mut().insert("range", range);
        }
        answer
    }
}

pub(super) fn begin(
    server: &Server,
    key: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Response> {
    let told: Told = serde_json::from_slice(body).map_err(|_| answers::wrong("Parse Error"))?;
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let size = header("x-upload-content-length").and_then(|size| size.parse().ok());
    let size = size.ok_or_else(|| answers::wrong("X-Upload-Content-Length"))?;
    let host = header("host").ok_or_else(|| answers::wrong("Host"))?;
    let name = Ulid::generate().to_string();
    let file = File::options().read(true).write(true).create(true).truncate(true).open(server.file(&name));
    let file = Arc::new(file.expect("the disk has room"));
    let session = Session {
        key: key.to_owned(),
        told,
        size,
        file,
        name: name.clone(),
        received: 0,
        turn: 0,
        standing: Standing::Open,
    };
    server.state().sessions.insert(name.clone(), session);
    let uri = format!("http://{host}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&upload_id={name}");
    Ok((StatusCode::OK, [("location", uri)]).into_response())
}

pub(super) async fn end(State(server): Shared, Query(query): Parameters) -> Response {
    let mut state = server.state();
    match query.get("upload_id").and_then(|id| state.sessions.get_mut(id)).filter(|session| session.is_open())
    {
        Some(session) => {
            session.standing = Standing::Ended;
            answers::of_session(499)
        }
        None => answers::of_session(404),
    }
}

/// A chunk, or a question.
pub(super) async fn put(
    State(server): Shared,
    Query(query): Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let id = query.get("upload_id").map(String::as_str).unwrap_or_default();
    if server.fault(|fault| (fault == Fault::Forgets).then_some(())).is_some() {
        server.state().sessions.remove(id);
    }
    if server.fault(|fault| (fault == Fault::Lies).then_some(())).is_some() {
        // Taken whole: an answer in the middle of a body may be lost to the sender, who then repeats.
        body.into_data_stream().for_each(async |_| ()).await;
        let lie = json!({ "kind": "storage#object", "name": "x", "size": "0", "crc32c": "AAAAAA==" });
        return Ok(axum::Json(lie).into_response());
    }
    let range = headers.get("content-range").and_then(|range| range.to_str().ok()?.strip_prefix("bytes "));
    let range = range.ok_or_else(|| answers::wrong("Content-Range"))?;
    match standing(&server, id)? {
        Standing::Ended => return Err(answers::of_session(410)),
        Standing::Done => return done(&server, id),
        Standing::Open => {}
    }
    if range != "*/*" && !range.starts_with("*/") {
        write(&server, id, range, &headers, body).await?;
    }
    let (complete, how_far) = {
        let mut state = server.state();
        let session = state.sessions.get_mut(id).ok_or_else(|| answers::of_session(404))?;
        session.turn += 1;
        (session.received == session.size && range != "*/*", session.how_far())
    };
    if complete { finish(&server, id, &headers).await } else { Ok(how_far) }
}

fn standing(server: &Server, id: &str) -> Result<Standing, Response> {
    let state = server.state();
    state.sessions.get(id).map(|session| session.standing.clone()).ok_or_else(|| answers::of_session(404))
}

/// What it has become is told again, whatever has happened to it since.
fn done(server: &Server, id: &str) -> Result<Response, Response> {
    let state = server.state();
    let session = state.sessions.get(id).ok_or_else(|| answers::of_session(404))?;
    let told = json!({ "kind": "storage#object", "name": session.key, "size": session.size.to_string() });
    Ok(axum::Json(told).into_response())
}

async fn write(
    server: &Server,
    id: &str,
    range: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), Response> {
    let wrong = || answers::wrong("Invalid Content-Range");
    let (range, size) = range.split_once('/').ok_or_else(wrong)?;
    let (first, last) = range.split_once('-').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let (first, end, size) = (number(first)?, number(last)? + 1, number(size)?);
    let (file, turn) = {
        let mut state = server.state();
        let session = state.sessions.get_mut(id).ok_or_else(|| answers::of_session(404))?;
        let whole = (end - first).is_multiple_of(STEP) || end == size;
        let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        if first != session.kept() || size != session.size || !whole || length != Some(end - first) {
            return Err(wrong());
        }
        (session.turn, session.received) = (session.turn + 1, first);
        (Arc::clone(&session.file), session.turn)
    };
    let keeps = server.fault(|fault| if let Fault::KeepsLittle(bytes) = fault { Some(bytes) } else { None });
    let mut damages = server.fault(|fault| (fault == Fault::Damages).then_some(())).is_some();
    let (mut at, mut blocks) = (first, body.into_data_stream());
    while let Some(Ok(block)) = blocks.next().await {
        let mut block = block.to_vec();
        if std::mem::take(&mut damages) {
            block[0] ^= 1;
        }
        let mut state = server.state();
        let session = state.sessions.get_mut(id).filter(|session| session.turn == turn && session.is_open());
        let session = session.ok_or_else(|| answers::of_session(410))?;
        file.write_all_at(&block, at).expect("the disk has room");
        at += block.len() as u64;
        session.received = keeps.map_or(at, |keeps| at.min(first + keeps));
    }
    Ok(())
}

/// Makes the object, if it is what it is said to be.
async fn finish(server: &Arc<Server>, id: &str, headers: &HeaderMap) -> Result<Response, Response> {
    let (key, told, size, file, name) = {
        let state = server.state();
        let session = state.sessions.get(id).ok_or_else(|| answers::of_session(404))?;
        (
            session.key.clone(),
            session.told.clone(),
            session.size,
            Arc::clone(&session.file),
            session.name.clone(),
        )
    };
    let read = tokio::task::spawn_blocking(move || crc32c_of(&file, size)).await;
    let calculated = crc32c_text(read.expect("it does not panic"));
    let given = headers.get("x-goog-hash").and_then(|hash| hash.to_str().ok()?.strip_prefix("crc32c="));
    let given = given.map(str::to_owned).or_else(|| told.crc32c.clone());
    let wrong = given.filter(|given| *given != calculated);
    let standing = if wrong.is_some() { Standing::Ended } else { Standing::Done };
    if let Some(session) = server.state().sessions.get_mut(id) {
        session.standing = standing;
    }
    if let Some(given) = wrong {
        return Err(answers::wrong_checksum(&given, &calculated));
    }
    let answer = server.store(&key, &told, server.file(&name), size, calculated);
    if server.fault(|fault| (fault == Fault::LosesAnswer).then_some(())).is_some() {
        let broken =
            futures::stream::iter([Err::<Vec<u8>, _>(std::io::Error::other("as the test wants it"))]);
        return Ok(([("content-length", "1000")], Body::from_stream(broken)).into_response());
    }
    Ok(answer)
}

fn crc32c_of(file: &File, size: u64) -> u32 {
    let (mut crc, mut at, mut block) = (0, 0, vec![0; 1 << 20]);
    while at < size {
        let read = file.read_at(&mut block, at).expect("a file that was just written");
        crc = crc32c::crc32c_append(crc, &block[..read]);
        at += read as u64;
    }
    crc
}
