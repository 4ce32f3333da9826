//! Recordings, as API section 4 describes them: start, stop, list, look, delete; and jobs, as operators see them.

use serde_json::{Value, json};

use crate::support::{TestEdge, answer, edge, edge_with, token};

async fn finish(edge: &TestEdge, recording: &str) {
    let sql =
        "update recording set state = 'failed', stopped_at = now(), failed_at = now(), deadline_at = null,
        stage = null, error_code = 'test', error_detail = 'ended by a test' where id = $1";
    sqlx::query(sql).bind(recording).execute(&edge.db).await.unwrap();
}

#[tokio::test]
async fn a_recording_is_started_seen_and_stopped() {
    let edge = edge().await;
    let call = edge.call().await;
    let base = format!("/video-calls/{call}/recording");
    let started = edge.post(&format!("{base}/start"), "ann", json!({ "format": "mkv" })).await.is(201);
    let started = started.data();
    assert_eq!((&started["id"], &started["status"]), (&started["recordingId"], &json!("recording")));
    assert_eq!((&started["callId"], &started["roomId"]), (&json!(call), &json!(call)));
    let id = started["id"].as_str().unwrap();

    let seen = edge.get(&format!("{base}/{id}"), "bob").await.is(200);
    assert_eq!(
        (&seen.data()["status"], &seen.data()["options"]["format"]),
        (&json!("recording"), &json!("mkv"))
    );
    assert_eq!((&seen.data()["outputUrl"], &seen.data()["storage"]), (&Value::Null, &Value::Null));
    let in_call = edge.get(&format!("/video-calls/{call}"), "bob").await.is(200);
    assert_eq!((&in_call.data()["isRecorded"], &in_call.data()["status"]), (&json!(true), &json!("active")));
    assert_eq!(in_call.data()["recordingStatus"], "recording");
    let listed = edge.get(&format!("/video-calls/{call}/recordings"), "bob").await.is(200);
    assert_eq!(listed.data()[0]["id"], id);

    edge.post(&format!("{base}/start"), "ann", Value::Null).await.is_problem(409, "recording-already-live");
    let stopped = edge.post(&format!("{base}/stop"), "ann", Value::Null).await.is(202);
    assert_eq!(stopped.data()["recordingId"], id);
    let seen = edge.get(&format!("{base}/{id}"), "bob").await.is(200);
    for (time, told) in [("startedAt", started), ("stoppedAt", stopped.data())] {
        assert_eq!(seen.data()[time], told[time], "{time}");
    }
    edge.post(&format!("{base}/stop"), "ann", Value::Null).await.is_problem(409, "recording-not-live");
    for kind in ["call.started", "recording.started", "recording.stopping"] {
        assert_eq!(edge.events(kind).await, 1, "{kind}");
    }
}

#[tokio::test]
async fn a_recording_is_paused_and_goes_on() {
    let edge = edge().await;
    let call = edge.call().await;
    let base = format!("/video-calls/{call}/recording");
    let turn = async |turn: &str, user: &str| edge.post(&format!("{base}/{turn}"), user, Value::Null).await;
    turn("pause", "ann").await.is_problem(409, "recording-not-live");
    let id = turn("start", "ann").await.is(201).data()["id"].as_str().unwrap().to_owned();
    turn("resume", "ann").await.is_problem(409, "recording-not-paused");
    turn("pause", "bob").await.is_problem(403, "forbidden");
    let paused = turn("pause", "ann").await.is(200);
    assert_eq!((&paused.data()["recordingId"], &paused.data()["status"]), (&json!(id), &json!("paused")));
    let seen = edge.get(&format!("{base}/{id}"), "bob").await.is(200);
    let (status, since) = (&seen.data()["status"], &seen.data()["pausedAt"]);
    assert_eq!((status, since), (&json!("paused"), &paused.data()["since"]));
    turn("pause", "ann").await.is_problem(409, "recording-paused");
    turn("start", "ann").await.is_problem(409, "recording-already-live");
    assert_eq!(turn("resume", "ann").await.is(200).data()["status"], "recording");
    let seen = edge.get(&format!("{base}/{id}"), "bob").await.is(200);
    let (status, since) = (&seen.data()["status"], &seen.data()["pausedAt"]);
    assert_eq!((status, since), (&json!("recording"), &Value::Null));
    turn("pause", "ann").await.is(200);
    turn("stop", "ann").await.is(202);
    turn("resume", "ann").await.is_problem(409, "recording-not-live");
    for (kind, times) in [("recording.paused", 2), ("recording.resumed", 1)] {
        assert_eq!(edge.events(kind).await, times, "{kind}");
    }
    let spans = "select count(*), count(resumed_at) from recording_pause where recording_id = $1";
    let spans: (i64, i64) = sqlx::query_as(spans).bind(&id).fetch_one(&edge.db).await.unwrap();
    assert_eq!(spans, (2, 1));
}

#[tokio::test]
async fn options_that_no_output_can_meet_are_told_and_other_bodies_refused() {
    let edge = edge().await;
    let path = format!("/video-calls/{}/recording/start", edge.call().await);
    let told = edge.post(&path, "ann", json!({ "format": "webm", "videoCodec": "h264" })).await;
    told.is_problem(422, "invalid-options");
    assert!(told.body["detail"].as_str().unwrap().contains("webm does not hold h264"));
    let past = json!({ "expiresAt": "2001-01-01T00:00:00Z" });
    edge.post(&path, "ann", past).await.is_problem(422, "invalid-options");
    edge.post(&path, "ann", json!({ "nonsense": 1 })).await.is_problem(422, "invalid-options");
    let raw = |kind: &'static str, body: &'static str| {
        let request = edge.request("POST", &path).bearer_auth(token("ann")).body(body);
        answer(request.header("content-type", kind))
    };
    raw("application/json", "{").await.is_problem(400, "malformed-json");
    raw("text/plain", "{}").await.is_problem(415, "unsupported-media-type");
    raw("application/json", "").await.is(201);
}

#[tokio::test]
async fn an_admin_may_do_what_a_host_may() {
    let edge = edge().await;
    let path = format!("/video-calls/{}/recording", edge.call().await);
    edge.post(&format!("{path}/start"), "root", Value::Null).await.is(201);
    edge.post(&format!("{path}/stop"), "root", Value::Null).await.is(202);
}

#[tokio::test]
async fn nothing_is_recorded_below_the_disks_reserve() {
    let edge = edge_with(&[("DISK_RESERVE", "4096TiB")]).await;
    let path = format!("/video-calls/{}/recording/start", edge.call().await);
    edge.post(&path, "ann", Value::Null).await.is_problem(507, "disk-full");
    let ready = answer(edge.request("GET", "/readyz")).await;
    ready.is_problem(503, "not-ready");
    assert!(ready.body["detail"].as_str().unwrap().contains("disk"));
}

#[tokio::test]
async fn only_a_finished_recording_is_deleted_and_its_files_by_a_job() {
    let edge = edge().await;
    let call = edge.call().await;
    let id = edge.recording(&call).await;
    let path = format!("/video-calls/{call}/recording/{id}");
    edge.send("DELETE", &path, "bob", Value::Null).await.is_problem(403, "forbidden");
    edge.send("DELETE", &path, "ann", Value::Null).await.is_problem(409, "recording-live");
    finish(&edge, &id).await;
    assert_eq!(edge.get(&path, "ann").await.is(200).data()["error"]["code"], "test");
    edge.send("DELETE", &path, "ann", Value::Null).await.is(202);
    edge.send("DELETE", &path, "ann", Value::Null).await.is_problem(404, "no-such-recording");
    edge.get(&path, "ann").await.is_problem(404, "no-such-recording");
    assert_eq!(edge.events("recording.deleted").await, 1);
    let jobs = edge.get(&format!("/admin/jobs?queue=delete-recording&recording={id}"), "root").await.is(200);
    assert_eq!(jobs.data().as_array().unwrap().len(), 1);
    assert_eq!(jobs.data()[0]["payload"], json!({ "recording": id }));
}

#[tokio::test]
async fn a_recording_is_found_under_its_own_call_alone() {
    let edge = edge().await;
    let (one, other) = (edge.call().await, edge.call().await);
    let id = edge.recording(&one).await;
    for recording in [id.as_str(), "rec_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"] {
        let path = format!("/video-calls/{other}/recording/{recording}");
        edge.get(&path, "ann").await.is_problem(404, "no-such-recording");
        edge.send("DELETE", &path, "ann", Value::Null).await.is_problem(404, "no-such-recording");
    }
}

#[tokio::test]
async fn jobs_are_for_operators() {
    let edge = edge().await;
    edge.get("/admin/jobs", "ann").await.is_problem(403, "forbidden");
    edge.get("/admin/jobs/x", "ann").await.is_problem(403, "forbidden");
    edge.get("/admin/jobs/x", "root").await.is_problem(404, "no-such-job");
    edge.get("/admin/jobs?queue=&state=&recording=", "root").await.is(200);
    edge.get("/admin/jobs?recording=odd", "root").await.is_problem(400, "invalid-request");
    edge.get("/admin/jobs?state=odd", "root").await.is_problem(400, "invalid-request");
    edge.post("/admin/jobs/x/requeue", "root", Value::Null).await.is_problem(404, "no-such-job");
}

#[tokio::test]
async fn the_last_page_of_jobs_has_no_cursor_also_when_it_is_full() {
    let edge = edge().await;
    let insert = "insert into apalis.jobs (id, job_type, job, max_attempts)
        select apalis.generate_ulid(), 'sweep', convert_to('{}', 'UTF8'), 1 from generate_series(1, 4)";
    sqlx::query(insert).execute(&edge.db).await.unwrap();
    let first = edge.get("/admin/jobs?limit=2", "root").await.is(200);
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let last = edge.get(&format!("/admin/jobs?limit=2&cursor={cursor}"), "root").await.is(200);
    assert_eq!((last.data().as_array().unwrap().len(), &last.body["nextCursor"]), (2, &Value::Null));
}

#[tokio::test]
async fn a_dead_job_is_requeued_and_a_running_one_is_not() {
    let edge = edge().await;
    let call = edge.call().await;
    let recording = edge.recording(&call).await;
    finish(&edge, &recording).await;
    let path = format!("/video-calls/{call}/recording/{recording}");
    edge.send("DELETE", &path, "ann", Value::Null).await.is(202);
    let jobs = edge.get("/admin/jobs", "root").await.is(200);
    let job = format!("/admin/jobs/{}", jobs.data()[0]["id"].as_str().unwrap());
    let set = |sql: &'static str| sqlx::query(sql).execute(&edge.db);
    set("update apalis.jobs set status = 'Killed', attempts = max_attempts").await.unwrap();
    set("insert into job_attempts (job_id, attempt, worker, started_at, ended_at, outcome, error)
        select id, n, 'w', now(), now(), 'failed', 'reason ' || n from apalis.jobs, generate_series(1, 2) as n")
    .await
    .unwrap();
    let dead = edge.get(&job, "root").await.is(200);
    assert_eq!(dead.data()["state"], "dead");
    let attempts = dead.data()["attempts"].as_array().unwrap();
    let told: Vec<_> = attempts.iter().map(|one| (&one["attempt"], &one["outcome"], &one["error"])).collect();
    let failed = json!("failed");
    assert_eq!(told, [(&json!(1), &failed, &json!("reason 1")), (&json!(2), &failed, &json!("reason 2"))]);
    let requeued = edge.post(&format!("{job}/requeue"), "root", Value::Null).await.is(200);
    assert_eq!((&requeued.data()["state"], &requeued.data()["attemptCount"]), (&json!("pending"), &json!(0)));
    set("insert into apalis.workers (id, worker_type, storage_name, layers, last_seen)
        values ('w', 'delete-recording', 'test', '', now())")
    .await
    .unwrap();
    set("update apalis.jobs set status = 'Running', attempts = 1, lock_by = 'w', lock_at = now()")
        .await
        .unwrap();
    edge.post(&format!("{job}/requeue"), "root", Value::Null).await.is_problem(409, "job-running");
}
