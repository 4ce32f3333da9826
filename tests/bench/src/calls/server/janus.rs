//! Janus with its videoroom, as Debian packages it, by its HTTP interface: publishers offer, subscribers are offered.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use e2e::program::{Program, command};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::calls::client::{Client, Receives};

/// The one room.
const ROOM: u64 = 1;
/// Where Debian puts plugins and transports, below the folder of each architecture.
const LIBRARIES: &str = "/usr/lib";

/// A running Janus with a room.
pub(in crate::calls) struct Janus {
    program: Program,
    door: Door,
    _folder: TempDir,
}

impl Janus {
    /// With its defaults, but for ports, folders, and plugins that nobody uses here.
    pub(in crate::calls) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("callreel-janus-").tempdir()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        configure(folder.path(), port)?;
        let mut command = command("janus");
        command.arg("--configs-folder").arg(folder.path()).args(["--disable-colors", "--debug-level", "4"]);
        let mut program = Program::spawn("janus", &mut command);
        program.line_with("HTTP webserver started").await;
        let door = Door::open(&format!("http://127.0.0.1:{port}/janus")).await?;
        Ok(Self { program, door, _folder: folder })
    }

    pub(in crate::calls) fn pid(&self) -> u32 {
        self.program.pid()
    }

    pub(in crate::calls) fn door(&self) -> Door {
        self.door.clone()
    }
}

fn configure(folder: &Path, port: u16) -> anyhow::Result<()> {
    let libraries = libraries()?;
    // A folder with one plugin, so that the others' threads and memory are not Janus'.
    for (kind, name) in [("plugins", "libjanus_videoroom.so"), ("transports", "libjanus_http.so")] {
        let ours = folder.join(kind);
        std::fs::create_dir(&ours)?;
        for entry in std::fs::read_dir(libraries.join(kind))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(name) {
                std::os::unix::fs::symlink(entry.path(), ours.join(entry.file_name()))?;
            }
        }
    }
    let path = |kind: &str| folder.join(kind).display().to_string();
    let general = format!(
        "general: {{\n  plugins_folder = \"{}\"\n  transports_folder = \"{}\"\n}}\n",
        path("plugins"),
        path("transports")
    );
    let http = format!(
        "general: {{\n  json = \"compact\"\n  base_path = \"/janus\"\n  http = true\n  port = {port}\n  ip = \"127.0.0.1\"\n  https = false\n}}\n"
    );
    std::fs::write(folder.join("janus.jcfg"), general)?;
    std::fs::write(folder.join("janus.transport.http.jcfg"), http)?;
    std::fs::write(folder.join("janus.plugin.videoroom.jcfg"), "general: {\n}\n")?;
    Ok(())
}

/// Janus' own folder of libraries.
fn libraries() -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(LIBRARIES)?.filter_map(Result::ok);
    let mut found =
        entries.map(|entry| entry.path().join("janus")).filter(|path| path.join("plugins").is_dir());
    found.next().context("Janus is not installed (Debian: janus)")
}

/// See [`super::Door`].
#[derive(Clone)]
pub(in crate::calls) struct Door(Arc<Session>);

struct Session {
    http: reqwest::Client,
    url: String,
    next: AtomicU64,
    /// Who waits for the event of a transaction.
    waiting: Arc<Mutex<HashMap<String, oneshot::Sender<Value>>>>,
    events: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.events.abort();
    }
}

impl Door {
    async fn open(base: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::new();
        let created = post(&http, base, &json!({ "janus": "create", "transaction": "create" })).await?;
        let url = format!("{base}/{}", created["data"]["id"].as_u64().context("a session has an id")?);
        let waiting = Arc::default();
        let events = tokio::spawn(hear(http.clone(), url.clone(), Arc::clone(&waiting)));
        let door = Self(Arc::new(Session { http, url, next: AtomicU64::new(0), waiting, events }));
        let handle = door.attach().await?;
        let room = json!({
            "request": "create", "room": ROOM, "publishers": 1, "videocodec": "vp8", "bitrate": 0,
            "audiolevel_event": false, "notify_joining": false
        });
        let created = door.request(&handle, json!({ "janus": "message", "body": room })).await?;
        let done = &created["plugindata"]["data"]["videoroom"];
        ensure!(done == "created", "no room: {created}");
        Ok(door)
    }

    pub(super) async fn publish(&self, client: &mut Client) -> anyhow::Result<()> {
        let handle = self.attach().await?;
        let join = json!({ "request": "join", "ptype": "publisher", "room": ROOM, "id": 1 });
        self.event(&handle, join, None).await?;
        let offer = json!({ "type": "offer", "sdp": client.offer(Receives::Nothing)? });
        let published =
            self.event(&handle, json!({ "request": "publish", "audio": false }), Some(offer)).await?;
        client.answered(sdp(&published)?)
    }

    pub(super) async fn subscribe(&self, client: &mut Client) -> anyhow::Result<String> {
        let handle = self.attach().await?;
        let join =
            json!({ "request": "join", "ptype": "subscriber", "room": ROOM, "streams": [{ "feed": 1 }] });
        let offered = self.event(&handle, join, None).await?;
        let answer = client.answer(sdp(&offered)?)?;
        let jsep = json!({ "type": "answer", "sdp": answer });
        self.event(&handle, json!({ "request": "start" }), Some(jsep)).await?;
        Ok(answer)
    }

    /// A new handle of the plugin; its URL.
    async fn attach(&self) -> anyhow::Result<String> {
        let request = json!({ "janus": "attach", "plugin": "janus.plugin.videoroom" });
        let attached = self.request(&self.0.url, request).await?;
        let id = attached["data"]["id"].as_u64().with_context(|| format!("no handle: {attached}"))?;
        Ok(format!("{}/{id}", self.0.url))
    }

    /// Sends a message whose answer is an event.
    async fn event(&self, handle: &str, body: Value, jsep: Option<Value>) -> anyhow::Result<Value> {
        let transaction = self.transaction();
        let (told, event) = oneshot::channel();
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(transaction.clone(), told);
        let mut message = json!({ "janus": "message", "transaction": transaction, "body": body });
        if let Some(jsep) = jsep {
            message["jsep"] = jsep;
        }
        post(&self.0.http, handle, &message).await?;
        let event = event.await.context("Janus says nothing more")?;
        ensure!(event["plugindata"]["data"]["error"].is_null(), "Janus refuses: {event}");
        Ok(event)
    }

    /// Sends what is answered at once.
    async fn request(&self, url: &str, mut request: Value) -> anyhow::Result<Value> {
        request["transaction"] = json!(self.transaction());
        post(&self.0.http, url, &request).await
    }

    fn transaction(&self) -> String {
        self.0.next.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

fn sdp(event: &Value) -> anyhow::Result<String> {
    Ok(event["jsep"]["sdp"].as_str().with_context(|| format!("no description: {event}"))?.to_owned())
}

async fn post(http: &reqwest::Client, url: &str, body: &Value) -> anyhow::Result<Value> {
    let answer: Value = http.post(url).json(body).send().await?.error_for_status()?.json().await?;
    ensure!(answer["janus"] != "error", "Janus refuses: {answer}");
    Ok(answer)
}

/// Gives events to those who wait for them; asking also keeps the session alive.
async fn hear(
    http: reqwest::Client,
    session: String,
    waiting: Arc<Mutex<HashMap<String, oneshot::Sender<Value>>>>,
) {
    let url = format!("{session}?maxev=10");
    loop {
        let Ok(response) = http.get(&url).send().await else { return };
        let Ok(events) = response.json::<Value>().await else { return };
        let events = if let Value::Array(events) = events { events } else { vec![events] };
        for event in events.into_iter().filter(|event| event["janus"] == "event") {
            let transaction = event["transaction"].as_str().unwrap_or_default();
            let waits = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(transaction);
            // Those that nobody waits for tell of the room's life.
            let _ = waits.map(|waits| waits.send(event));
        }
    }
}
