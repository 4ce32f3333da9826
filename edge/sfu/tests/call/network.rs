//! Calls over bad networks: loss, reordering, jitter, and lines that become narrow and wide again. The clock is moved by hand and
//! chances are a fixed sequence, so the figures hardly differ from run to run; `--no-capture` shows them.

use std::time::{Duration, Instant};

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use sfu::{Command, Event, LegReport, PeerId, PeerReport};

use crate::client::{Client, Received, Sound};
use crate::tap::Recorder;
use crate::world::World;
use crate::{SECOND, both_hear};

/// A picture that comes this long after the one before was a freeze: five pictures.
const FREEZE: Duration = Duration::from_millis(200);

/// What a viewer saw.
#[derive(Debug, Default)]
struct Seen {
    pictures: usize,
    /// Pictures that could not be decoded, for want of a packet of theirs or of an earlier one.
    broken: usize,
    /// Pictures that came after a keyframe that was sent later.
    overtaken: usize,
    freezes: usize,
    longest: Duration,
}

/// One picture as it came.
struct Picture {
    came: Instant,
    keyframe: bool,
    /// All of it came, and it follows the one before without a hole.
    inside: bool,
    joined: bool,
}

/// The pictures of a track in their order, from the first that can be decoded.
fn pictures(received: &[Received]) -> Vec<Picture> {
    let mut packets: Vec<(u64, Received)> = Vec::new();
    let mut newest = 1_u64 << 32;
    for packet in received {
        let ahead = i64::from(packet.sequence.wrapping_sub(newest as u16) as i16);
        let extended = newest.checked_add_signed(ahead).unwrap();
        newest = newest.max(extended);
        packets.push((extended, *packet));
    }
    packets.sort_by_key(|(extended, packet)| (*extended, packet.at));
    packets.dedup_by_key(|(extended, _)| *extended);
    let mut last = None;
    let picture = |packets: &[(u64, Received)]| {
        let joined = last.is_none_or(|last| packets[0].0 == last + 1);
        last = packets.last().map(|it| it.0);
        Picture {
            came: packets.iter().map(|it| it.1.at).max().unwrap(),
            keyframe: packets[0].1.keyframe,
            inside: packets.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1),
            joined,
        }
    };
    let pictures = packets.chunk_by(|one, other| one.1.timestamp == other.1.timestamp).map(picture);
    pictures.skip_while(|picture| !picture.keyframe).collect()
}

/// Plays what came, in order: a picture is shown when it and all since the last keyframe have come, unless a later keyframe was
/// there sooner.
fn play(received: &[Received]) -> Seen {
    let pictures = pictures(received);
    let (mut seen, mut shown, mut whole, mut ready) = (Seen::default(), None::<Instant>, false, None);
    for (at, picture) in pictures.iter().enumerate() {
        whole = picture.inside && (picture.keyframe || whole && picture.joined);
        ready = if picture.keyframe { Some(picture.came) } else { ready.max(Some(picture.came)) };
        let overtaken =
            pictures[at + 1..].iter().any(|it| it.keyframe && it.inside && Some(it.came) <= ready);
        if !whole || overtaken {
            seen.broken += usize::from(!whole);
            seen.overtaken += usize::from(whole);
            continue;
        }
        let now = ready.max(shown).unwrap();
        let waited = shown.map_or(Duration::ZERO, |shown| now - shown);
        shown = Some(now);
        seen.pictures += 1;
        seen.freezes += usize::from(waited > FREEZE);
        seen.longest = seen.longest.max(waited);
    }
    seen
}

fn reports(world: &mut World) -> Vec<PeerReport> {
    world.command(Command::Report { room: None, token: 9 });
    let Some(Event::Report { peers, .. }) = world.events.pop() else { panic!("no report") };
    peers
}

fn report(world: &mut World, id: u64) -> PeerReport {
    reports(world).into_iter().find(|peer| peer.peer == PeerId(id)).unwrap()
}

fn picture(report: &PeerReport) -> &LegReport {
    report.received.iter().find(|leg| leg.medium == sfu::Medium::Video).unwrap()
}

fn call() -> World {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    for id in [1, 2] {
        world.clients.get_mut(&id).unwrap().fill();
    }
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    world
}

/// Twenty bad seconds and five good ones.
fn endure(name: &str, loss: u32, jitter: Duration) -> (Seen, f64) {
    let mut world = call();
    let before = world.sfu.occupancy();
    let (audio, video) = world.heard(2, "ann");
    (world.loss, world.jitter) = (loss, jitter);
    world.run(20 * SECOND);
    let figures = report(&mut world, 2);
    (world.loss, world.jitter) = (0, Duration::ZERO);
    world.run(5 * SECOND);
    assert_eq!(world.sfu.occupancy(), before, "nothing grows");
    let seen = play(&world.client(2).heard_of("ann", "video")[video..]);
    let mut sounds: Vec<u32> =
        world.client(2).heard_of("ann", "audio")[audio..].iter().map(|it| it.number).collect();
    sounds.sort_unstable();
    sounds.dedup();
    let heard = sounds.len() as f64 / f64::from(sounds[sounds.len() - 1] - sounds[0] + 1);
    println!(
        "{name}: {} pictures, {} broken, {} overtaken, {} freezes, longest {} ms; {:.1} % of sound; estimate {} kbit/s, told loss {:.3}, jitter {} ms",
        seen.pictures,
        seen.broken,
        seen.overtaken,
        seen.freezes,
        seen.longest.as_millis(),
        heard * 100.0,
        figures.estimate_bps / 1_000,
        picture(&figures).loss,
        picture(&figures).jitter.as_millis(),
    );
    (seen, heard)
}

#[test]
fn pictures_survive_one_percent_of_loss() {
    let (seen, heard) = endure("1 % each way", 10, Duration::ZERO);
    assert!(
        seen.pictures > 600 && seen.broken == 0 && seen.longest < SECOND * 2 / 5 && heard > 0.96,
        "{seen:?}"
    );
}

#[test]
fn pictures_survive_five_percent_of_loss() {
    let (seen, heard) = endure("5 % each way", 50, Duration::ZERO);
    assert!(seen.pictures > 580 && seen.broken == 0 && seen.longest < SECOND / 2 && heard > 0.85, "{seen:?}");
}

#[test]
fn pictures_survive_ten_percent_of_loss() {
    let (seen, heard) = endure("10 % each way", 100, Duration::ZERO);
    assert!(
        seen.pictures > 500 && seen.broken == 0 && seen.longest < SECOND * 3 / 5 && heard > 0.75,
        "{seen:?}"
    );
}

/// What became of twenty seconds of ann's sound, as shares of what she sent.
#[derive(Debug)]
struct Sounds {
    recorded: f64,
    heard: f64,
    /// How often ann was asked for sound again, and for pictures.
    asked: [u32; 2],
    told_jitter: Duration,
}

fn sounds(name: &str, sound: Sound, loss: u32) -> Sounds {
    let mut world = World::new();
    world.sound = sound;
    let recorder = Recorder::default();
    world.command(Command::Record { room: crate::world::room(), tap: Some(Box::new(recorder.clone())) });
    world.join_speaking(1, "ann");
    world.join_speaking(2, "ben");
    world.until("both hear", |world| both_hear(world, (1, "ann"), (2, "ben"), 50));
    let numbers = |world: &World| {
        let heard = world.client(2).heard_of("ann", "audio").iter().map(|it| it.number).collect::<Vec<u32>>();
        let recorded = recorder.0.lock().unwrap().numbers[&("ann".to_owned(), sfu::Medium::Audio)].clone();
        [recorded, heard]
    };
    let first = numbers(&world).map(|it| it[it.len() - 1]).into_iter().max().unwrap();
    world.loss = loss;
    world.run(20 * SECOND);
    let published = report(&mut world, 1).published;
    world.loss = 0;
    world.run(2 * SECOND);
    let [mut recorded, mut heard] = numbers(&world);
    for numbers in [&mut recorded, &mut heard] {
        numbers.retain(|number| (first..first + 1_000).contains(number));
        numbers.sort_unstable();
    }
    assert!(recorded.is_sorted_by(|one, other| one < other), "none twice");
    heard.dedup();
    let [recorded, heard] = [recorded, heard].map(|numbers| numbers.len() as f64 / 1_000.0);
    let told_jitter = published.iter().find(|it| it.medium == sfu::Medium::Audio).unwrap().jitter;
    let asked = [RtpCodecKind::Audio, RtpCodecKind::Video].map(|kind| world.client(1).asked_for(kind));
    let sounds = Sounds { recorded, heard, asked, told_jitter };
    println!("{name}: {sounds:?}");
    sounds
}

#[test]
fn lost_sound_is_sent_again_to_the_recording_and_to_those_who_hear() {
    for (loss, recorded, heard) in [(10, 0.999, 0.999), (50, 0.999, 0.995), (100, 0.998, 0.99)] {
        let sounds = sounds(&format!("{} % each way", loss / 10), Sound::Repeated, loss);
        assert!(sounds.recorded >= recorded && sounds.heard >= heard, "{sounds:?}");
        assert!(sounds.asked[0] > 0, "{sounds:?}");
        assert!(sounds.told_jitter < Duration::from_millis(2), "what is sent again is no jitter: {sounds:?}");
    }
}

#[test]
fn a_client_that_sends_sound_once_is_not_asked_for_more() {
    let sounds = sounds("5 % each way, once", Sound::SentOnce, 50);
    assert!(sounds.recorded > 0.92 && sounds.recorded < 0.98 && sounds.heard > 0.85, "{sounds:?}");
    assert!(sounds.asked[0] == 0 && sounds.asked[1] > 0, "{sounds:?}");
}

#[test]
fn jitter_and_reordering_freeze_no_picture() {
    let (seen, heard) = endure("100 ms of jitter", 0, Duration::from_millis(100));
    assert!(seen.broken == 0 && seen.freezes == 0 && heard > 0.999, "{seen:?}");
}

#[test]
fn a_line_that_narrows_gets_a_smaller_layer_and_the_larger_one_back() {
    let mut world = layered();
    let before = world.sfu.occupancy();
    let wide = settle(&mut world, None, "f");
    let narrow = settle(&mut world, Some(300_000), "q");
    let sounds = world.heard(1, "ben").0;
    world.run(10 * SECOND);
    let sounds = world.heard(1, "ben").0 - sounds;
    assert!(sounds >= 480, "{sounds} of 500: sound comes first");
    let middle = settle(&mut world, Some(1_000_000), "h");
    world.run(10 * SECOND);
    assert_eq!(picture(&report(&mut world, 1)).rid, "h");
    let again = settle(&mut world, None, "f");
    let seen = play(world.client(1).heard_of("ben", "video"));
    println!(
        "to f in {wide:?}; 300 kbit/s: q in {narrow:?}; 1 Mbit/s: h in {middle:?}; wide: f in {again:?}; {seen:?}"
    );
    assert_eq!(world.sfu.occupancy(), before, "nothing grows");
}

/// A call in which ann sees and hears ben, in three layers.
fn layered() -> World {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    show(&mut world, Client::publish_layers);
    world
}

/// Ben comes, speaks and shows something, until ann sees it.
fn show(world: &mut World, publish: fn(&mut Client, Instant)) {
    world.join(2, "ben");
    let now = world.now;
    let ben = world.clients.get_mut(&2).unwrap();
    ben.publish(now, RtpCodecKind::Audio);
    publish(ben, now);
    ben.fill();
    world.offer(2);
    world.until("pictures are seen", |world| world.heard(1, "ben").1 > 50);
}

/// Gives ann a line and waits until this layer flows and goes on to.
fn settle(world: &mut World, bps: Option<u64>, rid: &str) -> Duration {
    world.lines.clear();
    world.lines.extend(bps.map(|bps| (World::address(1), (bps, world.now))));
    let (start, mut since) = (world.now, None);
    while world.now < start + 60 * SECOND {
        world.run(SECOND / 4);
        let flows = picture(&report(world, 1)).rid == rid;
        since = if flows { since.or(Some(world.now)) } else { None };
        if since.is_some_and(|since| world.now - since >= 4 * SECOND) {
            break;
        }
    }
    let figures = report(world, 1);
    let since = since.unwrap_or_else(|| panic!("{rid} never came at {bps:?}: {figures:?}"));
    since - start
}

#[test]
fn a_picture_that_fits_no_line_gives_way_to_sound_and_comes_back() {
    let mut world = call();
    world.lines.insert(World::address(2), (150_000, world.now));
    world.run(20 * SECOND);
    let (before, pictures) = world.heard(2, "ann");
    world.run(20 * SECOND);
    let (after, more) = world.heard(2, "ann");
    println!("150 kbit/s: {} of 1000 packets of sound, {} of pictures", after - before, more - pictures);
    assert!(after - before > 800, "{}", after - before);
    world.lines.clear();
    let start = world.now;
    world.until("pictures flow again", |world| world.heard(2, "ann").1 > more + 300);
    println!("pictures came back within {:?}", world.now - start);
}

/// The longest time without a picture of ben at ann, while every machine is overloaded for half a minute.
fn overloaded(name: &str, publish: fn(&mut Client, Instant), stalls: Duration) -> Duration {
    let mut world = World::new();
    world.join_speaking(1, "ann");
    show(&mut world, publish);
    let begun = world.heard(1, "ben").1;
    world.stalls = stalls;
    let mut least = u64::MAX;
    for _ in 0..30 {
        world.run(SECOND);
        least = least.min(report(&mut world, 1).estimate_bps);
    }
    world.stalls = Duration::ZERO;
    world.run(SECOND);
    let received = &world.client(1).heard_of("ben", "video")[begun..];
    let longest = received.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap();
    let seen = play(received);
    println!("{name}: {longest:?} without a packet at most, estimate {least} at least; {seen:?}");
    longest
}

#[test]
fn machines_without_time_cost_no_picture_for_longer_than_they_take() {
    for ms in [50, 100, 200, 400] {
        let stalls = Duration::from_millis(ms);
        let layers = overloaded(&format!("layers, stalls of {ms} ms"), Client::publish_layers, stalls);
        let video = |ben: &mut Client, now: Instant| ben.publish(now, RtpCodecKind::Video);
        let one = overloaded(&format!("one size, stalls of {ms} ms"), video, stalls);
        assert!(layers.max(one) <= 2 * stalls + SECOND / 10, "{layers:?} {one:?}");
    }
}

/// A call in which ben shows one size of pictures and nobody speaks: when they rest, nothing at all is sent to ann.
fn silent_call() -> World {
    let mut world = World::new();
    world.join(1, "ann");
    world.join(2, "ben");
    let now = world.now;
    let ben = world.clients.get_mut(&2).unwrap();
    ben.publish(now, RtpCodecKind::Video);
    ben.fill();
    world.offer(2);
    world
}

/// Waits until ann sees ben again for a while.
fn seen_again(world: &mut World, name: &str) -> Duration {
    let (start, seen) = (world.now, world.heard(1, "ben").1);
    world.until("pictures flow", |world| world.heard(1, "ben").1 > seen + 300);
    println!("{name}: pictures again within {:?}", world.now - start);
    world.now - start
}

#[test]
fn pictures_alone_come_back_when_a_line_carries_them_again() {
    let mut world = silent_call();
    world.until("pictures are seen", |world| world.heard(1, "ben").1 > 50);
    world.lines.insert(World::address(1), (100_000, world.now));
    world.run(20 * SECOND);
    world.lines.clear();
    assert!(seen_again(&mut world, "after 100 kbit/s") < 40 * SECOND);
}

#[test]
fn machines_that_stand_still_at_the_beginning_hold_back_no_picture_for_good() {
    for seconds in [1, 2, 3] {
        let mut world = silent_call();
        world.stalls = seconds * SECOND;
        world.run(20 * SECOND);
        world.stalls = Duration::ZERO;
        assert!(seen_again(&mut world, &format!("after stalls of {seconds} s")) < 12 * SECOND);
    }
}

#[test]
fn who_sends_more_than_allowed_is_cut_to_it_and_takes_nothing_from_others() {
    let mut world = call();
    let recorder = Recorder::default();
    world.command(Command::Record { room: crate::world::room(), tap: Some(Box::new(recorder.clone())) });
    world.clients.get_mut(&1).unwrap().flood();
    world.run(10 * SECOND);
    let (sound, pictures) = world.heard(2, "ann");
    let recorded = |medium| recorder.0.lock().unwrap().numbers[&("ann".to_owned(), medium)].len();
    let before = recorded(sfu::Medium::Video);
    world.run(10 * SECOND);
    let rate = |packets: usize| packets * 1_130 * 8 / 10;
    let (sound, pictures) = (world.heard(2, "ann").0 - sound, world.heard(2, "ann").1 - pictures);
    let kept = recorded(sfu::Medium::Video) - before;
    let ann = report(&mut world, 1);
    let over = ann.published.iter().map(|track| (track.medium, track.over_limit)).collect::<Vec<_>>();
    println!("of 9 Mbit/s {} pass, {} are recorded; {over:?} over", rate(pictures), rate(kept));
    assert!(rate(pictures) < 3_400_000 && rate(kept) < 3_400_000, "{pictures} {kept}");
    assert!(rate(kept) > 2_800_000, "no less than it may: {kept}");
    assert!(over.contains(&(sfu::Medium::Audio, 0)) && over.iter().any(|(_, packets)| *packets > 5_000));
    assert!(sound >= 495, "its sound is within its limit: {sound}");
    let told =
        world.events.iter().filter(|event| matches!(event, Event::OverLimit { .. })).collect::<Vec<_>>();
    assert_eq!(told, [&Event::OverLimit { peer: PeerId(1), medium: sfu::Medium::Video }]);
    let loss = ann.published.iter().find(|track| track.medium == sfu::Medium::Video).unwrap().loss;
    assert!(loss > 0.5, "what is thrown away counts as lost: {loss}");
}

#[test]
fn who_keeps_to_what_is_allowed_loses_nothing_of_it_on_a_bad_line() {
    let mut world = layered();
    (world.loss, world.jitter) = (100, Duration::from_millis(100));
    world.run(20 * SECOND);
    let published = report(&mut world, 2).published;
    assert_eq!(published.len(), 4, "sound and three layers");
    assert!(published.iter().all(|track| track.over_limit == 0), "{published:?}");
}
