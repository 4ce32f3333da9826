//! Figures of calls and of the edge, where there are no media; with media they are tested beside WHIP.

use serde_json::{Value, json};

use crate::support::edge;

#[tokio::test]
async fn a_call_tells_its_figures_to_its_people_alone() {
    let edge = edge().await;
    let call = edge.call().await;
    let path = format!("/video-calls/{call}/stats");
    let quiet = edge.get(&path, "bob").await.is(200);
    assert_eq!(*quiet.data(), json!({ "participantCount": 0, "participants": [], "recording": null }));
    let recording = edge.recording(&call).await;
    let recorded = edge.get(&path, "ann").await.is(200);
    assert_eq!(recorded.data()["recording"]["id"], recording);
    assert_eq!(recorded.data()["recording"]["status"], "recording");
    edge.get(&path, "mallory").await.is_problem(404, "no-such-call");
    edge.get("/video-calls/nowhere/stats", "ann").await.is_problem(404, "no-such-call");
}

#[tokio::test]
async fn a_call_that_is_active_elsewhere_says_where() {
    let edge = edge().await;
    let call = edge.call().await;
    sqlx::query(
        "insert into edge (id, url, version, started_at, seen_at) \
         values ('other', 'https://two.example.org', '0', now(), now())",
    )
    .execute(&edge.db)
    .await
    .unwrap();
    sqlx::query("update call set state = 'active', started_at = now(), edge_id = 'other' where id = $1")
        .bind(&call)
        .execute(&edge.db)
        .await
        .unwrap();
    let refused = edge.get(&format!("/video-calls/{call}/stats"), "ann").await;
    refused.is_problem(421, "wrong-edge");
    assert!(refused.body["detail"].as_str().unwrap().contains("https://two.example.org"));
}

#[tokio::test]
async fn operators_see_what_the_edge_carries() {
    let edge = edge().await;
    let call = edge.call().await;
    edge.recording(&call).await;
    let told = edge.get("/video-calls/stats", "root").await.is(200);
    let expected = json!({
        "rooms": 0, "participants": 0, "recordings": { "recording": 1 }, "bytesReceived": 0, "bytesSent": 0,
    });
    assert_eq!(*told.data(), expected);
    edge.send("GET", "/video-calls/stats", "ann", Value::Null).await.is_problem(403, "forbidden");
}
