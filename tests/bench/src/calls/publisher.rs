//! The one who sends: a thread that keeps its rhythm to some 50 µs and says how late it was.

use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver as Orders, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use rtc::rtp_transceiver::RTCRtpSenderId;
use shared::clock::{Clock, SystemClock};
use tokio::sync::oneshot;

use super::client::Client;
use super::pictures::Pictures;
use super::rate::Rate;
use super::receive::Receiver;

/// The longest that an order waits to be seen.
const WAIT_MAX: Duration = Duration::from_millis(5);
/// The kernel's slack for our timer; its default is 50 µs.
const TIMER_SLACK_NS: u64 = 1_000;

/// What to send from now on.
struct Order {
    rate: Rate,
    /// Then nothing; `None`: until there is another order.
    packets: Option<u64>,
    done: Option<oneshot::Sender<Sent>>,
}

/// How an order went.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) packets: u64,
    /// How late each departure was, ascending.
    pub(super) late: Vec<Duration>,
}

/// A publisher's thread; dropping this ends it.
pub(super) struct Publisher {
    orders: Option<Sender<Order>>,
    connected: Option<oneshot::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Starts the thread of a connection whose descriptions are exchanged.
    pub(super) fn start(client: Client, sender: RTCRtpSenderId, ssrc: u32) -> anyhow::Result<Self> {
        let (orders, ordered) = channel();
        let (told, connected) = oneshot::channel();
        let camera = Camera {
            client,
            sender,
            pictures: Pictures::new(ssrc),
            connected: Some(told),
            order: None,
            next: Instant::now(),
            sent: 0,
            late: Vec::new(),
        };
        let thread =
            std::thread::Builder::new().name("publisher".into()).spawn(move || camera.run(&ordered))?;
        Ok(Self { orders: Some(orders), connected: Some(connected), thread: Some(thread) })
    }

    /// Waits until its handshakes are done.
    pub(super) async fn connected(&mut self) -> anyhow::Result<()> {
        match self.connected.take() {
            Some(connected) => connected.await.context("the publisher has ended"),
            None => Ok(()),
        }
    }

    /// Sends at this rate until there is another order.
    pub(super) fn flow(&self, rate: Rate) {
        self.order(Order { rate, packets: None, done: None });
    }

    /// Sends so many packets, and then nothing; returns when they have left.
    pub(super) async fn send(&self, rate: Rate, packets: u64) -> anyhow::Result<Sent> {
        let (done, sent) = oneshot::channel();
        self.order(Order { rate, packets: Some(packets), done: Some(done) });
        let mut sent = sent.await.context("the publisher has ended")?;
        sent.late.sort_unstable();
        Ok(sent)
    }

    fn order(&self, order: Order) {
        // A publisher that has ended is noticed by whoever waits for its packets.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.orders.take();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What the thread owns.
struct Camera {
    client: Client,
    sender: RTCRtpSenderId,
    pictures: Pictures,
    connected: Option<oneshot::Sender<()>>,
    order: Option<Order>,
    next: Instant,
    sent: u64,
    late: Vec<Duration>,
}

impl Camera {
    fn run(mut self, orders: &Orders<Order>) {
        // Without it departures are later, and tell so.
        let _ = nix::sys::prctl::set_timerslack(TIMER_SLACK_NS);
        let mut receiver = Receiver::new();
        loop {
            match orders.try_recv() {
                Ok(order) => self.begin(order),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            self.depart();
            self.client.run(Instant::now());
            if self.client.is_connected()
                && let Some(connected) = self.connected.take()
            {
                let _ = connected.send(());
            }
            if self.wait() {
                let (now, client) = (Instant::now(), &mut self.client);
                let drained = receiver.drain(&client.socket(), |datagram| {
                    client.receive(now, datagram.from, datagram.bytes);
                });
                if drained.is_err() {
                    return;
                }
            }
        }
    }

    fn begin(&mut self, order: Order) {
        (self.next, self.sent) = (Instant::now(), 0);
        self.late.clear();
        self.order = Some(order);
    }

    /// Sends what is due.
    fn depart(&mut self) {
        while let Some(order) = &self.order {
            let now = Instant::now();
            if self.next > now {
                return;
            }
            let rate = order.rate;
            self.late.push(now - self.next);
            self.next += rate.every();
            for _ in 0..rate.together() {
                let requests = &self.client.requests;
                let at_us = SystemClock.now().timestamp_micros();
                let packet = self.pictures.next(at_us, rate.packets_per_second, || requests.take());
                self.client.send(now, self.sender, packet);
            }
            self.client.run(now);
            self.sent += u64::from(rate.together());
            self.end_order();
        }
    }

    fn end_order(&mut self) {
        let Some(order) = self.order.take_if(|order| order.packets.is_some_and(|most| self.sent >= most))
        else {
            return;
        };
        let sent = Sent { packets: self.sent, late: std::mem::take(&mut self.late) };
        let _ = order.done.map(|done| done.send(sent));
    }

    /// Waits for a datagram, a departure or a timer; returns whether there is a datagram.
    fn wait(&self) -> bool {
        let now = Instant::now();
        let due = if self.order.is_some() { self.next.min(self.client.wake()) } else { self.client.wake() };
        let timeout = TimeSpec::from_duration(due.saturating_duration_since(now).min(WAIT_MAX));
        let socket = self.client.socket();
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        ppoll(&mut polled, Some(timeout), None).is_ok_and(|ready| ready > 0)
    }
}
