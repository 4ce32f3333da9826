//! Sessions of one person that follow each other, and sessions that may only listen.

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use sfu::codec::Size;
use sfu::{Command, Event, Layer, Medium, Muting, PeerId, Reception, Role, SignalError, TapMark, User, Wish};

use crate::world::{World, room, unix_us};
use crate::{SECOND, both_hear, layer_of, tap};

fn recorded(world: &mut World) -> tap::Recorder {
    let recorder = tap::Recorder::default();
    world.command(Command::Record { room: room(), tap: Some(Box::new(recorder.clone())) });
    recorder
}

/// What the timeline says of a person as a whole.
fn marks_of(recorder: &tap::Recorder, user: &str) -> Vec<TapMark> {
    let notes = recorder.0.lock().unwrap();
    notes.marks.iter().filter(|(of, medium, _)| of == user && medium.is_none()).map(|it| it.2).collect()
}

#[test]
fn somebody_is_gone_with_their_last_session() {
    let mut world = World::new();
    let recorder = recorded(&mut world);
    world.join(1, "ann");
    world.join(2, "ann");
    world.command(Command::Leave { peer: PeerId(1) });
    let came = [TapMark::Joined, TapMark::Unmuted];
    assert_eq!(marks_of(&recorder, "ann"), [came, came].concat());
    world.command(Command::Leave { peer: PeerId(2) });
    assert_eq!(marks_of(&recorder, "ann").last(), Some(&TapMark::Left));
}

#[test]
fn what_is_told_before_any_datagram_came_has_its_time() {
    let mut world = World::new();
    let recorder = recorded(&mut world);
    world.join(1, "ann");
    let notes = recorder.0.lock().unwrap();
    assert!(!notes.marked_us.is_empty());
    assert!(
        notes.marked_us.iter().all(|at| *at >= unix_us(world.start, world.start)),
        "{:?}",
        notes.marked_us
    );
}

#[test]
fn a_renewed_session_keeps_what_was_wished_and_muted() {
    let mut world = World::new();
    let recorder = recorded(&mut world);
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.join_speaking(3, "cem");
    world.until("all hear", |world| {
        both_hear(world, (1, "ann"), (2, "ben"), 50) && both_hear(world, (2, "ben"), (3, "cem"), 50)
    });
    let (medium, muting) = (Some(Medium::Audio), Muting::Muted);
    world.command(Command::Mute { peer: PeerId(2), medium, muting });
    let (of, medium) = (User::new("ann"), Some(Medium::Video));
    world.command(Command::Subscribe { peer: PeerId(2), of, medium, wish: Wish::No });
    world.clients.remove(&2);
    world.command(Command::Renew { peer: PeerId(2), fresh: PeerId(4) });
    world.attend(4);
    let before = (world.heard(1, "ben"), world.heard(3, "ben"));
    world.until("ben is seen again and sees", |world| {
        world.heard(1, "ben").1 > before.0.1 + 50
            && world.heard(4, "ann").0 > 50
            && world.heard(4, "cem").1 > 50
    });
    assert_eq!((world.heard(1, "ben").0, world.heard(3, "ben").0), (before.0.0, before.1.0), "still muted");
    assert_eq!(world.heard(4, "ann").1, 0, "still not wanted");
    let again = [TapMark::Left, TapMark::Joined];
    assert_eq!(marks_of(&recorder, "ben"), [&[TapMark::Joined, TapMark::Unmuted], &again[..]].concat());
}

/// What the timeline says of whether a track is muted, whoever is meant by it.
fn muted(recorder: &tap::Recorder, of: Medium) -> Vec<TapMark> {
    let about = |(_, medium, mark): &(String, Option<Medium>, TapMark)| {
        let tells = matches!(mark, TapMark::Muted | TapMark::Unmuted);
        (tells && medium.is_none_or(|medium| medium == of)).then_some(*mark)
    };
    recorder.0.lock().unwrap().marks.iter().filter_map(about).collect()
}

#[test]
fn who_is_muted_before_they_are_recorded_or_send_anything_is_so_in_the_recording() {
    for medium in [Some(Medium::Audio), None] {
        let mut world = World::new();
        world.join(1, "ann");
        world.command(Command::Mute { peer: PeerId(1), medium, muting: Muting::Muted });
        let recorder = recorded(&mut world);
        world.attend(1);
        let published = |world: &World| {
            world.events.iter().filter(|event| matches!(event, Event::Published { .. })).count()
        };
        world.until("sound and pictures come", |world| published(world) == 2);
        assert_eq!(muted(&recorder, Medium::Audio).last(), Some(&TapMark::Muted), "{medium:?}");
        let pictures = if medium.is_none() { Some(&TapMark::Muted) } else { None };
        assert_eq!(muted(&recorder, Medium::Video).last(), pictures, "{medium:?}");
        assert!(recorder.0.lock().unwrap().numbers.keys().all(|(_, of)| medium.is_some_and(|it| it != *of)));
    }
}

#[test]
fn a_renewed_session_takes_no_offer_of_the_connection_that_has_failed() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    let mut ben = world.clients.remove(&2).unwrap();
    world.command(Command::Renew { peer: PeerId(2), fresh: PeerId(4) });
    world.run(5 * SECOND);
    let offered = |world: &World| {
        world.events.iter().any(|event| matches!(event, Event::Offer { peer: PeerId(4), .. }))
    };
    assert!(!offered(&world), "only the client knows when it has a connection that could answer");
    ben.connection.restart_ice();
    world.clients.insert(4, ben);
    world.offer(4);
    let refused = |world: &World| {
        let told = &world.refused()[..];
        matches!(told, [Event::Refused { peer: PeerId(4), error: SignalError::BadDescription(_) }])
    };
    world.until("it is refused", refused);
    world.clients.remove(&4);
    world.attend(4);
    let before = world.heard(1, "ben");
    world.until("a new one is taken", |world| {
        world.heard(1, "ben").1 > before.1 + 50 && world.heard(4, "ann").1 > 50
    });
}

#[test]
fn a_session_that_takes_nobodys_place_is_refused() {
    let mut world = World::new();
    world.command(Command::Renew { peer: PeerId(1), fresh: PeerId(2) });
    let [Event::Refused { peer: PeerId(2), error: SignalError::NotMade(_) }] = &world.events[..] else {
        panic!("{:?}", world.events)
    };
    assert_eq!(world.sfu.occupancy(), 0);
}

#[test]
fn what_is_wanted_of_somebody_may_change_and_ends_with_them() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    let wishes = |world: &mut World, of: User, wish| {
        world.command(Command::Subscribe { peer: PeerId(1), of, medium: None, wish });
    };
    wishes(&mut world, User::new("ben"), Wish::UpTo(Layer::Full));
    (0..2_000).for_each(|at| wishes(&mut world, User::new(format!("nobody{at}")), Wish::No));
    wishes(&mut world, User::new("ben"), Wish::No);
    world.run(SECOND);
    let before = world.heard(1, "ben");
    world.run(SECOND);
    assert_eq!(world.heard(1, "ben"), before, "it may change though there are as many as are kept");
    world.clients.remove(&2);
    world.command(Command::Leave { peer: PeerId(2) });
    world.join_speaking(3, "ben");
    world.until("ann hears who came anew", |world| world.heard(1, "ben").0 > before.0 + 50);
}

#[test]
fn a_renewed_session_that_is_muted_as_a_whole_stays_so_but_for_what_was_unmuted() {
    let mut world = World::new();
    let recorder = recorded(&mut world);
    world.join_speaking(1, "ann");
    let published =
        |world: &World| world.events.iter().filter(|event| matches!(event, Event::Published { .. })).count();
    world.until("sound and pictures come", |world| published(world) == 2);
    for (medium, muting) in [(None, Muting::Muted), (Some(Medium::Audio), Muting::Unmuted)] {
        world.command(Command::Mute { peer: PeerId(1), medium, muting });
    }
    world.clients.remove(&1);
    recorder.0.lock().unwrap().marks.clear();
    world.command(Command::Renew { peer: PeerId(1), fresh: PeerId(2) });
    assert_eq!(marks_of(&recorder, "ann"), [TapMark::Left, TapMark::Joined, TapMark::Muted]);
    world.attend(2);
    world.until("they come again", |world| published(world) == 4);
    assert_eq!(muted(&recorder, Medium::Video).last(), Some(&TapMark::Muted));
    assert_eq!(muted(&recorder, Medium::Audio).last(), Some(&TapMark::Unmuted));
}

#[test]
fn who_may_not_publish_is_told_and_neither_heard_nor_recorded() {
    let mut world = World::new();
    let recorder = recorded(&mut world);
    world.join_speaking(1, "ann");
    world.join_as(2, "ben", Role::Listener(Reception::Everything));
    world.attend(2);
    let told = Event::Refused { peer: PeerId(2), error: SignalError::MayNotPublish };
    world.until("ben hears and sees", |world| world.heard(2, "ann").0 > 50 && world.heard(2, "ann").1 > 50);
    assert!(world.events.contains(&told));
    // The server's own offers open nothing for it either.
    world.join_speaking(3, "cem");
    world.until("ben sees the third", |world| world.heard(2, "cem").1 > 50);
    world.run(SECOND);
    assert_eq!([world.heard(1, "ben"), world.heard(3, "ben")], [(0, 0), (0, 0)]);
    assert!(recorder.0.lock().unwrap().numbers.keys().all(|(user, _)| user != "ben"));
    assert_eq!(world.client(2).errors, Vec::<String>::new());
    for (answers, takes) in [(answers(&world, 2), false), (answers(&world, 1), true)] {
        let answer = &answers[0];
        assert_eq!(answer.contains("a=recvonly") || answer.contains("a=sendrecv"), takes, "{answer}");
    }
}

fn answers(world: &World, id: u64) -> Vec<String> {
    let of = |event: &Event| match event {
        Event::Answer { peer, sdp } if peer.0 == id => Some(sdp.clone()),
        _ => None,
    };
    world.events.iter().filter_map(of).collect()
}

#[test]
fn a_player_that_sends_is_nobody() {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    world.join_as(3, "play/eve", Role::Player { of: User::new("ann") });
    world.attend(3);
    let connected = Event::Connected { peer: PeerId(3) };
    world.until("it is connected", |world| world.events.contains(&connected));
    world.run(2 * SECOND);
    assert_eq!(world.heard(2, "play/eve"), (0, 0));
}

#[test]
fn a_tile_gets_no_more_than_fills_it() {
    let mut world = World::new();
    world.join(1, "ann");
    world.clients.get_mut(&1).unwrap().publish(world.now, RtpCodecKind::Audio);
    world.offer(1);
    world.join(2, "ben");
    world.clients.get_mut(&2).unwrap().publish_layers(world.now);
    world.offer(2);
    world.until("the layers are seen", |world| world.heard(1, "ben").1 > 50);
    // All layers of this client say that they have 480 lines.
    for (height, layer) in [(480, "q"), (720, "f"), (90, "q")] {
        let wish = Wish::Tile(Layer::Full, Size { width: height * 16 / 9, height });
        let (of, medium) = (User::new("ben"), Some(Medium::Video));
        world.command(Command::Subscribe { peer: PeerId(1), of, medium, wish });
        world.run(5 * SECOND);
        assert_eq!(layer_of(&mut world, 1), layer, "{height} lines");
    }
}
