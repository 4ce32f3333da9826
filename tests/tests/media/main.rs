//! Media over the real ports of a running edge: what strangers and forgers send meanwhile, and many who vanish.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod capacity;
mod flood;
mod frames;
mod garbage;
mod member;
mod participant;
mod rights;
mod timeline;
mod vanish;

#[expect(dead_code, reason = "the other tests of this client need all of it")]
#[path = "../../../edge/sfu/tests/call/client.rs"]
mod client;

use e2e::client::Client;
use e2e::system::{Builder, System};
use serde_json::json;
use tokio::time::{Duration, Instant, interval};

/// Between two looks at figures, which give no signal.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The longest that figures are waited for: a connection that has vanished is given up after a minute at most.
const FIGURES_WITHIN: Duration = Duration::from_secs(120);

/// An edge that is reached at one address, by one media thread.
fn builder() -> Builder {
    System::builder().workers(0).set("WEBRTC_PUBLIC_IP", "127.0.0.1").set("WEBRTC_THREADS", "1")
}

/// One of the edge's metrics, the sum of all its labels.
async fn metric(edge: &Client, name: &str) -> f64 {
    let answer = edge.get("/metrics").await.expect(200);
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let values: Vec<f64> = text
        .lines()
        .filter(of_name)
        .filter_map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()))
        .collect();
    assert!(!values.is_empty(), "there is no metric {name}");
    values.iter().sum()
}

/// Waits until the edge as a whole carries so many rooms and participants, and media threads so many sessions.
async fn until_carried(system: &System, rooms: usize, participants: usize, sessions: usize) {
    let operator = Client::with_claims(&system.edge.url(), json!({ "sub": "root", "role": "admin" }));
    let deadline = Instant::now() + FIGURES_WITHIN;
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let told = operator.get("/video-calls/stats").await.expect(200).data();
        let there = metric(&operator, "callreel_media_sessions").await;
        if told["rooms"] == rooms && told["participants"] == participants && there == sessions as f64 {
            return;
        }
        assert!(Instant::now() < deadline, "never {rooms} rooms and {sessions} sessions: {there}, {told}");
    }
}

/// Waits until so many tracks of somebody come.
async fn until_published(host: &Client, call: &str, user: &str, tracks: usize) {
    let deadline = Instant::now() + FIGURES_WITHIN;
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let stats = host.get(&format!("/video-calls/{call}/stats")).await.expect(200).data();
        let people = stats["participants"].as_array().cloned().unwrap_or_default();
        let person = people.into_iter().find(|one| one["userId"] == user).unwrap_or_default();
        if person["published"].as_array().is_some_and(|published| published.len() == tracks) {
            return;
        }
        assert!(Instant::now() < deadline, "{user}'s media do not come: {stats}");
    }
}

/// Waits until the edge has closed what it opened for others: no more is open than before, and some of the test's own connections to
/// the API and of the edge's to its database.
async fn until_files(system: &mut System, before: usize) {
    const KEPT_MAX: usize = 12;
    let deadline = Instant::now() + FIGURES_WITHIN;
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let open = system.edge.program().open_files();
        if open <= before + KEPT_MAX {
            return;
        }
        assert!(Instant::now() < deadline, "{open} descriptors are open, {before} were");
    }
}
