//! Clients that do not have every codec of pictures.

use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use sfu::{Command, Event, PeerId};

use crate::client::{self, Client};
use crate::world::World;

const VP8: (u8, &str) = (96, "video/VP8");
const VP9: (u8, &str) = (client::VP9, "video/VP9");

/// A member whose client has Opus and these.
fn join(world: &mut World, id: u64, user: &str, pictures: &[(u8, &str)]) {
    world.join(id, user);
    let mut engine = MediaEngine::default();
    for (payload_type, mime) in [(111, "audio/opus")].iter().chain(pictures) {
        let sound = *payload_type == 111;
        let (kind, clock_rate, channels) =
            if sound { (RtpCodecKind::Audio, 48_000, 2) } else { (RtpCodecKind::Video, 90_000, 0) };
        let rtp_codec = RTCRtpCodec { mime_type: (*mime).into(), clock_rate, channels, ..Default::default() };
        engine
            .register_codec(RTCRtpCodecParameters { rtp_codec, payload_type: *payload_type }, kind)
            .unwrap();
    }
    world.clients.insert(
        id,
        Client::with(engine, world.now, World::address(id), (&world.ciphers, RTCDtlsRole::Client)),
    );
}

/// A member who publishes sound, and pictures in a codec.
fn publish(world: &mut World, id: u64, user: &str, pictures: (u8, &str)) {
    world.join(id, user);
    let now = world.now;
    let client = world.clients.get_mut(&id).unwrap();
    client.publish(now, RtpCodecKind::Audio);
    client.publish_as(now, RtpCodecKind::Video, pictures.1, pictures.0);
    world.offer(id);
}

#[test]
fn who_has_one_codec_gets_what_is_in_it_and_everybodys_sound() {
    let mut world = World::new();
    publish(&mut world, 1, "ann", VP9);
    world.until("ann publishes", |world| published(world, 1) == 2);
    join(&mut world, 2, "ben", &[VP8]);
    let now = world.now;
    let ben = world.clients.get_mut(&2).unwrap();
    ben.publish(now, RtpCodecKind::Audio);
    ben.publish(now, RtpCodecKind::Video);
    world.offer(2);
    publish(&mut world, 3, "cem", VP8);
    world.until("ben gets what he can", |world| {
        let ((ann, _), (cem, seen)) = (world.heard(2, "ann"), world.heard(2, "cem"));
        ann > 50 && cem > 50 && seen > 50
    });
    world.until("the others get him", |world| world.heard(1, "ben").0 > 50 && world.heard(3, "ben").1 > 50);
    assert_eq!(world.heard(2, "ann").1, 0);
    assert_eq!(world.refused(), Vec::<&Event>::new());
}

#[test]
fn who_sends_no_pictures_gets_those_of_every_codec() {
    let mut world = World::new();
    publish(&mut world, 1, "ann", VP8);
    join(&mut world, 2, "ben", &[VP8, VP9]);
    world.clients.get_mut(&2).unwrap().publish(world.now, RtpCodecKind::Audio);
    world.offer(2);
    world.until("ben sees ann", |world| world.heard(2, "ann").1 > 50);
    publish(&mut world, 3, "cem", VP9);
    world.until("ben sees cem", |world| world.heard(2, "cem").1 > 50);
    assert_eq!(world.refused(), Vec::<&Event>::new());
}

#[test]
fn who_offers_nothing_is_offered_what_there_is() {
    let mut world = World::new();
    publish(&mut world, 1, "ann", VP9);
    publish(&mut world, 2, "ben", VP8);
    join(&mut world, 3, "cem", &[VP8]);
    world.until("cem gets what there is", |world| {
        world.heard(3, "ann").0 > 50 && world.heard(3, "ben").0 > 50 && world.heard(3, "ben").1 > 50
    });
    assert_eq!(world.heard(3, "ann").1, 0);
}

#[test]
fn who_has_no_pictures_at_all_hears_also_those_who_come_later() {
    let mut world = World::new();
    publish(&mut world, 1, "ann", VP8);
    join(&mut world, 2, "ben", &[]);
    world.clients.get_mut(&2).unwrap().publish(world.now, RtpCodecKind::Audio);
    world.offer(2);
    world.until("ben hears ann", |world| world.heard(2, "ann").0 > 50);
    publish(&mut world, 3, "cem", VP9);
    world.until("ben hears cem", |world| world.heard(2, "cem").0 > 50);
    world.command(Command::Leave { peer: PeerId(1) });
    world.clients.remove(&1);
    publish(&mut world, 4, "dan", VP8);
    world.until("ben hears dan", |world| world.heard(2, "dan").0 > 50);
    assert_eq!(world.refused(), Vec::<&Event>::new());
}

/// How many tracks have come of somebody.
fn published(world: &World, id: u64) -> usize {
    let of = |event: &&Event| matches!(event, Event::Published { peer, .. } if peer.0 == id);
    world.events.iter().filter(of).count()
}
