//! Calls, as API sections 2 and 3 describe them.

use serde_json::{Value, json};

use crate::support::{edge, edge_with, now, signed};

#[tokio::test]
async fn a_call_is_created_and_looked_at_by_who_is_in_it() {
    let edge = edge().await;
    let id = edge.call().await;
    for user in ["ann", "bob", "root"] {
        let call = edge.get(&format!("/video-calls/{id}"), user).await.is(200);
        assert_eq!(call.data()["hostId"], "ann");
        assert_eq!(call.data()["status"], "created");
        assert_eq!(call.data()["maxParticipants"], 50);
        assert_eq!(call.data()["participants"][0]["userId"], "bob");
        assert_eq!(call.data()["isRecorded"], false);
        assert_eq!(call.data()["recordingUrl"], Value::Null);
    }
    assert_eq!(edge.events("call.created").await, 1);
}

#[tokio::test]
async fn a_stranger_does_not_learn_of_a_call_by_reading_and_is_refused_changes() {
    let edge = edge().await;
    let id = edge.call().await;
    for path in [format!("/video-calls/{id}"), format!("/video-calls/{id}/recordings")] {
        edge.get(&path, "eve").await.is_problem(404, "no-such-call");
    }
    for user in ["eve", "bob"] {
        for (method, tail) in [
            ("PUT", ""),
            ("DELETE", ""),
            ("POST", "/recording/start"),
            ("POST", "/recording/pause"),
            ("POST", "/recording/resume"),
            ("POST", "/recording/stop"),
        ] {
            let answer = edge.send(method, &format!("/video-calls/{id}{tail}"), user, json!({})).await;
            answer.is_problem(403, "forbidden");
        }
    }
    edge.send("DELETE", "/video-calls/nowhere", "ann", Value::Null).await.is_problem(404, "no-such-call");
    edge.get("/video-calls/nowhere", "ann").await.is_problem(404, "no-such-call");
}

#[tokio::test]
async fn a_given_id_is_kept_once_and_refused_the_second_time() {
    let edge = edge().await;
    let body = json!({ "id": "team:monday@9" });
    let call = edge.post("/video-calls", "ann", body.clone()).await.is(201);
    assert_eq!(call.data()["id"], "team:monday@9");
    edge.post("/video-calls", "bob", body).await.is_problem(409, "call-exists");
    edge.get("/video-calls/team:monday@9", "ann").await.is(200);
}

#[tokio::test]
async fn what_does_not_have_its_form_is_refused() {
    let edge = edge().await;
    for body in [
        json!({ "id": "a b" }),
        json!({ "participants": ["a/b"] }),
        json!({ "maxParticipants": 0 }),
        json!({ "title": 5 }),
        json!([]),
        json!({ "maxParticipant": 3 }),
    ] {
        edge.post("/video-calls", "ann", body).await.is_problem(400, "invalid-request");
    }
    let unknown = edge.post("/video-calls", "ann", json!({ "colour": "red" })).await;
    assert!(unknown.body["detail"].as_str().unwrap().contains("colour"), "{unknown:?}");
    edge.get("/video-calls/a%20b", "ann").await.is_problem(400, "invalid-request");
    let bad = json!({ "record": { "format": "webm", "videoCodec": "h264" } });
    edge.post("/video-calls", "ann", bad).await.is_problem(422, "invalid-options");
}

#[tokio::test]
async fn a_list_holds_ones_own_calls_newest_first_page_by_page() {
    let edge = edge().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(edge.call().await);
    }
    ids.reverse();
    let first = edge.get("/video-calls?limit=2", "bob").await.is(200);
    let seen = |answer: &crate::support::Answer| -> Vec<String> {
        let rows = answer.data().as_array().unwrap();
        rows.iter().map(|call| call["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(seen(&first), ids[..2]);
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let second = edge.get(&format!("/video-calls?limit=2&cursor={cursor}"), "bob").await.is(200);
    assert_eq!(seen(&second), ids[2..]);
    assert_eq!(second.body["nextCursor"], Value::Null);
    assert_eq!(seen(&edge.get("/video-calls?status=ended", "ann").await.is(200)), Vec::<String>::new());
    assert_eq!(seen(&edge.get("/video-calls", "eve").await.is(200)), Vec::<String>::new());
    edge.get("/video-calls?cursor=%21", "ann").await.is_problem(400, "invalid-cursor");
    for query in ["limit=0", "limit=201", "limit=x", "status=gone"] {
        edge.get(&format!("/video-calls?{query}"), "ann").await.is_problem(400, "invalid-request");
    }
}

#[tokio::test]
async fn the_host_changes_a_call_and_what_is_absent_stays() {
    let edge = edge().await;
    let path = format!("/video-calls/{}", edge.call().await);
    let change = json!({ "participants": ["cid"], "maxParticipants": 3, "metadata": { "a": 1 } });
    let call = edge.send("PUT", &path, "ann", change).await.is(200);
    assert_eq!(call.data()["title"], "Monday");
    assert_eq!(call.data()["maxParticipants"], 3);
    assert_eq!(call.data()["metadata"], json!({ "a": 1 }));
    edge.get(&path, "cid").await.is(200);
    edge.get(&path, "bob").await.is_problem(404, "no-such-call");
}

#[tokio::test]
async fn ending_a_call_stops_its_recording_and_may_be_repeated() {
    let edge = edge().await;
    let id = edge.call().await;
    let recording = edge.recording(&id).await;
    let path = format!("/video-calls/{id}");
    for _ in 0..2 {
        let ended = edge.send("DELETE", &path, "ann", Value::Null).await.is(200);
        assert_eq!(ended.data()["status"], "ended");
    }
    let state: String = sqlx::query_scalar("select state from recording where id = $1")
        .bind(&recording)
        .fetch_one(&edge.db)
        .await
        .unwrap();
    assert_ne!(state, "recording");
    assert_eq!((edge.events("call.ended").await, edge.events("recording.stopping").await), (1, 1));
    edge.send("PUT", &path, "ann", json!({ "title": "x" })).await.is_problem(409, "call-ended");
    edge.post(&format!("{path}/recording/start"), "ann", Value::Null).await.is_problem(409, "call-ended");
}

#[tokio::test]
async fn both_base_paths_answer() {
    let edge = edge().await;
    let id = edge.call().await;
    edge.get(&format!("/api/video-calls/{id}"), "ann").await.is(200);
    edge.get("/api/video-calls?limit=1", "ann").await.is(200);
    edge.post("/api/video-calls", "ann", json!({})).await.is(201);
    edge.get("/video-calls/?limit=1", "ann").await.is(200);
    edge.get(&format!("/video-calls/{id}/"), "ann").await.is(200);
    edge.post("/video-calls/", "ann", json!({})).await.is(201);
}

#[tokio::test]
async fn a_call_needs_no_body() {
    let edge = edge().await;
    let call = edge.post("/video-calls", "ann", Value::Null).await.is(201);
    assert_eq!((&call.data()["hostId"], &call.data()["title"]), (&json!("ann"), &Value::Null));
}

#[tokio::test]
async fn grants_narrow_a_token_to_one_call_and_to_what_may_be_done_there() {
    let edge = edge().await;
    let (one, other) = (edge.call().await, edge.call().await);
    let narrowed = |grants: Value| signed(&json!({ "sub": "ann", "exp": now() + 60, "grants": grants }));
    let start = |id: &str| format!("/video-calls/{id}/recording/start");
    let for_one = narrowed(json!({ "call": one }));
    edge.with_token("GET", &format!("/video-calls/{one}"), &for_one).await.is(200);
    edge.with_token("GET", &format!("/video-calls/{other}"), &for_one).await.is_problem(403, "not-granted");
    edge.with_token("POST", &start(&other), &for_one).await.is_problem(403, "not-granted");
    let listed = edge.with_token("GET", "/video-calls", &for_one).await.is(200);
    assert_eq!(listed.data().as_array().unwrap().len(), 1);
    // The other is newer and would fill the page.
    let paged = edge.with_token("GET", "/video-calls?limit=1", &for_one).await.is(200);
    assert_eq!((&paged.data()[0]["id"], &paged.body["nextCursor"]), (&json!(one), &Value::Null));
    let publisher = narrowed(json!({ "call": one, "publish": true }));
    edge.with_token("POST", &start(&one), &publisher).await.is_problem(403, "not-granted");
    edge.with_token("DELETE", &format!("/video-calls/{one}"), &publisher)
        .await
        .is_problem(403, "not-granted");
    let recorder = narrowed(json!({ "call": one, "record": true }));
    edge.with_token("POST", &start(&one), &recorder).await.is(201);
}

#[tokio::test]
async fn a_call_takes_as_many_as_the_setting_says_unless_its_host_says() {
    let edge = edge_with(&[("MAX_PARTICIPANTS_PER_ROOM", "7")]).await;
    let call = edge.post("/video-calls", "ann", json!({})).await.is(201);
    assert_eq!(call.data()["maxParticipants"], 7);
}
