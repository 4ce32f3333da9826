//! Media threads as the process sees them.

use std::process::ExitCode;
use std::time::Duration;

use sfu::{Medium, PeerId, Reception, Role, RoomId, StreamInfo, Tap, TapMark, User};
use shared::clock::SystemClock;
use shared::env::Env;

use super::*;

/// A recorder that brings its thread down.
struct Fatal;

impl Tap for Fatal {
    fn stream(&mut self, _: &User, _: Medium, _: &StreamInfo) {}
    fn rtp(&mut self, _: &User, _: Medium, _: i64, _: &[u8]) {}
    fn sender_report(&mut self, _: &User, _: Medium, _: i64, _: u32, _: u64, _: u32) {}
    fn pause(&mut self, _: i64) {}
    fn resume(&mut self, _: i64) {}
    fn mark(&mut self, _: &User, _: Option<Medium>, _: i64, _: TapMark) {
        panic!("the media thread shall end");
    }
}

#[tokio::test]
async fn a_thread_that_ends_is_given_no_room_and_ends_the_process_as_failed() {
    let env = Env::from_pairs([("WEBRTC_UDP_PORT", "0"), ("WEBRTC_THREADS", "2")]);
    let settings = MediaSettings::from_env(&env, Loopback::Offered).unwrap();
    let (clock, tasks): (SharedClock, _) = (Arc::new(SystemClock), Tasks::default());
    let (media, _happened) =
        Media::start(&settings, None, &clock, &prometheus::Registry::new(), &tasks).unwrap();
    let (first, room) = (media.place(), RoomId::new("room"));
    media.command(first, Command::Record { room: room.clone(), tap: Some(Box::new(Fatal)) }).unwrap();
    let role = Role::Member(Reception::Everything);
    media.command(first, Command::Join { room, peer: PeerId(1), user: User::new("ann"), role }).unwrap();
    tokio::time::timeout(Duration::from_secs(10), tasks.stop.cancelled()).await.unwrap();
    assert_ne!(media.place(), first);
    let ended = tasks.run_until(shared::lifecycle::signals().unwrap(), Duration::from_secs(10)).await;
    assert_eq!(ended, ExitCode::FAILURE);
}
