//! Our edge: publishing by WHIP, playing by WHEP, as any client without a browser does.

use anyhow::ensure;
use e2e::client::{self, Client as Caller, Recording};
use e2e::system::System;
use serde_json::json;

use crate::calls::client::{Client, Receives};

/// The publisher's user.
const HOST: &str = "host";
/// Bits per second of a publisher; the load is above the default of a browser's camera.
const VIDEO_BPS: &str = "50000000";

/// A running edge with a call.
pub(in crate::calls) struct Edge {
    system: System,
    host: Caller,
    door: Door,
}

impl Edge {
    /// With a database of its own and one media thread: a call lives on one thread, however many there are.
    pub(in crate::calls) async fn start(subscribers: u32) -> Self {
        let system = System::builder()
            .workers(0)
            .set("WEBRTC_THREADS", "1")
            .set("WEBRTC_MAX_VIDEO_BITRATE", VIDEO_BPS)
            .start()
            .await;
        let host = system.client(HOST);
        let users: Vec<String> = (0..subscribers).map(user).collect();
        let call = json!({ "participants": users, "maxParticipants": 1_000 });
        let made = host.post("/video-calls", &call).await.expect(201).data();
        let id = made["id"].as_str().unwrap_or_default();
        let base = format!("{}/video-calls/{id}", system.edge.url());
        let door = Door { http: reqwest::Client::new(), base };
        Self { system, host, door }
    }

    pub(in crate::calls) fn pid(&mut self) -> u32 {
        self.system.edge.program().pid()
    }

    pub(in crate::calls) fn door(&self) -> Door {
        self.door.clone()
    }

    /// Captures what is published from now on.
    pub(in crate::calls) async fn record(&self) -> Recording {
        let call = self.door.base.rsplit('/').next().unwrap_or_default();
        self.host.start_recording(call, &json!({})).await
    }

    /// Ends a recording.
    pub(in crate::calls) async fn stop(&self, recording: &Recording) {
        self.host.stop(recording).await;
    }
}

/// See [`super::Door`].
#[derive(Clone)]
pub(in crate::calls) struct Door {
    http: reqwest::Client,
    /// The call's URL.
    base: String,
}

impl Door {
    pub(super) async fn publish(&self, client: &mut Client) -> anyhow::Result<()> {
        let offer = client.offer(Receives::Nothing)?;
        let answer = self.post("whip", HOST, offer).await?;
        client.answered(answer)
    }

    pub(super) async fn subscribe(&self, number: u32, client: &mut Client) -> anyhow::Result<String> {
        let offer = client.offer(Receives::Pictures)?;
        let answer = self.post(&format!("whep/{HOST}"), &user(number), offer).await?;
        client.answered(answer.clone())?;
        Ok(answer)
    }

    async fn post(&self, path: &str, user: &str, offer: String) -> anyhow::Result<String> {
        let request = self.http.post(format!("{}/{path}", self.base));
        let request = request.bearer_auth(client::token(json!({ "sub": user })));
        let response = request.header("content-type", "application/sdp").body(offer).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.as_u16() == 201, "{path} of {user}: {status} {text}");
        Ok(text)
    }
}

fn user(number: u32) -> String {
    format!("user{number}")
}
