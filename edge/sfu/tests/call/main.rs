//! Calls through one shard, with real connections over a network in memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod client;
mod codecs;
mod network;
mod sessions;
mod tap;
mod world;

use std::time::Duration;

use client::{Client, Sound};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use sfu::{Command, Event, PeerId};
use world::World;

const SECOND: Duration = Duration::from_secs(1);

fn both_hear(world: &World, one: (u64, &str), other: (u64, &str), packets: usize) -> bool {
    [world.heard(one.0, other.1), world.heard(other.0, one.1)]
        .iter()
        .all(|(audio, video)| *audio > packets && *video > packets)
}

#[test]
fn two_members_see_and_hear_each_other() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    assert_eq!(world.refused(), Vec::<&Event>::new());
    assert_eq!(world.client(1).errors, Vec::<String>::new());
    world.run(3 * SECOND);
    world.command(Command::Report { room: None, token: 9 });
    let Some(Event::Report { peers, .. }) = world.events.pop() else { panic!("no report") };
    let microphone = &peers[0].published.iter().find(|it| it.medium == sfu::Medium::Audio).unwrap();
    assert!(microphone.bitrate_bps > 5_000 && microphone.loss == 0.0, "{microphone:?}");
    let leg = &peers[0].received.iter().find(|it| it.medium == sfu::Medium::Video).unwrap();
    let round_trip = leg.round_trip.unwrap();
    assert!(leg.bitrate_bps > 5_000 && round_trip.abs_diff(2 * world::DELAY) < world::DELAY / 2, "{leg:?}");
}

#[test]
fn a_third_who_comes_late_is_told_to_everybody_and_leaves_again() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    world.join_speaking(3, "cem");
    world.until("the third hears and is heard", |world| {
        both_hear(world, (1, "ann"), (3, "cem"), 50) && both_hear(world, (2, "ben"), (3, "cem"), 50)
    });
    world.command(Command::Leave { peer: PeerId(3) });
    world.clients.remove(&3);
    world.run(SECOND);
    let before = world.heard(1, "ben");
    world.run(SECOND);
    assert!(world.heard(1, "ben").0 > before.0 + 40);
    assert_eq!(world.refused(), Vec::<&Event>::new());
}

/// A new stream of `one` makes the server offer to `other` at the moment in which `other` offers.
fn glare(manners: client::Manners) -> World {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    world.clients.get_mut(&2).unwrap().manners = manners;
    world.join_speaking(3, "cem");
    let offers = |world: &World| {
        world.events.iter().filter(|event| matches!(event, Event::Offer { peer: PeerId(2), .. })).count()
    };
    let before = offers(&world);
    world.until("the server offers", |world| offers(world) > before);
    world.offer(2);
    world.until("all hear", |world| {
        both_hear(world, (1, "ann"), (3, "cem"), 50) && both_hear(world, (2, "ben"), (3, "cem"), 50)
    });
    world
}

#[test]
fn glare_with_a_polite_client_ends_well() {
    let mut world = glare(client::Manners::Polite);
    assert_eq!(world.refused(), Vec::<&Event>::new());
    assert_eq!(world.client(2).errors, Vec::<String>::new());
    world.offer(2);
    world.until("its next offer is answered", |world| !world.client(2).offering);
}

#[test]
fn glare_with_a_stubborn_client_ends_well() {
    let mut world = glare(client::Manners::Stubborn);
    assert_eq!(world.refused(), Vec::<&Event>::new());
    world.offer(2);
    world.until("its next offer is answered", |world| !world.client(2).offering);
}

#[test]
fn a_client_restarts_ice_and_goes_on() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    let old = answers(&world, 2).pop().unwrap();
    world.clients.get_mut(&2).unwrap().connection.restart_ice();
    world.offer(2);
    world.until("the restart is answered", |world| !world.client(2).offering);
    let new = answers(&world, 2).pop().unwrap();
    assert_ne!(line(&old, "a=ice-ufrag:"), line(&new, "a=ice-ufrag:"));
    assert_ne!(line(&old, "a=ice-pwd:"), line(&new, "a=ice-pwd:"));
    let before = world.heard(1, "ben").1.max(world.heard(2, "ann").1);
    world.until("both hear again", |world| both_hear(world, (1, "ann"), (2, "ben"), before + 200));
    assert_eq!(world.refused(), Vec::<&Event>::new());
}

fn answers(world: &World, id: u64) -> Vec<String> {
    let of = |event: &Event| match event {
        Event::Answer { peer, sdp } if peer.0 == id => Some(sdp.clone()),
        _ => None,
    };
    world.events.iter().filter_map(of).collect()
}

fn line<'a>(sdp: &'a str, start: &str) -> &'a str {
    sdp.lines().find(|line| line.starts_with(start)).unwrap()
}

#[test]
fn a_server_behind_a_turn_server_is_met_there_and_found_again_at_another_address() {
    let (first, second) = ("203.0.113.9:50000", "203.0.113.9:50001");
    let mut world = World::relayed(first.parse().unwrap());
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    let candidates = |world: &World, id| {
        let answer = answers(world, id).pop().unwrap();
        let lines = answer.lines().filter(|line| line.starts_with("a=candidate:")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    assert!(candidates(&world, 2).last().unwrap().contains("203.0.113.9 50000 typ relay"));
    world.relay(second.parse().unwrap());
    for id in [1, 2] {
        world.clients.get_mut(&id).unwrap().connection.restart_ice();
        world.offer(id);
    }
    world.until("the restarts are answered", |world| !world.client(1).offering && !world.client(2).offering);
    assert!(candidates(&world, 2).last().unwrap().contains("203.0.113.9 50001 typ relay"));
    let before = world.heard(1, "ben").1.max(world.heard(2, "ann").1);
    world.until("both hear again", |world| both_hear(world, (1, "ann"), (2, "ben"), before + 50));
    world.sfu.relayed(None);
    world.offer(1);
    world.until("the offer is answered", |world| !world.client(1).offering);
    assert!(candidates(&world, 1).iter().all(|line| line.contains("typ host")));
}

#[test]
fn a_client_with_the_slow_cipher_alone_meets_a_crowd() {
    let mut world = World::new();
    let published =
        |world: &World| world.events.iter().filter(|event| matches!(event, Event::Published { .. })).count();
    for id in 1..=33 {
        world.join_as(id, &format!("user{id}"), sfu::Role::Member(sfu::Reception::Nothing));
        let (now, client) = (world.now, world.clients.get_mut(&id).unwrap());
        client.publish(now, RtpCodecKind::Audio);
        client.publish(now, RtpCodecKind::Video);
        world.offer(id);
    }
    world.until("all publish", |world| published(world) == 66);
    world.ciphers = vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80];
    world.join_speaking(34, "late");
    world.until("it sees and hears the first and the last of them", |world| {
        let of = |user| world.heard(34, user);
        [of("user1"), of("user33")].iter().all(|(audio, video)| *audio > 20 && *video > 20)
    });
    assert_eq!(world.refused(), Vec::<&Event>::new());
}

#[test]
fn addresses_that_a_client_names_without_end_are_refused() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.until("it is connected", |world| world.events.contains(&Event::Connected { peer: PeerId(1) }));
    for port in 1..=100 {
        let candidate = Some(format!("candidate:1 1 udp 2130706431 198.51.100.9 {port} typ host"));
        world.command(Command::Candidate { peer: PeerId(1), candidate });
    }
    assert!(world.refused().len() >= 60, "{}", world.refused().len());
}

#[test]
fn a_client_whose_address_changes_goes_on() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    // A NAT gives it another port; the client itself does not notice.
    world.translate(2, ([10, 9, 9, 9], 9999).into());
    let before = world.heard(2, "ann").1.max(world.heard(1, "ben").1);
    world.until("both hear again", |world| both_hear(world, (1, "ann"), (2, "ben"), before + 200));
    world.run(20 * SECOND);
    assert!(!world.events.contains(&Event::Failed { peer: PeerId(2) }));
}

#[test]
fn two_hundred_peers_connect_and_vanish() {
    let mut world = World::new();
    for id in 1..=200 {
        world.join_as(id, &format!("user{id}"), sfu::Role::Member(sfu::Reception::Nothing));
        world.clients.get_mut(&id).unwrap().publish(world.now, RtpCodecKind::Audio);
        world.command(Command::Subscribe {
            peer: PeerId(id),
            of: sfu::User::new(format!("user{}", id - 1)),
            medium: None,
            wish: sfu::Wish::UpTo(sfu::Layer::Full),
        });
        world.offer(id);
    }
    let connected =
        |world: &World| world.events.iter().filter(|event| matches!(event, Event::Connected { .. })).count();
    world.until("all are connected", |world| connected(world) >= 200);
    world.run(SECOND);
    world.clients.clear();
    let failed =
        |world: &World| world.events.iter().filter(|event| matches!(event, Event::Failed { .. })).count();
    let vanished = world.now;
    world.until("all are given up", |world| failed(world) == 200);
    assert!(world.now - vanished <= 17 * SECOND, "{:?}", world.now - vanished);
    for id in 1..=200 {
        world.command(Command::Leave { peer: PeerId(id) });
    }
    assert_eq!(world.sfu.occupancy(), 0);
    assert_eq!(world.sfu.poll_timeout(), None);
}

#[test]
fn malformed_datagrams_change_nothing() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    let before = world.sfu.occupancy();
    let mut random = 7_u64;
    for round in 0..5000_usize {
        let mut datagram: Vec<u8> = (0..round % 120)
            .map(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) as u8
            })
            .collect();
        // STUN, DTLS, TURN channel, RTP, RTCP and noise; from a stranger and from a participant's own address.
        let kind = [0, 1, 20, 22, 23, 64, 128, 144, 200, 255][round % 10];
        if let Some(first) = datagram.first_mut() {
            *first = kind;
        }
        let from = if round % 2 == 0 { World::address(1) } else { World::address(77) };
        world.inject(from, &datagram);
        if round % 100 == 0 {
            world.run(Duration::from_millis(10));
        }
    }
    assert_eq!(world.sfu.occupancy(), before);
    let heard = world.heard(2, "ann").1.max(world.heard(1, "ben").1);
    world.until("both still hear", |world| both_hear(world, (1, "ann"), (2, "ben"), heard + 100));
}

#[test]
fn pictures_lost_on_the_way_are_sent_again() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    let begun = world.client(1).heard_of("ben", "video").len();
    world.loss = 50;
    world.run(10 * SECOND);
    world.loss = 0;
    world.run(3 * SECOND);
    let mut numbers: Vec<u32> =
        world.client(1).heard_of("ben", "video")[begun..].iter().map(|received| received.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let missing = (numbers[numbers.len() - 1] - numbers[0] + 1) as usize - numbers.len();
    assert!(numbers.len() > 550 && missing == 0, "{} there, {missing} missing", numbers.len());
    world.command(Command::Report { room: None, token: 9 });
    let Some(Event::Report { peers, .. }) = world.events.pop() else { panic!("no report") };
    assert!(peers.iter().all(|peer| peer.asked_again > 10), "{peers:?}");
}

#[test]
fn a_recorder_gets_every_packet_once() {
    let mut world = World::new();
    let recorder = tap::Recorder::default();
    world.command(Command::Record { room: world::room(), tap: Some(Box::new(recorder.clone())) });
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    world.loss = 30;
    world.run(5 * SECOND);
    world.loss = 0;
    world.run(2 * SECOND);
    world.command(Command::Mute {
        peer: PeerId(2),
        medium: Some(sfu::Medium::Audio),
        muting: sfu::Muting::Muted,
    });
    world.run(SECOND);
    let notes = recorder.0.lock().unwrap();
    for user in ["ann", "ben"] {
        let mut numbers = notes.numbers[&(user.to_owned(), sfu::Medium::Video)].clone();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all, "none twice");
        assert_eq!((numbers[all - 1] - numbers[0] + 1) as usize, all, "none missing");
        assert!(notes.streams.iter().any(|(of, medium, stream)| of == user
            && *medium == sfu::Medium::Video
            && stream.mime == "video/VP8"));
        assert!(notes.reports.iter().any(|(of, medium, _)| of == user && *medium == sfu::Medium::Audio));
    }
    assert!(notes.arrivals.is_sorted());
    assert!(notes.marks.contains(&("ben".into(), Some(sfu::Medium::Audio), sfu::TapMark::Muted)));
    assert!(notes.marks.contains(&("ann".into(), None, sfu::TapMark::Joined)));
    let keyframe = sfu::TapMark::Keyframe { width: 640, height: 480 };
    assert!(notes.marks.contains(&("ben".into(), Some(sfu::Medium::Video), keyframe)));
}

#[test]
fn many_wishes_for_a_keyframe_become_few() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    for id in 2..12 {
        world.join(id, &format!("viewer{id}"));
        world.clients.get_mut(&id).unwrap().publish(world.now, RtpCodecKind::Audio);
        world.offer(id);
    }
    world.until("all see", |world| (2..12).all(|id| world.heard(id, "ann").1 > 50));
    let before = asked(&mut world);
    for _ in 0..20 {
        for id in 2..12 {
            let ssrc = world.client(id).heard_of("ann", "video")[0].ssrc;
            let now = world.now;
            world.clients.get_mut(&id).unwrap().lose_picture(now, ssrc);
        }
        world.run(Duration::from_millis(50));
    }
    let after = asked(&mut world) - before;
    // One in a third of a second at most.
    assert!((2..=3).contains(&after), "{after} in a second");
}

/// For a second, so that nothing of their coming is asked for any more.
fn two_who_hear_each_other() -> World {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    world.run(SECOND);
    world
}

#[test]
fn whoever_asks_for_a_whole_picture_or_agrees_anew_has_one_asked_for() {
    let mut world = two_who_hear_each_other();
    let before = asked(&mut world);
    let (now, ssrc) = (world.now, world.client(2).heard_of("ann", "video")[0].ssrc);
    world.clients.get_mut(&2).unwrap().ask_for_picture(now, ssrc);
    world.run(Duration::from_millis(200));
    assert_eq!(asked(&mut world), before + 1);
    world.run(SECOND);
    let before = asked(&mut world);
    world.clients.get_mut(&2).unwrap().publish(world.now, RtpCodecKind::Audio);
    world.offer(2);
    world.run(Duration::from_millis(300));
    assert!(asked(&mut world) > before, "its decoder may have been set up anew");
}

#[test]
fn a_keyframe_is_asked_for_when_the_newcomer_can_take_it() {
    let mut world = two_who_hear_each_other();
    let before = asked(&mut world);
    let answered = |world: &World, id| {
        world.events.iter().any(|event| matches!(event, Event::Answer { peer: PeerId(it), .. } if *it == id))
    };
    world.join_as(3, "gone", sfu::Role::Player { of: sfu::User::new("ann") });
    watch(&mut world, 3);
    world.clients.remove(&3);
    world.until("who is gone is answered", |world| answered(world, 3));
    world.join_as(4, "viewer", sfu::Role::Player { of: sfu::User::new("ann") });
    watch(&mut world, 4);
    world.until("the viewer is answered", |world| answered(world, 4));
    assert_eq!(asked(&mut world), before, "nobody could take it yet");
    let connected = Event::Connected { peer: PeerId(4) };
    world.until("the viewer is connected", |world| world.events.contains(&connected));
    assert_eq!(asked(&mut world), before + 1);
}

/// A client without media of its own offers to take sound and pictures.
fn watch(world: &mut World, id: u64) {
    let client = world.clients.get_mut(&id).unwrap();
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        client.connection.add_transceiver_from_kind(kind, None).unwrap();
    }
    world.offer(id);
}

/// Keyframes asked of the first participant.
pub(crate) fn asked(world: &mut World) -> u64 {
    world.command(Command::Report { room: None, token: 9 });
    let Some(Event::Report { peers, .. }) = world.events.pop() else { panic!("no report") };
    peers
        .iter()
        .filter(|peer| peer.peer == PeerId(1))
        .flat_map(|peer| &peer.published)
        .map(|track| track.keyframe_requests)
        .sum()
}

#[test]
fn whoever_speaks_is_told_and_the_muted_are_not() {
    let mut world = World::new();
    for (id, user) in [(1, "ann"), (2, "ben")] {
        world.join_speaking(id, user);
    }
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    world.clients.get_mut(&2).unwrap().level = 30;
    world.until("ben speaks", |world| speakers(world) == ["ben"]);
    world.clients.get_mut(&1).unwrap().level = 10;
    world.until("ann takes over", |world| speakers(world) == ["ben", "ann"]);
    let (medium, muting) = (Some(sfu::Medium::Audio), sfu::Muting::Muted);
    world.command(Command::Mute { peer: PeerId(1), medium, muting });
    world.until("ben has the floor again", |world| speakers(world) == ["ben", "ann", "ben"]);
    world.run(5 * SECOND);
    world.command(Command::Leave { peer: PeerId(2) });
    assert_eq!(speakers(&world), ["ben", "ann", "ben", "-"]);
}

fn speakers(world: &World) -> Vec<&str> {
    fn of(event: &Event) -> Option<&str> {
        let Event::ActiveSpeaker { user, .. } = event else { return None };
        Some(user.as_ref().map_or("-", sfu::User::as_str))
    }
    world.events.iter().filter_map(of).collect()
}

#[test]
fn a_full_shard_begins_no_room_and_running_ones_grow_until_it_is_quite_full() {
    let mut world = World::new();
    let member = sfu::Role::Member(sfu::Reception::Nothing);
    let join = |world: &mut World, id: u64, room: &str| {
        let (room, user) = (sfu::RoomId::new(room), sfu::User::new(format!("user{id}")));
        world.sfu.command(world.now, Command::Join { room, peer: PeerId(id), user, role: member.clone() });
        let full = Event::Refused { peer: PeerId(id), error: sfu::SignalError::Full };
        !std::iter::from_fn(|| world.sfu.poll_event()).any(|event| event == full)
    };
    let mut id = 0;
    while join(&mut world, id, "running") && world.sfu.sessions() < sfu::MAX_SESSIONS * 9 / 10 {
        id += 1;
    }
    assert!(!join(&mut world, 10_000, "new"));
    assert!(join(&mut world, 10_001, "running"));
    while join(&mut world, id + 1, "running") {
        id += 1;
    }
    assert_eq!(world.sfu.sessions(), sfu::MAX_SESSIONS);
}

#[test]
fn a_client_that_has_only_the_slow_cipher_is_heard_too() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.ciphers.truncate(1);
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    assert_eq!(world.refused(), Vec::<&Event>::new());
}

#[test]
fn a_client_that_waits_for_the_handshake_hears_too() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.until("ann is connected", |world| world.events.contains(&Event::Connected { peer: PeerId(1) }));
    world.join(2, "ben");
    let waiting = Client::waiting(world.now, World::address(2), &world.ciphers, Sound::SentOnce);
    world.clients.insert(2, waiting);
    world.until("ben hears", |world| world.heard(2, "ann").0 > 50);
}

#[test]
fn a_forged_nomination_takes_no_true_ones_place() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.ciphers.truncate(1);
    world.join_speaking(2, "ben");
    world.until("ben is answered", |world| !answers(world, 2).is_empty());
    let answer = answers(&world, 2).pop().unwrap();
    let forged = forged_nomination(line(&answer, "a=ice-ufrag:").trim_start_matches("a=ice-ufrag:"));
    let (stranger, end) = (([203, 0, 113, 66], 6666).into(), world.now + 5 * SECOND);
    while !both_hear(&world, (1, "ann"), (2, "ben"), 5) {
        assert!(world.now < end, "never connected");
        world.inject(stranger, &forged);
        world.run(Duration::from_millis(1));
    }
}

/// A check with USE-CANDIDATE (RFC 8445, section 7.1.2) of somebody who knows the name and not the password.
fn forged_nomination(ufrag: &str) -> Vec<u8> {
    let name = format!("{ufrag}:x");
    let mut attributes = vec![0, 6, 0, u8::try_from(name.len()).unwrap()];
    attributes.extend(name.as_bytes());
    attributes.resize(attributes.len().next_multiple_of(4), 0);
    attributes.extend([0, 0x25, 0, 0]);
    attributes.extend([0, 8, 0, 20]);
    attributes.extend([7; 20]);
    let mut check = vec![0, 1, 0, u8::try_from(attributes.len()).unwrap(), 0x21, 0x12, 0xA4, 0x42];
    check.extend([9; 12]);
    check.extend(attributes);
    check
}

#[test]
fn a_player_gets_one_user_in_the_first_answer() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    world.join_as(3, "viewer", sfu::Role::Player { of: sfu::User::new("ben") });
    watch(&mut world, 3);
    world.until("it sees and hears", |world| world.heard(3, "ben").0 > 50 && world.heard(3, "ben").1 > 50);
    assert_eq!(world.heard(3, "ann"), (0, 0));
    assert!(!world.events.iter().any(|event| matches!(event, Event::Offer { peer: PeerId(3), .. })));
}

#[test]
fn the_best_layer_flows_and_gives_way_without_a_gap() {
    let mut world = World::new();
    let recorder = tap::Recorder::default();
    world.command(Command::Record { room: world::room(), tap: Some(Box::new(recorder.clone())) });
    world.join_speaking(1, "ann");
    world.join(2, "ben");
    world.clients.get_mut(&2).unwrap().publish_layers(world.now);
    world.offer(2);
    world.until("the layers are seen", |world| world.heard(1, "ben").1 > 50);
    assert_eq!(layer_of(&mut world, 1), "f");
    // A third makes everybody renegotiate, after which the layers bear no names any more.
    world.join_speaking(3, "cem");
    world.until("the third sees them too", |world| {
        world.heard(3, "ben").1 > 100 && world.heard(2, "cem").1 > 100
    });
    world.clients.get_mut(&2).unwrap().stop_layer("f");
    world.run(3 * SECOND);
    assert_eq!(layer_of(&mut world, 1), "h");
    world.command(Command::Subscribe {
        peer: PeerId(1),
        of: sfu::User::new("ben"),
        medium: None,
        wish: sfu::Wish::UpTo(sfu::Layer::Quarter),
    });
    world.run(3 * SECOND);
    assert_eq!(layer_of(&mut world, 1), "q");
    let received = world.client(1).heard_of("ben", "video");
    assert!(received.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)), "no gap");
    assert!(
        received.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) < 90_000 * 3),
        "no jump"
    );
    assert!(received.iter().all(|packet| packet.ssrc == received[0].ssrc));
    let notes = recorder.0.lock().unwrap();
    let of_ben = notes.streams.iter().filter(|(of, ..)| of == "ben");
    let layers: Vec<(&str, u32)> = of_ben.map(|(_, _, stream)| (&*stream.rid, stream.ssrc)).collect();
    let last = notes.last[&("ben".to_owned(), sfu::Medium::Video)];
    assert_eq!(layers.iter().find(|(_, ssrc)| *ssrc == last).unwrap().0, "h", "{layers:?}");
    assert_eq!(layers.len(), 3, "each is described once: {layers:?}");
}

/// The layer of ben's pictures that a participant gets.
fn layer_of(world: &mut World, id: u64) -> String {
    world.command(Command::Report { room: None, token: 9 });
    let Some(Event::Report { peers, .. }) = world.events.pop() else { panic!("no report") };
    let of_ben = |leg: &&sfu::LegReport| leg.of.as_str() == "ben";
    let peer = peers.iter().find(|peer| peer.peer == PeerId(id)).unwrap();
    peer.received.iter().find(of_ben).unwrap().rid.clone()
}

#[test]
fn tracks_that_go_are_told_and_come_back() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    world.clients.get_mut(&2).unwrap().fall_silent();
    world.offer(2);
    let gone = |medium| Event::Unpublished { peer: PeerId(2), medium };
    world.until("both tracks are gone", |world| {
        world.events.contains(&gone(sfu::Medium::Audio)) && world.events.contains(&gone(sfu::Medium::Video))
    });
    world.run(SECOND);
    let sections =
        |world: &World| world.client(1).connection.local_description().unwrap().sdp.matches("m=").count();
    let before = (world.heard(1, "ben"), sections(&world));
    world.clients.get_mut(&2).unwrap().publish(world.now, RtpCodecKind::Video);
    world.offer(2);
    world.until("it is seen again", |world| world.heard(1, "ben").1 > before.0.1 + 50);
    assert_eq!(sections(&world), before.1, "the section that fell idle is used again");
    assert_eq!(world.refused(), Vec::<&Event>::new());
}
