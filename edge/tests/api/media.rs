//! Files of finished recordings: whole, in parts, under conditions, and with a token in the query.

use serde_json::json;
use shared::id::ArtifactId;

use crate::support::{Answer, TestEdge, answer, edge, token};

const MOVIE: &[u8] = b"0123456789abcdef";

struct Finished {
    path: String,
    artifact: String,
}

/// A recording that is completed, with one file and one picture in storage.
async fn finished(edge: &TestEdge) -> Finished {
    let call = edge.call().await;
    let id = edge.recording(&call).await;
    let folder = edge.storage.join("recordings").join(&id);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("recording.webm"), MOVIE).unwrap();
    std::fs::write(folder.join("thumbnail-00.jpg"), b"picture").unwrap();
    let key = format!("recordings/{id}/recording.webm");
    let artifact = ArtifactId::generate().to_string();
    let insert = "insert into artifact (id, recording_id, kind, ordinal, content_type, size, sha256, state, storage_key,
        created_at, stored_at) values ($1, $2, $3, 0, $4, 16, repeat('0', 64), 'stored', $5, now(), now())";
    let picture = format!("recordings/{id}/thumbnail-00.jpg");
    for (artifact, kind, content_type, key) in [
        (artifact.as_str(), "recording", "video/webm", &key),
        (ArtifactId::generate().as_str(), "thumbnail", "image/jpeg", &picture),
    ] {
        let insert = sqlx::query(insert).bind(artifact).bind(&id).bind(kind).bind(content_type).bind(key);
        insert.execute(&edge.db).await.unwrap();
    }
    let complete = "update recording set state = 'completed', stopped_at = now(), completed_at = now(), deadline_at = null,
        progress = 1, format = 'webm', duration_ms = 1000, file_size = 16, output_key = $2, storage_provider = 'local',
        storage_bucket = 'local', output_revision = 0 where id = $1";
    sqlx::query(complete).bind(&id).bind(&key).execute(&edge.db).await.unwrap();
    Finished { path: format!("/video-calls/{call}/recording/{id}"), artifact }
}

async fn fetch(edge: &TestEdge, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = edge.request("GET", path).bearer_auth(token("bob"));
    answer(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

#[tokio::test]
async fn a_completed_recording_tells_where_its_files_are_and_they_are_there() {
    let edge = edge().await;
    let Finished { path, artifact } = finished(&edge).await;
    let recording = edge.get(&path, "bob").await.is(200);
    let recording = recording.data();
    assert_eq!(recording["outputUrl"], format!("{}{path}/download", edge.base));
    assert_eq!(recording["outputPath"], recording["artifacts"][0]["key"]);
    assert_eq!(recording["thumbnails"], json!([format!("{}{path}/thumbnails/0", edge.base)]));
    assert_eq!(recording["storage"], json!({ "provider": "local", "bucket": "local" }));
    let whole = fetch(&edge, &format!("{path}/download"), &[]).await.is(200);
    assert_eq!((whole.bytes.as_slice(), whole.header("content-type")), (MOVIE, "video/webm"));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let name = whole.header("content-disposition");
    assert!(name.starts_with("attachment; filename=\"call_") && name.ends_with(".webm\""), "{name}");
    let by_id = fetch(&edge, &format!("{path}/download?artifact={artifact}"), &[]).await.is(200);
    assert_eq!(by_id.bytes, MOVIE);
    let picture = fetch(&edge, &format!("{path}/thumbnails/0"), &[]).await.is(200);
    assert_eq!((picture.bytes.as_slice(), picture.header("content-type")), (&b"picture"[..], "image/jpeg"));
}

#[tokio::test]
async fn a_part_is_served_and_resumed_only_of_the_same_file() {
    let edge = edge().await;
    let path = format!("{}/download", finished(&edge).await.path);
    let part = fetch(&edge, &path, &[("range", "bytes=4-7")]).await.is(206);
    assert_eq!((part.bytes.as_slice(), part.header("content-range")), (&b"4567"[..], "bytes 4-7/16"));
    let tag = part.header("etag").to_owned();
    fetch(&edge, &path, &[("if-none-match", &tag)]).await.is(304);
    let resumed = fetch(&edge, &path, &[("range", "bytes=8-"), ("if-range", &tag)]).await.is(206);
    assert_eq!(resumed.bytes, b"89abcdef");
    let other = fetch(&edge, &path, &[("range", "bytes=8-"), ("if-range", "\"other\"")]).await.is(200);
    assert_eq!(other.bytes, MOVIE);
    let beyond = fetch(&edge, &path, &[("range", "bytes=99-")]).await;
    beyond.is_problem(416, "range-not-satisfiable");
    assert_eq!(beyond.header("content-range"), "bytes */16");
    let longer = fetch(&edge, &path, &[("range", "bytes=-99")]).await.is(206);
    assert_eq!((longer.bytes.as_slice(), longer.header("content-range")), (MOVIE, "bytes 0-15/16"));
    for ignored in ["items=0-5", "bytes=5-2", "bytes=a-b", "bytes=0-0,10-12"] {
        assert_eq!(fetch(&edge, &path, &[("range", ignored)]).await.is(200).bytes, MOVIE, "{ignored}");
    }
    fetch(&edge, &path, &[("if-match", "\"other\"")]).await.is_problem(412, "precondition-failed");
    let head = answer(edge.request("HEAD", &path).bearer_auth(token("bob"))).await.is(200);
    assert_eq!(head.header("content-length"), "16");
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let edge = edge().await;
    let Finished { path, .. } = finished(&edge).await;
    for tail in ["download?artifact=art_01ARZ3NDEKTSV4RRFFQ69G5FAV", "thumbnails/5", "thumbnails/x"] {
        fetch(&edge, &format!("{path}/{tail}"), &[]).await.is_problem(404, "no-such-artifact");
    }
    let call = edge.call().await;
    let live = format!("/video-calls/{call}/recording/{}", edge.recording(&call).await);
    for tail in ["download", "thumbnails/0"] {
        fetch(&edge, &format!("{live}/{tail}"), &[]).await.is_problem(409, "recording-not-ready");
        edge.get(&format!("{path}/{tail}"), "eve").await.is_problem(404, "no-such-call");
    }
    std::fs::remove_dir_all(&edge.storage).unwrap();
    fetch(&edge, &format!("{path}/download"), &[]).await.is_problem(500, "internal");
}

#[tokio::test]
async fn a_media_element_may_send_its_token_in_the_query_and_nothing_else_may() {
    let edge = edge().await;
    let Finished { path, .. } = finished(&edge).await;
    for tail in ["download", "thumbnails/0"] {
        let by_query = format!("{path}/{tail}?token={}", token("bob"));
        answer(edge.request("GET", &by_query)).await.is(200);
    }
    let control = format!("{path}?token={}", token("bob"));
    answer(edge.request("GET", &control)).await.is_problem(401, "unauthenticated");
}
