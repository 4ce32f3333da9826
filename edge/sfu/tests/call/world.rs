//! A network in memory with a clock moved by hand: one shard, its clients, and the datagrams between them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use sfu::{
    Arrival, Candidate, CandidateKind, Command, Config, Event, Limits, MAX_SESSIONS, Path, PeerId, Reception,
    Role, RoomId, Sfu, Transport, User,
};

use crate::client::{Client, Sound};

/// One way through the network.
pub(crate) const DELAY: Duration = Duration::from_millis(10);
/// What a narrow line holds at most.
const QUEUE: Duration = Duration::from_millis(300);
/// The server's machine, beside those of the clients.
const SERVER: u64 = 0;
/// Steps of the clock: finer than anything that is waited for.
const STEP: Duration = Duration::from_millis(1);

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) sfu: Sfu,
    pub(crate) clients: BTreeMap<u64, Client>,
    pub(crate) events: Vec<Event>,
    /// What the next clients can do, in their order; browsers name the slow one first.
    pub(crate) ciphers: Vec<SrtpProtectionProfile>,
    /// What the next clients do about lost sound.
    pub(crate) sound: Sound,
    /// In thousandths, for each direction.
    pub(crate) loss: u32,
    /// Up to so much later, each datagram by itself: so they overtake each other.
    pub(crate) jitter: Duration,
    /// How long a machine without time for us does nothing at most: everybody's own machine, and the server. It then is awake for
    /// as long, and takes what came meanwhile at once.
    pub(crate) stalls: Duration,
    /// Until when they do nothing; the server is 0. Before that they are awake.
    asleep: BTreeMap<u64, (Instant, Instant)>,
    /// What lines to clients carry, in bits a second, and when they are free again.
    pub(crate) lines: BTreeMap<SocketAddr, (u64, Instant)>,
    /// What the network shows of a client's address behind a NAT.
    translated: BTreeMap<SocketAddr, SocketAddr>,
    random: u64,
    flying: BTreeMap<(Instant, u64), Flying>,
    count: u64,
    /// The one address of ours that leads somewhere, and what we call it.
    reached: (SocketAddr, SocketAddr),
}

enum Flying {
    ToServer(SocketAddr, Vec<u8>),
    ToClient(SocketAddr, Vec<u8>),
    Command(Command),
    Event(u64, Event),
}

/// Our end of the way through a TURN server.
const BEYOND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8)), 9);

pub(crate) fn server() -> SocketAddr {
    ([192, 0, 2, 1], 40_000).into()
}

pub(crate) fn room() -> RoomId {
    RoomId::new("room")
}

pub(crate) fn unix_us(start: Instant, now: Instant) -> i64 {
    1_700_000_000_000_000 + i64::try_from((now - start).as_micros()).unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    /// One whose server is reached at an address of a TURN server, and in no other way.
    pub(crate) fn relayed(address: SocketAddr) -> Self {
        let mut world = Self::with(Some(BEYOND));
        world.relay(address);
        world
    }

    fn with(relay: Option<SocketAddr>) -> Self {
        let now = Instant::now();
        let udp = |address: SocketAddr, local| Candidate {
            address,
            local,
            transport: Transport::Udp,
            kind: CandidateKind::Host,
        };
        let v6: SocketAddr = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 40_000).into();
        let candidates = vec![
            udp(server(), server()),
            udp(([198, 51, 100, 1], 40_000).into(), server()),
            udp(v6, v6),
            Candidate { transport: Transport::Tcp, ..udp(server(), server()) },
        ];
        let config = Config { candidates, relay, limits: Limits::default(), max_sessions: MAX_SESSIONS };
        let sfu = Sfu::new(config, now, Arrival { unix_us: unix_us(now, now) }).unwrap();
        let (clients, events, flying) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self {
            now,
            start: now,
            sfu,
            clients,
            events,
            ciphers: vec![
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            ],
            sound: Sound::Repeated,
            loss: 0,
            jitter: Duration::ZERO,
            stalls: Duration::ZERO,
            asleep: BTreeMap::new(),
            lines: BTreeMap::new(),
            translated: BTreeMap::new(),
            random: 1,
            flying,
            count: 0,
            reached: (server(), server()),
        }
    }

    pub(crate) fn address(id: u64) -> SocketAddr {
        ([10, 0, (id >> 8) as u8, id as u8], 5000 + id as u16).into()
    }

    /// A member who publishes nothing yet.
    pub(crate) fn join(&mut self, id: u64, user: &str) {
        self.join_as(id, user, Role::Member(Reception::Everything));
    }

    pub(crate) fn join_as(&mut self, id: u64, user: &str, role: Role) {
        self.clients.insert(id, Client::new(self.now, Self::address(id), &self.ciphers, self.sound));
        self.command(Command::Join { room: room(), peer: PeerId(id), user: User::new(user), role });
    }

    /// A member who publishes sound and pictures.
    pub(crate) fn join_speaking(&mut self, id: u64, user: &str) {
        self.join(id, user);
        self.attend(id);
    }

    /// The client of a session that has joined begins to publish sound and pictures, or tries to.
    pub(crate) fn attend(&mut self, id: u64) {
        let now = self.now;
        let client = self
            .clients
            .entry(id)
            .or_insert_with(|| Client::new(now, Self::address(id), &self.ciphers, self.sound));
        client.publish(self.now, rtc::rtp_transceiver::rtp_sender::RtpCodecKind::Audio);
        client.publish(self.now, rtc::rtp_transceiver::rtp_sender::RtpCodecKind::Video);
        self.offer(id);
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.sfu.command(self.now, command);
        self.flush();
    }

    /// The client offers; it takes as long as any signaling.
    pub(crate) fn offer(&mut self, id: u64) {
        let sdp = self.clients.get_mut(&id).unwrap().offer(self.now);
        self.fly(Flying::Command(Command::Offer { peer: PeerId(id), sdp, screens: Vec::new() }));
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            self.step();
        }
    }

    /// Runs until it is so, at most 60 s.
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let end = self.now + Duration::from_secs(60);
        while !so(self) {
            assert!(self.now < end, "never: {what}");
            self.now += STEP;
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.now
        {
            let ((_, number), flying) = entry.remove_entry();
            self.land(number, flying);
        }
        if self.wakes_at(SERVER).is_none() {
            if self.sfu.poll_timeout().is_some_and(|at| at <= self.now) {
                self.sfu.timeout(self.now);
            }
            self.flush();
        }
        let mut sent = Vec::new();
        let mut awake: Vec<u64> = self.clients.keys().copied().collect();
        awake.retain(|id| self.wakes_at(*id).is_none());
        for id in awake {
            let client = self.clients.get_mut(&id).unwrap();
            client.run(self.now);
            sent.extend(
                client
                    .outbox
                    .drain(..)
                    .filter(|(to, _)| *to == self.reached.0)
                    .map(|(_, datagram)| (client.address, datagram.to_vec())),
            );
        }
        for (from, datagram) in sent {
            if !self.lost() {
                let from = self.translated.get(&from).copied().unwrap_or(from);
                self.fly(Flying::ToServer(from, datagram));
            }
        }
    }

    /// The TURN server has another address for us from now on; the old one leads nowhere.
    pub(crate) fn relay(&mut self, address: SocketAddr) {
        self.sfu.relayed(Some(address));
        self.reached = (address, BEYOND);
    }

    /// When a machine has time for us again, if it has none now.
    fn wakes_at(&mut self, id: u64) -> Option<Instant> {
        let most = u64::try_from(self.stalls.as_micros()).unwrap();
        if most == 0 {
            return None;
        }
        let (now, shortest) = (self.now, most / 10);
        let (mut from, mut to) = self.asleep.get(&id).copied().unwrap_or((now, now));
        if now >= to {
            let mut within = || Duration::from_micros(shortest + self.chance() % (most - shortest));
            from = now + within();
            to = from + within();
            self.asleep.insert(id, (from, to));
        }
        (now >= from).then_some(to)
    }

    /// From now on the network shows another address of the client, and the old one leads nowhere.
    pub(crate) fn translate(&mut self, id: u64, shown: SocketAddr) {
        self.translated.insert(Self::address(id), shown);
    }

    pub(crate) fn inject(&mut self, from: SocketAddr, datagram: &[u8]) {
        let path = Path { local: self.reached.1, remote: from, transport: Transport::Udp };
        self.sfu.receive(self.now, Arrival { unix_us: unix_us(self.start, self.now) }, path, datagram);
    }

    fn land(&mut self, number: u64, flying: Flying) {
        let machine = match &flying {
            Flying::ToServer(..) | Flying::Command(_) => SERVER,
            Flying::ToClient(to, _) => {
                self.clients.iter().find(|(_, client)| client.address == *to).map_or(SERVER, |(id, _)| *id)
            }
            Flying::Event(id, _) => *id,
        };
        if let Some(at) = self.wakes_at(machine) {
            self.flying.insert((at, number), flying);
            return;
        }
        match flying {
            Flying::ToServer(from, datagram) => self.inject(from, &datagram),
            Flying::ToClient(to, datagram) => {
                let own = self.translated.iter().find(|(_, shown)| **shown == to).map_or(to, |(own, _)| *own);
                if self.translated.contains_key(&to) {
                    return;
                }
                let to = own;
                if let Some(client) = self.clients.values_mut().find(|client| client.address == to) {
                    client.receive(self.now, self.reached.0, &datagram);
                }
            }
            Flying::Command(command) => self.sfu.command(self.now, command),
            Flying::Event(id, event) => self.tell(id, event),
        }
    }

    fn tell(&mut self, id: u64, event: Event) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match event {
            Event::Answer { sdp, .. } => client.on_answer(self.now, sdp),
            Event::Offer { sdp, .. } => {
                if let Some(sdp) = client.on_offer(self.now, sdp) {
                    self.fly(Flying::Command(Command::Answer { peer: PeerId(id), sdp }));
                }
            }
            _ => {}
        }
    }

    pub(crate) fn flush(&mut self) {
        let mut out = Vec::new();
        let reached = self.reached.1;
        self.sfu.flush(self.now, &mut |path, datagram| {
            if path.local == reached {
                out.push((path.remote, datagram.to_vec()));
            }
        });
        for (to, datagram) in out {
            let bytes = datagram.len();
            if !self.lost() && self.squeeze(to, bytes) {
                self.fly(Flying::ToClient(to, datagram));
            }
        }
        while let Some(event) = self.sfu.poll_event() {
            if let Event::Answer { peer, .. } | Event::Offer { peer, .. } = &event {
                self.fly(Flying::Event(peer.0, event.clone()));
            }
            self.events.push(event);
        }
    }

    fn fly(&mut self, flying: Flying) {
        self.count += 1;
        let at = match &flying {
            Flying::ToServer(..) => self.now + DELAY + self.late(),
            Flying::ToClient(to, _) => {
                let free = self.lines.get(to).map_or(self.now, |(_, free)| *free);
                free.max(self.now) + DELAY + self.late()
            }
            Flying::Command(_) | Flying::Event(..) => self.now + DELAY,
        };
        self.flying.insert((at, self.count), flying);
    }

    fn late(&mut self) -> Duration {
        let most = u64::try_from(self.jitter.as_micros()).unwrap();
        if most == 0 { Duration::ZERO } else { Duration::from_micros(self.chance() % most) }
    }

    /// Whether a client's line has room for a datagram in its queue.
    fn squeeze(&mut self, to: SocketAddr, bytes: usize) -> bool {
        let now = self.now;
        let Some((bps, free)) = self.lines.get_mut(&to) else { return true };
        *free = (*free).max(now);
        if *free - now > QUEUE {
            return false;
        }
        // Addresses and ports take 28 bytes.
        *free += Duration::from_micros((bytes as u64 + 28) * 8_000_000 / *bps);
        true
    }

    /// A fixed sequence of chances (xorshift).
    fn lost(&mut self) -> bool {
        self.chance() % 1000 < u64::from(self.loss)
    }

    fn chance(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    pub(crate) fn client(&self, id: u64) -> &Client {
        &self.clients[&id]
    }

    /// How much of it each has heard of the other, in packets: sound and pictures.
    pub(crate) fn heard(&self, id: u64, user: &str) -> (usize, usize) {
        (self.client(id).heard_of(user, "audio").len(), self.client(id).heard_of(user, "video").len())
    }

    pub(crate) fn refused(&self) -> Vec<&Event> {
        self.events.iter().filter(|event| matches!(event, Event::Refused { .. })).collect()
    }
}
