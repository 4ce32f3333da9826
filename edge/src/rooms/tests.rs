//! Rooms over a media thread that only listens, and without a database: what they ask of it, and in which order.

use std::collections::BTreeSet;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Barrier};

use shared::clock::{Clock, SystemClock};
use shared::id::RecordingId;
use shared::recording::{Pause, RecordingState};
use shared::spool::SpoolSettings;
use sqlx::postgres::PgPoolOptions;

use super::*;
use crate::ingest::{EdgeCaptures, Ingest, IngestSettings, LiveRecording};

/// Rooms, and the two ends of their media thread.
struct World {
    rooms: Rooms,
    ingest: Ingest,
    asked: Receiver<sfu::Command>,
    happened: mpsc::Sender<sfu::Event>,
    _folder: tempfile::TempDir,
}

impl World {
    /// One whose media thread holds so many commands.
    async fn new(commands_max: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (tasks, clock): (_, SharedClock) = (Tasks::default(), Arc::new(SystemClock));
        let db = PgPoolOptions::new().connect_lazy("postgres://127.0.0.1:1/nobody").unwrap();
        let capture = folder.path().join("capture").to_string_lossy().into_owned();
        let env = Env::from_pairs([
            ("CAPTURE_DIR", capture.as_str()),
            ("DISK_RESERVE", "1MiB"),
            ("QUALITY_INTERVAL_MS", "3600000"),
        ]);
        let spool = SpoolSettings::Folder(folder.path().join("spool"));
        let settings = IngestSettings::from_env(&env, spool, String::new()).unwrap();
        let max_duration = settings.max_duration;
        let registry = prometheus::Registry::new();
        let ingest = Ingest::unwatched(settings, db.clone(), Arc::clone(&clock), tasks.clone(), &registry);
        let ingest = ingest.await.unwrap();
        let starter = Starter { db, clock, ingest: ingest.clone(), max_duration };
        let (media, asked) = Media::idle(commands_max);
        let (happened, events) = mpsc::channel(8);
        let settings = RoomSettings::from_env(&env).unwrap();
        let rooms = Rooms::start(settings, starter, media, events, &registry, &tasks).unwrap();
        Self { rooms, ingest, asked, happened, _folder: folder }
    }

    fn join(&self, call: &CallId, name: &str) -> Result<(Seat, Mailbox), Denied> {
        let (outbox, mailbox) = Outbox::new(call.clone());
        let admitted = admitted(call, name);
        let joined = self.rooms.join(admitted, Join::default(), outbox);
        joined.map(|(seat, _)| (seat, mailbox))
    }

    /// What the media thread has been asked since the last time.
    fn asked(&self) -> Vec<String> {
        self.asked.try_iter().map(|command| format!("{command:?}")).collect()
    }
}

fn admitted(call: &CallId, name: &str) -> Admitted {
    let (call, publishing) = (call.clone(), Publishing::Granted);
    Admitted { call, user: user(name), host: user("host"), max: 50, publishing }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn recording(call: &CallId) -> LiveRecording {
    LiveRecording {
        id: RecordingId::generate(),
        call: call.clone(),
        host: user("host"),
        participants: BTreeSet::new(),
        state: RecordingState::Recording,
        pause: Pause::default(),
        deadline_at: SystemClock.now() + chrono::TimeDelta::hours(1),
        edge_captures: EdgeCaptures::Yes,
    }
}

/// Two who bring a room in step at once, while a recording begins and while it stops: whoever comes last has seen the present.
#[tokio::test]
async fn a_tap_follows_its_recording_whoever_comes_last() {
    const ROUNDS: usize = 4_000;
    let (world, call) = (World::new(64).await, CallId::generate());
    let (_seat, _mailbox) = world.join(&call, "ann").unwrap();
    let (begins, ends) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let other = {
        let (rooms, call, runtime) = (world.rooms.clone(), call.clone(), tokio::runtime::Handle::current());
        let (begins, ends) = (Arc::clone(&begins), Arc::clone(&ends));
        std::thread::spawn(move || {
            let _runtime = runtime.enter();
            for _ in 0..2 * ROUNDS {
                begins.wait();
                capture::reconcile(&rooms, &call);
                ends.wait();
            }
        })
    };
    let meanwhile = |change: &dyn Fn()| {
        begins.wait();
        change();
        capture::reconcile(&world.rooms, &call);
        ends.wait();
        world.asked();
        world.rooms.0.state().rooms[&call].recording.clone()
    };
    for round in 0..ROUNDS {
        let live = recording(&call);
        let id = live.id.clone();
        assert_eq!(meanwhile(&|| world.ingest.started(live.clone())), Some(id.clone()), "round {round}");
        assert_eq!(meanwhile(&|| world.ingest.stopped(&id)), None, "round {round}");
    }
    other.join().unwrap();
}

#[tokio::test]
async fn an_overloaded_thread_leaves_no_room_behind_that_would_end_the_call() {
    let (world, call) = (World::new(1).await, CallId::generate());
    let (_seat, _mailbox) = world.join(&CallId::generate(), "filler").unwrap();
    assert_eq!(world.join(&call, "ann").unwrap_err().0, Code::Overloaded);
    assert!(!world.rooms.0.state().rooms.contains_key(&call));
    world.asked();
    world.join(&call, "ann").unwrap();
    assert!(world.rooms.0.state().rooms.contains_key(&call));
}

const ANSWER: &str = "v=0\r\na=ice-ufrag:ours\r\na=ice-pwd:ofMoreThanTwentyTwoLetters\r\n";

#[tokio::test]
async fn a_publisher_whose_room_ends_while_it_is_answered_begins_no_other() {
    let (world, call) = (World::new(3).await, CallId::generate());
    let (_seat, _mailbox) = world.join(&call, "ann").unwrap();
    world.asked();
    let admitted = admitted(&call, "bob");
    let publishing = world.rooms.publish(admitted, "an offer".to_owned());
    let ending = async {
        // One more command finds a place; the two that end the room do not.
        let (_seat, _mailbox) = world.join(&CallId::generate(), "filler").unwrap();
        world.rooms.close(&call);
        let answer = sfu::Event::Answer { peer: sfu::PeerId(2), sdp: ANSWER.to_owned() };
        world.happened.send(answer).await.unwrap();
    };
    let (published, ()) = tokio::join!(publishing, ending);
    assert_eq!(published.unwrap_err().0, Code::Overloaded);
    assert!(!world.rooms.0.state().rooms.contains_key(&call));
}

#[tokio::test]
async fn a_thread_that_answers_no_report_is_not_waited_for() {
    let (world, call) = (World::new(8).await, CallId::generate());
    let (_seat, _mailbox) = world.join(&call, "ann").unwrap();
    assert_eq!(world.rooms.in_call(&call).await.unwrap_err().0, Code::Overloaded);
}

#[tokio::test]
async fn a_thread_that_answers_no_report_is_waited_for_once_in_a_round() {
    let world = World::new(64).await;
    let calls: [CallId; 3] = std::array::from_fn(|_| CallId::generate());
    let _seats = calls.each_ref().map(|call| world.join(call, "ann").unwrap());
    world.asked();
    let mut metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    stats::tell_quality_once(&world.rooms, &mut metrics).await;
    assert_eq!(world.asked(), ["report 1", "report 2"], "this round's, and that of the rooms' own first one");
}

#[tokio::test]
async fn who_plays_a_track_that_begins_anew_is_let_go() {
    let (world, call) = (World::new(64).await, CallId::generate());
    let (_seat, _mailbox) = world.join(&call, "ann").unwrap();
    let track = |medium| sfu::TrackInfo { medium, mime: "video/VP8".to_owned(), simulcast: false };
    let ann = sfu::PeerId(1);
    let published = |medium| sfu::Event::Published { peer: ann, track: track(medium) };
    world.rooms.on(published(sfu::Medium::Video));
    let admitted = admitted(&call, "bob");
    let answer = sfu::Event::Answer { peer: sfu::PeerId(2), sdp: ANSWER.to_owned() };
    let (opened, sent) = tokio::join!(
        world.rooms.play(admitted, user("ann"), "an offer".to_owned()),
        world.happened.send(answer)
    );
    sent.unwrap();
    let opened = opened.unwrap();
    world.asked();
    let bob = user("bob");
    let about = About { call: &call, user: &bob, session: &opened.session };
    world.rooms.on(published(sfu::Medium::Audio));
    world.rooms.on(sfu::Event::Unpublished { peer: ann, medium: sfu::Medium::Video });
    assert_eq!(world.asked(), [""; 0], "sound of which it knows nothing, and a picture that may come back");
    world.rooms.on(published(sfu::Medium::Video));
    assert_eq!(world.asked(), [format!("{:?}", sfu::Command::Leave { peer: sfu::PeerId(2) })]);
    assert_eq!(world.rooms.end(about).unwrap_err().0, Code::NoSuchSession);
}
