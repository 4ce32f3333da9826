//! Every status code of the chunk routes.

use serde_json::{Value, json};

use crate::support::{digest, edge, edge_with, sha256_hex, signed, token};

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_is_stored_once_and_a_repeat_tells_the_same() {
    let edge = edge().await;
    let recording = edge.recording().await;
    let first = recording.put("bob", 3, b"hello").await.is(201);
    let told = json!({ "recordingId": recording.id, "participantId": "bob", "type": "video", "sequence": 3,
        "size": 5, "sha256": sha256_hex(b"hello") });
    assert_eq!(first.body, json!({ "success": true, "data": told }));
    assert_eq!(recording.put("bob", 3, b"hello").await.is(200).body, first.body);
    assert_eq!(
        recording.post("bob", 3, b"hello").await.is(200).body,
        first.body,
        "the other route, the same chunk"
    );
    recording.put("bob", 3, b"other").await.is_problem(409, "chunk-conflict");
    recording.post("ann", 0, b"the host records, too").await.is(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_equal_chunks_at_once_one_is_created() {
    let edge = edge().await;
    let recording = edge.recording().await;
    let bytes = vec![7; 300_000];
    let answers = futures::future::join_all((0..10).map(|_| recording.put("bob", 0, &bytes))).await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!((created, answers.iter().filter(|answer| answer.status == 200).count()), (1, 9));
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_is_refused_with_its_code() {
    let edge = edge().await;
    let recording = edge.recording().await;
    let put = async |path: String, headers: &[(&str, &str)], body: &[u8]| {
        edge.send("PUT", &path, &token("bob"), headers, body.to_vec()).await
    };
    let webm = ("content-type", "video/webm");
    put(recording.path("bob", 0), &[webm], b"").await.is_problem(400, "invalid-chunk");
    put(recording.path("bob", 0), &[("content-type", "text/html")], b"x")
        .await
        .is_problem(400, "invalid-mime-type");
    put(recording.path("bob", 1 << 20), &[webm], b"x").await.is_problem(400, "invalid-sequence");
    put(recording.path("bob", 0).replace("/chunks/0", "/chunks/-1"), &[webm], b"x")
        .await
        .is_problem(400, "invalid-sequence");
    put(recording.path("bob", 0).replace("video/chunks", "smell/chunks"), &[webm], b"x")
        .await
        .is_problem(400, "invalid-request");
    put(recording.path("bob", 0), &[webm, ("content-digest", "sha-256=!")], b"x")
        .await
        .is_problem(400, "invalid-digest");
    put(recording.path("bob", 0), &[webm, ("content-digest", &digest(b"y"))], b"x")
        .await
        .is_problem(400, "digest-mismatch");
    put(recording.path("bob", 0), &[webm, ("x-chunk-timestamp", "now")], b"x")
        .await
        .is_problem(400, "invalid-request");
    put(recording.path("bob", 0), &[webm, ("content-digest", &digest(b"x"))], b"x").await.is(201);
    recording.post_with("bob", &json!({ "chunk": "aGk" })).await.is_problem(400, "invalid-chunk");
    recording.post_with("bob", &json!({ "chunk": "" })).await.is_problem(400, "invalid-chunk");
    recording.post_with("bob", &json!({ "sequence": -1 })).await.is_problem(400, "invalid-sequence");
    recording.post_with("bob", &json!({ "sequence": 1.5 })).await.is_problem(400, "invalid-sequence");
    recording.post_with("bob", &json!({ "type": "smell" })).await.is_problem(400, "invalid-request");
    recording.post_with("bob", &json!({ "timestamp": "now" })).await.is_problem(400, "invalid-request");
    recording.post_with("bob", &json!({ "timestamp": 1e300 })).await.is_problem(400, "invalid-request");
    recording.post_with("bob", &json!({ "timestamp": 1_700_000_000_000.25, "sequence": 9 })).await.is(201);
    recording
        .post_with("bob", &json!({ "mimeType": "text/html" }))
        .await
        .is_problem(400, "invalid-mime-type");
    recording.post_with("bob", &json!({ "chunk": 5 })).await.is_problem(400, "invalid-request");
    let complete = format!("/video-calls/recording/{}/participants/bob/video/complete", recording.id);
    for (body, code) in [("", "malformed-json"), ("{", "malformed-json"), ("{}", "invalid-request")] {
        edge.send("POST", &complete, &token("bob"), &[], body.into()).await.is_problem(400, code);
    }
    let not_json =
        edge.send("POST", "/video-calls/chunks/upload", &token("bob"), &[], b"chunk".to_vec()).await;
    not_json.is_problem(400, "malformed-json");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_participant_uploads_and_only_as_themself() {
    let edge = edge().await;
    let recording = edge.recording().await;
    recording.put("eve", 0, b"x").await.is_problem(403, "not-this-participant");
    recording.put("root", 0, b"x").await.is_problem(403, "not-this-participant");
    let as_bob = edge.send("PUT", &recording.path("bob", 0), &token("ann"), &[], b"x".to_vec()).await;
    as_bob.is_problem(403, "not-this-participant");
    recording
        .post_with("ann", &json!({ "participantId": "bob" }))
        .await
        .is_problem(403, "not-this-participant");
    edge.send("PUT", &recording.path("bob", 0), "nonsense", &[], b"x".to_vec())
        .await
        .is_problem(401, "invalid-token");
    let narrowed =
        |grants: Value| signed(&json!({ "sub": "bob", "exp": 9_999_999_999_u64, "grants": grants }));
    for grants in [json!({ "call": "another" }), json!({ "publish": false }), json!({ "join": true })] {
        let answer = edge.send("PUT", &recording.path("bob", 0), &narrowed(grants), &[], b"x".to_vec()).await;
        answer.is_problem(403, "not-granted");
    }
    let granted = narrowed(json!({ "call": recording.call, "publish": true }));
    edge.send("PUT", &recording.path("bob", 0), &granted, &[], b"x".to_vec()).await.is(201);
    let change = json!({ "participants": ["bob", "eve"] });
    edge.json("PUT", &format!("/video-calls/{}", recording.call), "ann", &change).await.is(200);
    recording.put("eve", 0, b"x").await.is(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_is_unknown_or_over_takes_nothing() {
    let edge = edge_with(&[("RECORDING_FINISH_TIMEOUT", "0")]).await;
    let recording = edge.recording().await;
    let unknown = edge.again(&recording.call, "rec_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    unknown.put("bob", 0, b"x").await.is_problem(404, "no-such-recording");
    unknown.post("bob", 0, b"x").await.is_problem(404, "no-such-recording");
    unknown.status("bob").await.is_problem(404, "no-such-recording");
    edge.again(&recording.call, "rec_x").put("bob", 0, b"x").await.is_problem(404, "no-such-recording");
    recording.stop().await;
    recording.becomes("processing").await;
    recording.put("bob", 0, b"x").await.is_problem(409, "recording-not-live");
    recording.complete("bob", 0).await.is_problem(409, "recording-not-live");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let edge = edge_with(&[("CHUNK_MAX_BYTES", "100KiB")]).await;
    let recording = edge.recording().await;
    let (most, more) = (vec![1; 100 << 10], vec![1; (100 << 10) + 1]);
    recording.put("bob", 0, &most).await.is(201);
    recording.post("bob", 1, &most).await.is(201);
    recording.put("bob", 2, &more).await.is_problem(413, "body-too-large");
    recording.post("bob", 2, &more).await.is_problem(413, "body-too-large");
    recording.post("bob", 2, &vec![1; 200 << 10]).await.is_problem(413, "body-too-large");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_chunks_and_the_client_keeps_them() {
    let edge = edge().await;
    let recording = edge.recording().await;
    let large = vec![7; 3 << 20];
    let held = recording.put("bob", 1, b"held").await.is(201);
    recording.put("bob", 2, &large).await.is(201);
    let (call, id) = (recording.call.clone(), recording.id.clone());
    let edge = edge.restart(&[("DISK_RESERVE", "1000TiB")]).await;
    let recording = edge.again(&call, &id);
    recording.put("bob", 0, b"x").await.is_problem(507, "disk-full");
    recording.post("bob", 0, b"x").await.is_problem(507, "disk-full");
    assert_eq!(recording.put("bob", 1, b"held").await.is(200).body, held.body, "its client may let go of it");
    assert_eq!(recording.post("bob", 1, b"held").await.is(200).body, held.body);
    recording.put("bob", 2, &large).await.is(200);
    recording.post("bob", 2, &large).await.is(200);
    recording.put("bob", 1, b"other").await.is_problem(409, "chunk-conflict");
    recording.post("bob", 1, b"other").await.is_problem(409, "chunk-conflict");
    recording.complete("bob", 2).await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_another_edge_is_redirected_there() {
    let edge = edge().await;
    let recording = edge.recording().await;
    let other = crate::support::start(
        edge.database_url.clone(),
        std::sync::Arc::new(tempfile::tempdir().unwrap()),
        &[],
    )
    .await;
    let sent = other.again(&recording.call, &recording.id).put("bob", 0, b"x").await.is(307);
    let location = format!("location: http://127.0.0.1:{}{}", edge.port, recording.path("bob", 0));
    assert!(sent.head.contains(&location), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_what_is_held_and_missing() {
    let edge = edge().await;
    let recording = edge.recording().await;
    for sequence in [0, 1, 4] {
        recording.put("bob", sequence, b"abc").await.is(201);
    }
    let status = recording.status("ann").await.is(200);
    let track = json!({ "participantId": "bob", "kind": "video", "received": [[0, 1], [4, 4]], "missing": [[2, 3]],
        "chunks": 3, "bytes": 9, "lastSequence": null, "complete": false });
    assert_eq!(status.body["data"], json!({ "recordingId": recording.id, "tracks": [track] }));
    recording.complete("bob", 3).await.is_problem(400, "invalid-sequence");
    let completed = recording.complete("bob", 5).await.is(200);
    assert_eq!(completed.body["data"]["missing"], json!([[2, 3], [5, 5]]));
    for sequence in [2, 3, 5] {
        recording.put("bob", sequence, b"abc").await.is(201);
    }
    assert_eq!(recording.status("root").await.is(200).body["data"]["tracks"][0]["complete"], true);
    recording.status("eve").await.is_problem(404, "no-such-recording");
    recording.stop().await;
    recording.becomes("processing").await;
    let sealed = recording.status("bob").await.is(200);
    assert_eq!(sealed.body["data"]["tracks"][0]["received"], json!([[0, 5]]), "from the rows now");
}
