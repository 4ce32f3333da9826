//! Two hundred peers connect and vanish without a word: nothing of them stays.

use e2e::socket::Socket;
use e2e::system::System;
use futures::future::join_all;

use crate::participant::Participant;
use crate::{builder, until_carried, until_files, until_published};

/// Calls, and who plays each call's publisher: 200 peers together.
const CALLS: usize = 50;
const PLAYERS: usize = 3;
/// People with a socket, of whom nothing comes any more while it stays open.
const SILENT: usize = 20;
/// Calls whose people connect at the same time: more would only wait for each other's handshakes.
const AT_ONCE: usize = 5;
/// What the same peers may take more when they come again: if the first had left anything, this would take what they took, 35 MiB. The
/// allocator gives memory back only where nothing in an arena lives, so that memory is used again is the measure. Measured: 1 MiB.
const AGAIN_MAX: u64 = 12 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_peers_who_vanish_nothing_stays() {
    let mut system =
        builder().set("WEBRTC_MAX_SESSIONS", "500").set("CALL_EMPTY_TIMEOUT", "1s").start().await;
    // Whoever comes first pays for what is made once.
    let warm = system.client("host").create_call(&[]).await;
    drop(seated(&system, &warm).await);
    until_carried(&system, 0, 0, 0).await;
    let files = system.edge.program().open_files();

    let crowd = crowd(&system).await;
    let first = memory(&mut system);
    crowd.vanish(&system).await;
    until_files(&mut system, files).await;

    let _crowd = self::crowd(&system).await;
    let grown = memory(&mut system).saturating_sub(first);
    assert!(grown < AGAIN_MAX, "{} KiB with the first, {} more with as many again", first >> 10, grown >> 10);
}

fn memory(system: &mut System) -> u64 {
    system.edge.program().memory()
}

/// Everybody.
struct Crowd {
    peers: Vec<Participant>,
    silent: Vec<Socket>,
}

impl Crowd {
    /// Nothing comes from anybody any more. The sockets of the silent stay open until the edge has given them up.
    async fn vanish(self, system: &System) {
        drop(self.peers);
        until_carried(system, 0, 0, 0).await;
        drop(self.silent);
    }
}

async fn crowd(system: &System) -> Crowd {
    let (base, host) = (system.edge.url(), system.client("host"));
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        calls.push(host.create_call(&[]).await);
    }
    let mut peers = Vec::new();
    for some in calls.chunks(AT_ONCE) {
        peers.extend(join_all(some.iter().map(|call| seated(system, call))).await.into_iter().flatten());
    }
    let mut silent = Vec::new();
    for (number, call) in calls.iter().take(SILENT).enumerate() {
        silent.push(Socket::join(&system.client(&format!("silent{number}")), &base, call).await.0);
    }
    until_carried(system, CALLS, CALLS + SILENT, CALLS * (1 + PLAYERS) + SILENT).await;
    assert!(peers.iter().all(|peer| peer.standing().connected));
    Crowd { peers, silent }
}

/// A call's publisher and those who play them, all connected and hearing.
async fn seated(system: &System, call: &str) -> Vec<Participant> {
    let mut publisher = Participant::speak(&system.client("bob"), call).await;
    publisher.connected().await;
    until_published(&system.client("host"), call, "bob", 1).await;
    let mut people = vec![publisher];
    for number in 0..PLAYERS {
        let mut player = Participant::play(&system.client(&format!("player{number}")), call, "bob").await;
        player.hears_sound().await;
        people.push(player);
    }
    people
}
