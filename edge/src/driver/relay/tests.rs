//! The way through a real TURN server (coturn). Time is moved by hand; answers are waited for.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use prometheus::Registry;
use shared::clock::SystemClock;

use super::super::sys;
use super::*;
use crate::ice::IceSettings;
use shared::env::Env;
use std::sync::Arc;

/// A check as ICE begins with, and media.
const CHECK: &[u8] = &[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const MEDIA: &[u8] = &[0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7];

/// A datagram, with where from.
type Came<'a> = (SocketAddr, &'a [u8]);

/// coturn on this machine; ended with this.
struct Coturn(Child);

impl Coturn {
    #[expect(clippy::disallowed_methods, reason = "a server that a test talks to")]
    fn start(folder: &Path, port: u16, more: &[&str]) -> Self {
        let file = |name: &str| folder.join(name).display().to_string();
        let mut command = Command::new("turnserver");
        command
            .args(["-n", "--log-file=stdout", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1"])
            .args(["--allow-loopback-peers", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp"])
            .args(["--use-auth-secret", "--static-auth-secret=north", "--realm=callreel.test"])
            .args([format!("--listening-port={port}"), format!("--pidfile={}", file("pid"))])
            .arg(format!("--userdb={}", file("db")))
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("coturn is installed (turnserver)");
        let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = log.by_ref().map_while(Result::ok).any(|line| line.contains("DB connection success"));
        assert!(ready, "coturn has not started");
        std::thread::spawn(move || log.for_each(drop));
        Self(child)
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn relay(port: u16, secret: &str) -> (Relay, Registry) {
    let url = format!("turn:127.0.0.1:{port}");
    let env = [("WEBRTC_TURN_SERVER_URL", url.as_str()), ("WEBRTC_TURN_SECRET", secret)];
    let turn = IceSettings::from_env(&Env::from_pairs(env)).unwrap().own_turn().unwrap();
    let server = watch::channel(Some(SocketAddr::from(([127, 0, 0, 1], port)))).1;
    let registry = Registry::new();
    let metrics = Metrics::register(&registry).unwrap();
    (Relay::new(turn, server, Arc::new(SystemClock), metrics), registry)
}

/// Turns of a media thread until something comes or the address changes; the clock stands meanwhile at `now` plus what passes.
fn turn(relay: &mut Relay, ahead: Duration, done: &mut dyn FnMut(Option<Came<'_>>, &mut Relay) -> bool) {
    loop {
        let now = Instant::now() + ahead;
        let mut over = false;
        if let Some(fd) = relay.as_fd() {
            let due = relay.poll_timeout().map(|due| due.saturating_duration_since(now));
            sys::wait(&[fd], due).unwrap();
            let Standing::Busy(busy) = &relay.state else { unreachable!() };
            let mut received = busy.port.received();
            let mut came = Vec::new();
            relay.receive(now, &mut received, &mut |from, bytes| came.push((from, bytes.to_vec())));
            for (from, bytes) in came {
                over |= done(Some((from, &bytes)), relay);
            }
        }
        relay.flush(now);
        if over || done(None, relay) {
            return;
        }
    }
}

/// The address that the server gives, or `None` when it takes one away.
fn changed(relay: &mut Relay, ahead: Duration) -> Option<SocketAddr> {
    let mut address = None;
    turn(relay, ahead, &mut |_, relay| match relay.change() {
        Some(change) => {
            address = change;
            true
        }
        None => false,
    });
    address
}

/// Sends until it has come: what the server does not let through yet is dropped.
fn reaches(relay: &mut Relay, client: &UdpSocket, datagram: &[u8]) {
    client.set_nonblocking(true).unwrap();
    let (to, mut bytes) = (client.local_addr().unwrap(), [0; 2_048]);
    loop {
        relay.push(Instant::now(), to, datagram);
        relay.flush(Instant::now());
        let fd = relay.as_fd().unwrap();
        sys::wait(&[fd, client.as_fd()], None).unwrap();
        if let Ok((len, from)) = client.recv_from(&mut bytes) {
            assert_eq!((&bytes[..len], Some(from)), (datagram, relay.told));
            return;
        }
        let Standing::Busy(busy) = &relay.state else { panic!("the allocation has ended") };
        relay.receive(Instant::now(), &mut busy.port.received(), &mut |_, _| {});
    }
}

fn metric(registry: &Registry, name: &str) -> f64 {
    let family = registry.gather().into_iter().find(|family| family.name() == name).unwrap();
    let of = |metric: &prometheus::proto::Metric| {
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    };
    family.get_metric().iter().map(of).sum()
}

#[test]
fn checks_and_media_cross_in_both_directions() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _coturn = Coturn::start(folder.path(), port, &[]);
    let (mut relay, registry) = relay(port, "north");
    let address = changed(&mut relay, Duration::ZERO).unwrap();
    assert_eq!(metric(&registry, "callreel_media_relays"), 1.0);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    reaches(&mut relay, &client, CHECK);
    for datagram in [CHECK, MEDIA] {
        // Media go in indications first, and on a channel when there is one.
        (0..3).for_each(|_| reaches(&mut relay, &client, datagram));
        client.send_to(datagram, address).unwrap();
        turn(&mut relay, Duration::ZERO, &mut |came, _| {
            came.is_some_and(|(from, bytes)| {
                assert_eq!((from, bytes), (client.local_addr().unwrap(), datagram));
                true
            })
        });
    }
    assert!(metric(&registry, "callreel_media_relayed_datagrams_total") >= 8.0);
    let Standing::Busy(busy) = &mut relay.state else { panic!("the allocation has ended") };
    let mut parts = 0;
    busy.allocation.send(Instant::now(), client.local_addr().unwrap(), MEDIA, &mut |sent| parts = sent.len());
    assert_eq!(parts, 2, "four bytes and the media: a channel");
}

#[test]
fn a_server_that_has_been_restarted_is_asked_anew() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let coturn = Coturn::start(folder.path(), port, &[]);
    let (mut relay, registry) = relay(port, "north");
    changed(&mut relay, Duration::ZERO).unwrap();
    drop(coturn);
    let _coturn = Coturn::start(folder.path(), port, &[]);
    // The next refresh tells.
    let ahead = Duration::from_secs(16);
    assert_eq!(changed(&mut relay, ahead), None);
    assert!(changed(&mut relay, ahead).is_some());
    assert_eq!(metric(&registry, "callreel_media_relays_ended_total"), 1.0);
    assert_eq!(metric(&registry, "callreel_media_relays"), 1.0);
}

#[test]
fn an_edge_that_died_does_not_stand_in_its_own_way() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _coturn = Coturn::start(folder.path(), port, &[]);
    let addresses = [(); 2].map(|()| changed(&mut relay(port, "north").0, Duration::ZERO).unwrap());
    assert_ne!(addresses[0], addresses[1]);
}

#[test]
fn wrong_credentials_are_told_and_tried_again_later() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _coturn = Coturn::start(folder.path(), port, &[]);
    let (mut relay, registry) = relay(port, "south");
    turn(&mut relay, Duration::ZERO, &mut |_, relay| relay.complained.is_some());
    let Some(Reason::Refused(why)) = &relay.complained else { panic!("{:?}", relay.complained) };
    assert!(why.starts_with("401"), "{why}");
    assert!(relay.as_fd().is_none() && relay.poll_timeout().is_some());
    assert_eq!(metric(&registry, "callreel_media_relays_ended_total"), 1.0);
}

#[test]
fn a_server_without_room_for_us_is_left_alone_for_a_while() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _coturn = Coturn::start(folder.path(), port, &["--total-quota=1"]);
    let (mut first, _) = relay(port, "north");
    changed(&mut first, Duration::ZERO).unwrap();
    let (mut second, _) = relay(port, "north");
    turn(&mut second, Duration::ZERO, &mut |_, relay| relay.complained.is_some());
    let Some(Reason::Refused(why)) = &second.complained else { panic!("{:?}", second.complained) };
    assert!(why.starts_with("486"), "{why}");
    first.release(Instant::now());
}
