//! Clients that wait, stall, or go away.

use std::io::{Read, Write};
use std::time::Duration;

use edge::settings::Patience;

use crate::support::{connect, edge, edge_that_waits, edge_with, read_answer, request, token, when_in};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_first_never_sends_what_is_refused() {
    let edge = edge_with(&[("CHUNK_MAX_BYTES", "1KiB")]).await;
    let recording = edge.recording().await;
    let ask = |path: &str, user: &str, length: usize| {
        let headers = [("content-type", "video/webm"), ("expect", "100-continue")];
        let mut stream = connect(edge.port);
        stream.write_all(request("PUT", path, &token(user), &headers, Some(length)).as_bytes()).unwrap();
        stream
    };
    read_answer(&mut ask(&recording.path("bob", 0), "bob", 1 << 40)).is_problem(413, "body-too-large");
    read_answer(&mut ask(&recording.path("eve", 0), "eve", 10)).is_problem(403, "not-this-participant");
    let mut taken = ask(&recording.path("bob", 0), "bob", 2);
    let mut go_on = [0; 25];
    taken.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    taken.write_all(b"hi").unwrap();
    assert_eq!(read_answer(&mut taken).status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_a_client_that_goes_on_sending() {
    let edge = edge_with(&[("CHUNK_MAX_BYTES", "1KiB")]).await;
    let recording = edge.recording().await;
    let body = vec![0; 8 << 20];
    recording.put("bob", 0, &body).await.is_problem(413, "body-too-large");
    edge.send("PUT", &recording.path("bob", 0), "nonsense", &[], body).await.is_problem(401, "invalid-token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_or_trickles_is_ended() {
    let (short, long) = (Duration::from_millis(200), Duration::from_secs(60));
    let stalls = Patience { pause: short, ..Patience::default() };
    let trickles = Patience { pause: long, body: short, ..Patience::default() };
    for patience in [stalls, trickles] {
        let edge = edge_that_waits(patience).await;
        let recording = edge.recording().await;
        for (method, path) in
            [("PUT", recording.path("bob", 0)), ("POST", "/video-calls/chunks/upload".to_owned())]
        {
            let mut stream = connect(edge.port);
            let head = request(method, &path, &token("bob"), &[("content-type", "video/webm")], Some(100));
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(b"{ and no more").unwrap();
            read_answer(&mut stream).is_problem(408, "request-timeout");
        }
        recording.put("bob", 0, b"whole").await.is(201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_uploads_too_often_is_told_to_wait_and_others_are_not() {
    let edge = edge_with(&[("RATE_LIMIT_CHUNKS_PER_SECOND", "1")]).await;
    let recording = edge.recording().await;
    let mut refused = None;
    // Half a minute's chunks may come at once; one more is given back with each second that this takes.
    for sequence in 0..1_000 {
        let answer = recording.put("bob", sequence, b"x").await;
        if answer.status != 201 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    refused.is_problem(429, "rate-limited");
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: 1"), "{refused:?}");
    recording.put("ann", 0, b"x").await.is(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_in_the_middle_leaves_nothing() {
    let edge = edge().await;
    let recording = edge.recording().await;
    let mut stream = connect(edge.port);
    let head = request(
        "PUT",
        &recording.path("bob", 0),
        &token("bob"),
        &[("content-type", "video/webm")],
        Some(4 << 20),
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![0; 3 << 20]).unwrap();
    let incoming = edge.folder.path().join("capture/incoming");
    let has = |count| {
        let folder = incoming.clone();
        move || std::fs::read_dir(&folder).unwrap().count() == count
    };
    when_in(&incoming, has(1)).await;
    drop(stream);
    when_in(&incoming, has(0)).await;
    assert_eq!(recording.status("bob").await.body["data"]["tracks"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_does_not_hold_others_up() {
    let edge = edge().await;
    let recording = edge.recording().await;
    let begin = |path: &str, method: &str| {
        let mut stream = connect(edge.port);
        let head = request(method, path, &token("bob"), &[("content-type", "video/webm")], Some(1 << 20));
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&[b' '; 100_000]).unwrap();
        stream
    };
    let slow: Vec<_> = (0..20)
        .map(|sequence| begin(&recording.path("bob", sequence), "PUT"))
        .chain((0..20).map(|_| begin("/video-calls/chunks/upload", "POST")))
        .collect();
    recording.put("ann", 0, &vec![1; 2 << 20]).await.is(201);
    recording.post("ann", 1, &vec![1; 2 << 20]).await.is(201);
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_large_uploads_keep_memory_bounded() {
    const UPLOADS: u64 = 200;
    let edge = edge().await;
    let recording = edge.recording().await;
    // From here on the kernel notes the most anew (proc(5), clear_refs).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let base = most_resident_bytes();
    let chunk = std::sync::Arc::new(vec![5_u8; 10 << 20]);
    let (port, id) = (edge.port, recording.id.clone());
    let clients: Vec<_> = (0..UPLOADS)
        .map(|sequence| {
            let (chunk, path) = (chunk.clone(), edge.again(&recording.call, &id).path("bob", sequence));
            std::thread::spawn(move || {
                let mut stream = connect(port);
                let head = request(
                    "PUT",
                    &path,
                    &token("bob"),
                    &[("content-type", "video/webm")],
                    Some(chunk.len()),
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(&chunk).unwrap();
                read_answer(&mut stream).status
            })
        })
        .collect();
    let all_stored = move || clients.into_iter().all(|client| client.join().unwrap() == 201);
    assert!(tokio::task::spawn_blocking(all_stored).await.unwrap());
    let grown = most_resident_bytes().saturating_sub(base) >> 20;
    println!("200 uploads of 10 MiB: {grown} MiB above {} MiB", base >> 20);
    // Of 2,000 MiB that arrive: the budget of bodies in memory (64 MiB, twice that while its vectors grow), up to 400 KiB
    // of read buffer for each connection, and in this process the clients with their chunk. 300 to 410 MiB were measured.
    assert!(grown < 600, "{grown} MiB");
}

/// The most resident memory that this process had, which holds the clients too.
fn most_resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
