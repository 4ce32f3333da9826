//! What all routes have in common: ids of requests, problems, CORS, rates, health, documents, the page, the end.

use std::time::Duration;

use edge::settings::Patience;
use serde_json::{Value, json};

use crate::support::{answer, database, edge, edge_over, edge_that_waits, edge_with, token};

#[tokio::test]
async fn a_well_formed_request_id_is_kept_and_any_other_replaced() {
    let edge = edge().await;
    let with_id = |path: &str, id: &str| edge.request("GET", path).header("x-request-id", id);
    for path in ["/healthz", "/nowhere", "/video-calls"] {
        let kept = answer(with_id(path, "my-id_1.2")).await;
        assert_eq!(kept.header("x-request-id"), "my-id_1.2", "{path}");
        let replaced = answer(with_id(path, "not/ok")).await;
        assert!(!["", "not/ok"].contains(&replaced.header("x-request-id")), "{path}");
    }
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let edge = edge().await;
    answer(edge.request("GET", "/nowhere")).await.is_problem(404, "not-found");
    answer(edge.request("POST", "/nowhere")).await.is_problem(404, "not-found");
    answer(edge.request("GET", "/../../etc/passwd")).await.is_problem(404, "not-found");
    edge.send("DELETE", "/healthz", "ann", Value::Null).await.is_problem(405, "method-not-allowed");
    edge.send("PATCH", "/video-calls", "ann", Value::Null).await.is_problem(405, "method-not-allowed");
    edge.post("/video-calls", "ann", json!({ "title": "x".repeat(70_000) }))
        .await
        .is_problem(413, "body-too-large");
    let raw = |kind: &'static str, body: &'static str| {
        let request = edge.request("POST", "/video-calls").bearer_auth(token("ann")).body(body);
        answer(request.header("content-type", kind))
    };
    raw("application/json", "{").await.is_problem(400, "malformed-json");
    raw("text/plain", "{}").await.is_problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn a_body_that_is_declared_too_large_is_refused_before_it_is_sent() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let edge = edge().await;
    let mut socket = tokio::net::TcpStream::connect(edge.base.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /video-calls HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 1000000000\r\n\r\n",
        token("ann")
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn only_listed_origins_are_let_in() {
    let edge = edge_with(&[("ALLOWED_ORIGINS", "https://app.example.org, https://b.example.org")]).await;
    let from = |origin: &str| edge.request("GET", "/video-calls").header("origin", origin);
    let listed = answer(from("https://app.example.org")).await;
    assert_eq!(listed.header("access-control-allow-origin"), "https://app.example.org");
    assert!(listed.header("access-control-expose-headers").contains("x-request-id"));
    assert_eq!(answer(from("https://evil.example.org")).await.header("access-control-allow-origin"), "");
    let preflight = edge
        .request("OPTIONS", "/video-calls")
        .header("origin", "https://b.example.org")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "authorization");
    let preflight = answer(preflight).await.is(200);
    assert_eq!(preflight.header("access-control-allow-origin"), "https://b.example.org");
    assert!(preflight.header("access-control-allow-headers").contains("authorization"));
    let closed = crate::support::edge().await;
    let asked = closed.request("GET", "/healthz").header("origin", "https://app.example.org");
    assert_eq!(answer(asked).await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn who_asks_too_often_is_told_to_wait_and_others_are_not() {
    let edge = edge_with(&[("RATE_LIMIT_PER_MINUTE", "3")]).await;
    for _ in 0..3 {
        edge.get("/video-calls", "ann").await.is(200);
    }
    let refused = edge.get("/video-calls", "ann").await;
    refused.is_problem(429, "rate-limited");
    assert!((1..=60).contains(&refused.header("retry-after").parse().unwrap()));
    edge.get("/video-calls", "bob").await.is(200);
    for _ in 0..3 {
        answer(edge.request("GET", "/video-calls")).await.is_problem(401, "unauthenticated");
    }
    answer(edge.request("GET", "/video-calls")).await.is_problem(429, "rate-limited");
    edge.get("/video-calls", "bob").await.is(200);
}

#[tokio::test]
async fn behind_a_proxy_strangers_are_told_apart_by_its_header() {
    let settings = [("RATE_LIMIT_PER_MINUTE", "1"), ("TRUST_PROXY", "1")];
    let edge = edge_with(&settings).await;
    let from = |address: &str| answer(edge.request("GET", "/video-calls").header("x-forwarded-for", address));
    from("203.0.113.1").await.is_problem(401, "unauthenticated");
    // What a client itself put in front does not help it.
    from("198.51.100.9, 203.0.113.1").await.is_problem(429, "rate-limited");
    from("203.0.113.2").await.is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_database_that_is_away_is_told_without_a_word_of_sql() {
    let line = crate::support::line().await;
    let edge = edge_over(&line.url, &[]).await;
    answer(edge.request("GET", "/readyz")).await.is(200);
    line.cut();
    let away = edge.get("/video-calls", "ann").await;
    away.is_problem(503, "database-unavailable");
    assert_eq!(away.header("retry-after"), "2");
    assert!(!away.body.to_string().to_lowercase().contains("connect"), "{away:?}");
    answer(edge.request("GET", "/readyz")).await.is_problem(503, "not-ready");
    answer(edge.request("GET", "/healthz")).await.is(200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_ended() {
    let patience = Patience { control: Duration::from_millis(200), ..Patience::default() };
    let edge = edge_that_waits(&database().await, &[], patience).await;
    let id = edge.call().await;
    let mut tx = edge.db.begin().await.unwrap();
    sqlx::query("select from call where id = $1 for update").bind(&id).execute(&mut *tx).await.unwrap();
    let path = format!("/video-calls/{id}");
    edge.send("PUT", &path, "ann", json!({ "title": "late" })).await.is_problem(504, "timeout");
    tx.rollback().await.unwrap();
    edge.get(&path, "ann").await.is(200);
}

#[tokio::test]
async fn a_probe_that_runs_when_the_process_is_asked_to_end_is_told_so() {
    let line = crate::support::line().await;
    let edge = edge_over(&line.url, &[]).await;
    line.hold();
    let probe = tokio::spawn(answer(edge.request("GET", "/readyz")));
    let in_flight = async || {
        let metrics = answer(edge.request("GET", "/metrics")).await.is(200);
        let text = String::from_utf8(metrics.bytes).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("callreel_http_requests_in_flight "));
        count.unwrap().parse::<u32>().unwrap()
    };
    // The probe and this question; the probe waits for the database for two seconds.
    while in_flight().await < 2 {}
    edge.tasks.stop.cancel();
    probe.await.unwrap().is_problem(503, "draining");
}

#[tokio::test]
async fn the_paths_own_words_are_no_ids() {
    let edge = edge().await;
    for id in ["stats", "ws", "ice-servers", "chunks", "recording", ".", ".."] {
        let refused = edge.post("/video-calls", "ann", json!({ "id": id })).await;
        refused.is_problem(400, "invalid-request");
        assert!(refused.body["detail"].as_str().unwrap().contains("reserved"), "{refused:?}");
    }
    edge.post("/video-calls", "ann", json!({ "id": "status" })).await.is(201);
}

#[tokio::test]
async fn an_edge_registers_itself() {
    let edge = edge().await;
    let url: String = sqlx::query_scalar("select url from edge").fetch_one(&edge.db).await.unwrap();
    assert_eq!(url, edge.base);
}

#[tokio::test]
async fn requests_are_counted_by_their_routes_template() {
    let edge = edge().await;
    edge.get("/video-calls/nowhere", "ann").await.is_problem(404, "no-such-call");
    let metrics = answer(edge.request("GET", "/metrics")).await.is(200);
    assert!(metrics.header("content-type").starts_with("text/plain"));
    let text = String::from_utf8(metrics.bytes).unwrap();
    let line = r#"callreel_http_requests_total{method="GET",route="/video-calls/{callId}",status="4xx"} 1"#;
    assert!(text.contains(line), "{text}");
    assert!(!text.contains("nowhere"));
}

#[tokio::test]
async fn the_openapi_document_tells_every_route_and_code() {
    let edge = edge_with(&[("DEV_LOGIN", "1")]).await;
    let document = answer(edge.request("GET", "/openapi.json")).await.is(200).body;
    for (path, methods) in [
        ("/video-calls", &["get", "post"][..]),
        ("/video-calls/{callId}", &["get", "put", "delete"]),
        ("/video-calls/{callId}/recording/start", &["post"]),
        ("/video-calls/{callId}/recording/stop", &["post"]),
        ("/video-calls/{callId}/recording/pause", &["post"]),
        ("/video-calls/{callId}/recording/resume", &["post"]),
        ("/video-calls/{callId}/recordings", &["get"]),
        ("/video-calls/{callId}/recording/{recordingId}", &["get", "delete"]),
        ("/video-calls/{callId}/recording/{recordingId}/download", &["get"]),
        ("/video-calls/{callId}/recording/{recordingId}/thumbnails/{n}", &["get"]),
        ("/video-calls/ice-servers", &["get"]),
        ("/video-calls/stats", &["get"]),
        ("/video-calls/{callId}/stats", &["get"]),
        ("/video-calls/{callId}/whip", &["post", "options"]),
        ("/video-calls/{callId}/whip/{sessionId}", &["patch", "delete"]),
        ("/video-calls/{callId}/whep/{userId}", &["post", "options"]),
        ("/video-calls/{callId}/whep/{userId}/{sessionId}", &["patch", "delete"]),
        ("/admin/jobs", &["get"]),
        ("/admin/jobs/{jobId}", &["get"]),
        ("/admin/jobs/{jobId}/requeue", &["post"]),
        ("/dev/token", &["post"]),
        ("/healthz", &["get"]),
        ("/readyz", &["get"]),
        ("/metrics", &["get"]),
    ] {
        for method in methods {
            assert!(document["paths"][path][method].is_object(), "{method} {path}");
        }
    }
    let codes = document["components"]["schemas"]["Code"]["enum"].as_array().unwrap();
    assert_eq!(codes.len(), edge::error::Code::ALL.len());
    assert!(codes.contains(&json!("recording-not-live")));
    let start = &document["paths"]["/video-calls/{callId}/recording/start"]["post"];
    assert_eq!(start["security"], json!([{ "bearer": [] }]));
    let problem = &start["responses"]["422"]["content"]["application/problem+json"]["schema"]["$ref"];
    assert_eq!(*problem, json!("#/components/schemas/Problem"));
    for (path, method, statuses) in [
        ("/video-calls", "post", &["413", "415", "429", "503", "504"][..]),
        ("/video-calls", "get", &["504"]),
        ("/video-calls/{callId}", "put", &["413", "415", "504"]),
        ("/video-calls/{callId}/recording/start", "post", &["413", "415", "504", "507"]),
        ("/dev/token", "post", &["413", "415", "504"]),
    ] {
        for status in statuses {
            let told = &document["paths"][path][method]["responses"][status];
            assert!(told["content"]["application/problem+json"].is_object(), "{method} {path} {status}");
        }
    }
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
}

#[tokio::test]
async fn the_document_is_shown() {
    let edge = edge().await;
    let moved = answer(edge.request("GET", "/docs")).await.is(303);
    let shown = answer(edge.request("GET", moved.header("location"))).await.is(200);
    assert!(shown.header("content-type").starts_with("text/html"));
    assert!(shown.header("content-security-policy").contains("frame-ancestors 'none'"));
}

#[tokio::test]
async fn the_page_is_served_with_its_policy_and_remembered_by_its_tag() {
    let edge = edge().await;
    let page = answer(edge.request("GET", "/")).await.is(200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.header("content-security-policy").starts_with("default-src 'self'; media-src 'self' blob:"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    let again = edge.request("GET", "/index.html").header("if-none-match", page.header("etag"));
    assert!(answer(again).await.is(304).bytes.is_empty());
}

#[tokio::test]
async fn an_edge_that_is_asked_to_stop_finishes_and_accepts_no_more() {
    let edge = edge().await;
    edge.tasks.stop.cancel();
    edge.tasks.tracker.close();
    edge.tasks.tracker.wait().await;
    let refused = reqwest::Client::new().get(format!("{}/healthz", edge.base)).send().await;
    assert!(refused.unwrap_err().is_connect());
}
