//! Uploads that were never media, or were made to hurt: each ends as an error or as gaps, none is read as a list of other files,
//! and the worker goes on.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use e2e::client::{Client, Recording, TrackKind};
use e2e::fixtures::Fixture;
use e2e::output::Output;
use e2e::probe;
use e2e::system::{Folders, System};
use serde_json::{Value, json};
use shared::testing::Changes;

/// How long any of them may take: all are processed together, by a debug build.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long a track may take to be told after its first chunk.
const TRACK_WITHIN: Duration = Duration::from_secs(10);
/// What the worker may hold at most. Measured: 27 MiB. Two recordings are processed at once, each with a chunk of 10 MiB at
/// most in memory, and the allocator may keep as much again.
const MEMORY_MAX: u64 = 100 << 20;
/// A cluster's id (RFC 9559, section 5.1.3) and the unknown length that browsers give it.
const CLUSTER: [u8; 12] = [0x1F, 0x43, 0xB6, 0x75, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
/// 149 hours in milliseconds: what real peers have sent.
const HOURS_149: u64 = 149 * 3_600_000;

/// What an upload may come to.
#[derive(Debug, PartialEq)]
enum Fate {
    /// There is nothing in it.
    Failed,
    /// There is something in it; so many milliseconds at most.
    CompletedWithin(f64),
}

struct Upload {
    what: &'static str,
    mime: &'static str,
    blobs: Vec<Vec<u8>>,
    fate: Fate,
}

fn failing(what: &'static str, mime: &'static str, blob: Vec<u8>) -> Upload {
    Upload { what, mime, blobs: vec![blob], fate: Fate::Failed }
}

#[tokio::test]
async fn hostile_uploads_end_as_errors_and_the_worker_goes_on() {
    let mut system = System::start().await;
    let canary = lay_canaries(&system);
    let ann = system.client("ann");
    let mut started = Vec::new();
    let uploads =
        lists(&canary).into_iter().chain(bombs()).chain(boxes()).chain(clocks()).chain(among_good_ones());
    for upload in uploads {
        let recording = sent(&ann, &upload).await;
        started.push((upload, recording));
    }
    for (upload, recording) in &started {
        let done = ann.wait_final_within(recording, PATIENCE).await;
        judge(&system, upload, recording, &done);
    }
    the_worker_goes_on(&ann).await;
    assert!(system.worker().runs(), "the worker has ended");
    let peak = system.worker().peak_memory();
    assert!(peak < MEMORY_MAX, "the worker held {} MiB", peak >> 20);
    nothing_of_the_canary_got_out(&system, &canary);
    let scratch = Folders::files(&system.folders.scratch());
    assert!(scratch.iter().all(|file| file.ends_with("lock")), "{scratch:?}");
}

/// The one file that a list could name without climbing is another participant's, in the same job's folder; and its name is no
/// secret to those who take part.
#[tokio::test]
async fn a_list_does_not_reach_the_film_of_another_participant() {
    let system = System::start().await;
    let (host, bob, eve) = (system.client("host"), system.client("bob"), system.client("eve"));
    let call = host.create_call(&["bob", "eve"]).await;
    let recording = host.start_recording(&call, &json!({ "thumbnails": 0 })).await;
    bob.upload(&recording, TrackKind::Video, &Fixture::load("ff-webm-vp8").first(3)).await;
    let track = track_of(&system, &eve, &recording).await;
    let list = format!("ffconcat version 1.0\nfile {track}.mkv\n");
    let put = eve.put_chunk(&recording, TrackKind::Video, 0, "video/webm", Bytes::from(list)).await;
    assert_eq!(put.status, 201);
    eve.complete(&recording, TrackKind::Video, 0).await;

    let done = host.finish(&recording).await;
    let output = Output::of(&host, &done).await;
    assert_eq!(output.only().told["participantId"], "bob");
    let tracks = done["tracks"].as_array().cloned().unwrap_or_default();
    let gaps = |user: &str| {
        tracks.iter().find(|track| track["participantId"] == user).map(|track| track["gaps"].clone())
    };
    assert_eq!(gaps("bob"), Some(json!([])));
    assert_eq!(gaps("eve").map(|gaps| gaps[0]["reason"].clone()), Some(json!("corrupt")));
}

/// The id of a recording's first track, which whoever takes part is told; its row follows its first chunk.
async fn track_of(system: &System, client: &Client, recording: &Recording) -> String {
    let mut changes = Changes::of(&system.db, &["track"]).await;
    let told = async {
        loop {
            if let Some(id) = client.recording(recording).await["tracks"][0]["id"].as_str() {
                return id.to_owned();
            }
            changes.next().await;
        }
    };
    tokio::time::timeout(TRACK_WITHIN, told).await.expect("a live recording tells its tracks")
}

#[tokio::test]
async fn an_empty_chunk_is_refused() {
    let system = System::builder().workers(0).start().await;
    let ann = system.client("ann");
    let recording = ann.record(json!({})).await;
    let put = ann.put_chunk(&recording, TrackKind::Video, 0, "video/webm", Bytes::new()).await.expect(400);
    assert_eq!(put.code(), "invalid-chunk");
}

async fn sent(client: &Client, upload: &Upload) -> Recording {
    let recording = client.record(json!({ "thumbnails": 1 })).await;
    for (sequence, blob) in (0..).zip(&upload.blobs) {
        let blob = Bytes::from(blob.clone());
        let put = client.put_chunk(&recording, TrackKind::Video, sequence, upload.mime, blob).await;
        assert_eq!(put.status, 201, "{}: {}", upload.what, put.json());
    }
    client.complete(&recording, TrackKind::Video, upload.blobs.len() as u64 - 1).await;
    client.stop(&recording).await;
    recording
}

fn judge(system: &System, upload: &Upload, recording: &Recording, done: &Value) {
    let what = upload.what;
    match upload.fate {
        Fate::Failed => {
            assert_eq!(done["status"], "failed", "{what}: {done}");
            let code = done["error"]["code"].as_str().unwrap_or_default();
            assert!(["unusable-media", "no-media"].contains(&code), "{what}: {done}");
            assert_eq!(done["artifacts"], json!([]), "{what}");
            let kept = system.folders.recordings().join("recordings").join(&recording.id);
            assert_eq!(Folders::files(&kept), Vec::<std::path::PathBuf>::new(), "{what}");
        }
        Fate::CompletedWithin(ms) => {
            assert_eq!(done["status"], "completed", "{what}: {done}");
            let duration = done["duration"].as_f64().unwrap_or(f64::MAX);
            assert!(duration <= ms, "{what}: {duration} ms long");
        }
    }
    assert!(
        !done.to_string().contains(&system.folders.root().display().to_string()),
        "{what}: {done} tells a path"
    );
}

async fn the_worker_goes_on(client: &Client) {
    let recording = client.record(json!({})).await;
    client.upload(&recording, TrackKind::Video, &Fixture::load("chrome-webm-vp8").first(4)).await;
    let done = client.finish(&recording).await;
    assert_eq!(Output::of(client, &done).await.pictures.len(), 5);
}

/// Puts a film wherever a list that is read might find one. It is a real one, so that whoever reads it would make use of it; and
/// of a codec that no upload here has, so that nobody has the same packets by chance, as browsers' test tones are the same.
fn lay_canaries(system: &System) -> std::path::PathBuf {
    let film = Fixture::load("chrome-webm-vp9").whole();
    let folders = &system.folders;
    for folder in [folders.root().to_owned(), folders.scratch(), folders.spool(), folders.capture()] {
        std::fs::write(folder.join("canary.webm"), &film).expect("/tmp has room");
    }
    folders.root().join("canary.webm")
}

fn nothing_of_the_canary_got_out(system: &System, canary: &Path) {
    let hashes = |path: &Path| -> HashSet<String> {
        let packets = probe::packets(path, probe::demuxer(path)).into_iter();
        packets.filter(|packet| packet.kind == "video").map(|packet| packet.hash).collect()
    };
    let secret = hashes(canary);
    assert!(secret.len() > 100);
    let folder = system.folders.recordings();
    for file in Folders::files(&folder) {
        if file.extension().is_some_and(|ending| ending != "jpg") {
            assert!(hashes(&folder.join(&file)).is_disjoint(&secret), "{} shows the canary", file.display());
        }
    }
    for folder in [system.folders.scratch(), system.folders.spool(), system.folders.capture()] {
        std::fs::remove_file(folder.join("canary.webm")).expect("nobody has taken the canary away");
    }
}

/// Lists of other files.
fn lists(canary: &Path) -> Vec<Upload> {
    let canary = canary.display();
    let concat = |file: &str| format!("ffconcat version 1.0\nfile '{file}'\nduration 5\n").into_bytes();
    let hls = format!("#EXTM3U\n#EXT-X-TARGETDURATION:30\n#EXTINF:22,\nfile://{canary}\n#EXT-X-ENDLIST\n");
    vec![
        failing("an ffconcat list of a sibling", "video/webm", concat("canary.webm")),
        failing("an ffconcat list of what is two above", "video/webm", concat("../../canary.webm")),
        failing("an ffconcat list with a whole path", "video/webm", concat(&canary.to_string())),
        failing("an ffconcat list that says to be MP4", "video/mp4", concat(&canary.to_string())),
        failing("an HLS playlist", "video/webm", hls.clone().into_bytes()),
        failing("an HLS playlist that says to be MP4", "video/mp4", hls.into_bytes()),
    ]
}

/// A real head of a WebM file, without media.
fn head() -> Vec<u8> {
    Fixture::load("chrome-webm-vp8").blobs[0][..200].to_vec()
}

fn bombs() -> Vec<Upload> {
    let after_head = |bytes: &[u8]| [&head()[..], bytes].concat();
    let nothing = "video/webm";
    vec![
        failing("zeros", nothing, vec![0; 1 << 20]),
        failing("ones", nothing, vec![0xFF; 1 << 20]),
        failing("noise", nothing, noise(2 << 20)),
        failing(
            "a block of 4 GiB",
            nothing,
            after_head(&[0xA3, 0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0x81, 0, 0, 0x80]),
        ),
        failing("a void of 4 GiB", nothing, after_head(&[0xEC, 0x08, 0xFF, 0xFF, 0xFF, 0xFF])),
        failing(
            "a head of 64 PiB",
            nothing,
            b"\x1A\x45\xDF\xA3\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFE\x42\x86\x81\x01".to_vec(),
        ),
        failing("10,000 tiny elements", nothing, after_head(&[0xEC, 0x80].repeat(10_000))),
        failing("half a million empty groups", nothing, after_head(&[0xA0, 0xFF].repeat(500_000))),
        failing("clusters in clusters", nothing, after_head(&[0x1F, 0x43, 0xB6, 0x75, 0xFF].repeat(200_000))),
        failing("segments in segments", nothing, [0x18, 0x53, 0x80, 0x67, 0xFF].repeat(1_000_000)),
    ]
}

fn boxes() -> Vec<Upload> {
    let brand = b"\0\0\0\x18ftypisom\0\0\0\0isomisom";
    let after_brand = |bytes: &[u8]| [&brand[..], bytes].concat();
    let mp4 = Fixture::load("chrome-mp4-avc1-kf1");
    let [moov, mut fragment] = [0, 1].map(|n: usize| mp4.blobs[n].to_vec());
    let run = fragment.windows(4).position(|name| name == b"trun").expect("a fragment has runs");
    fragment[run + 8..run + 12].fill(0xFF); // sample_count (ISO/IEC 14496-12, section 8.8.8)
    let mut uploads = vec![
        failing("a box of 4 GiB", "video/mp4", after_brand(b"\xFF\xFF\xFF\xFFmoov")),
        failing(
            "a box of 16 EiB",
            "video/mp4",
            after_brand(b"\0\0\0\x01moov\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
        ),
        failing("a box smaller than its head", "video/mp4", after_brand(&b"\0\0\0\x04moov".repeat(10_000))),
        failing("boxes in boxes", "video/mp4", after_brand(&b"\0\x10\0\0moov\0\x10\0\0trak".repeat(60_000))),
        failing(
            "50,000 empty fragments",
            "video/mp4",
            after_brand(&b"\0\0\0\x10moof\0\0\0\x08mfhd".repeat(50_000)),
        ),
    ];
    uploads.push(Upload {
        what: "a run of 4 billion samples",
        mime: "video/mp4",
        blobs: vec![moov, fragment, mp4.blobs[2].to_vec()],
        fate: Fate::CompletedWithin(60_000.0),
    });
    uploads
}

/// Media whose clocks lie.
fn clocks() -> Vec<Upload> {
    let film = Fixture::load("chrome-webm-vp8").first(8);
    let blobs: Vec<Vec<u8>> = film.blobs.iter().map(|blob| blob.to_vec()).collect();
    let mut once = blobs.clone();
    once[5] = later(&once[5], 1, HOURS_149);
    let always = blobs.iter().map(|blob| later(blob, usize::MAX, HOURS_149)).collect();
    let upload =
        |what, blobs| Upload { what, mime: "video/webm", blobs, fate: Fate::CompletedWithin(60_000.0) };
    vec![upload("a jump of 149 hours", once), upload("a recording that begins after 149 hours", always)]
}

/// The blob with its first clusters' times moved.
fn later(blob: &[u8], clusters: usize, by_ms: u64) -> Vec<u8> {
    let (mut moved, mut rest, mut left) = (Vec::new(), blob, clusters);
    while let Some(at) = rest.windows(CLUSTER.len()).position(|bytes| bytes == CLUSTER).filter(|_| left > 0) {
        let time = at + CLUSTER.len();
        let Some([0xE7, size, ..]) = rest.get(time..) else { break };
        let end = time + 2 + usize::from(size & 0x0F);
        let Some(value) = rest.get(time + 2..end) else { break };
        let ms = value.iter().fold(0_u64, |ms, byte| ms << 8 | u64::from(*byte)) + by_ms;
        moved.extend_from_slice(&rest[..time]);
        moved.extend_from_slice(&[0xE7, 0x88]);
        moved.extend_from_slice(&ms.to_be_bytes());
        rest = &rest[end..];
        left -= 1;
    }
    moved.extend_from_slice(rest);
    moved
}

/// A list and noise in place of a blob of a real recording.
fn among_good_ones() -> Vec<Upload> {
    let film = Fixture::load("ff-webm-vp8").first(6);
    let blobs: Vec<Vec<u8>> = film.blobs.iter().map(|blob| blob.to_vec()).collect();
    let with = |what, bad: Vec<u8>| {
        let mut blobs = blobs.clone();
        blobs[3] = bad;
        Upload { what, mime: "video/webm", blobs, fate: Fate::CompletedWithin(20_000.0) }
    };
    vec![
        with("an ffconcat list among blobs", b"ffconcat version 1.0\nfile canary.webm\n".to_vec()),
        with("noise among blobs", noise(100_000)),
    ]
}

/// Bytes that are the same in every run (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    (0..length).map(|_| next()).collect()
}
