//! All who receive, on one thread. It looks at their sockets a thousand times a second instead of being woken by each packet:
//! the server then pays for no wakeups, and the time of arrival is the kernel's.

use std::sync::mpsc::{Receiver as Orders, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use shared::clock::{Clock, SystemClock};
use tokio::sync::oneshot;

use super::receive::{Receiver, overflown};
use super::subscriber::{Counted, Subscriber};

/// Between two looks at all sockets.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Looks between two at timers, of which the shortest that matters is feedback's.
const LOOKS_A_TIMER: u32 = 10;
/// Media of which none has come for so long are not on their way any more.
const REST: Duration = Duration::from_millis(300);
/// Sockets of one look; those beyond have their turn at the next.
const READY_MAX: usize = 1_024;

enum Order {
    Add(Box<Subscriber>),
    Count(oneshot::Sender<Counted>),
    Rest(oneshot::Sender<()>),
}

/// The thread; dropping this ends it.
pub(super) struct Subscribers {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    ports: Vec<u16>,
}

impl Subscribers {
    pub(super) fn start() -> anyhow::Result<Self> {
        let (orders, ordered) = channel();
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let (list, counted) = (Vec::new(), Counted::default());
        let audience = Audience { epoll, list, counted, media_at: Instant::now(), resting: None };
        let thread =
            std::thread::Builder::new().name("subscribers".into()).spawn(move || audience.run(&ordered))?;
        Ok(Self { orders: Some(orders), thread: Some(thread), ports: Vec::new() })
    }

    /// Lets one more receive.
    pub(super) fn add(&mut self, subscriber: Subscriber) {
        self.ports.push(subscriber.port());
        self.order(Order::Add(Box::new(subscriber)));
    }

    /// What has come since the last call.
    pub(super) async fn count(&self) -> anyhow::Result<Counted> {
        let (told, counted) = oneshot::channel();
        self.order(Order::Count(told));
        let mut counted = counted.await.context("the subscribers' thread has ended")?;
        counted.latencies.sort_unstable();
        Ok(counted)
    }

    /// Waits until media come no more, once nobody sends.
    pub(super) async fn rest(&self) -> anyhow::Result<()> {
        let (told, resting) = oneshot::channel();
        self.order(Order::Rest(told));
        resting.await.context("the subscribers' thread has ended")
    }

    /// How many datagrams came too fast for this program.
    pub(super) fn overflown(&self) -> anyhow::Result<u64> {
        Ok(overflown(&self.ports)?)
    }

    fn order(&self, order: Order) {
        // A thread that has ended is noticed by whoever waits for its counts.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.orders.take();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Audience {
    epoll: Epoll,
    list: Vec<Subscriber>,
    counted: Counted,
    /// When media came last.
    media_at: Instant,
    resting: Option<oneshot::Sender<()>>,
}

impl Audience {
    fn run(mut self, orders: &Orders<Order>) -> anyhow::Result<()> {
        let mut receiver = Receiver::new();
        let mut ready = vec![EpollEvent::empty(); READY_MAX];
        for look in 0_u32.. {
            loop {
                match orders.try_recv() {
                    Ok(Order::Add(subscriber)) => self.add(*subscriber)?,
                    Ok(Order::Count(told)) => {
                        let _ = told.send(std::mem::take(&mut self.counted));
                    }
                    Ok(Order::Rest(told)) => (self.media_at, self.resting) = (Instant::now(), Some(told)),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            let count = self.epoll.wait(&mut ready, EpollTimeout::ZERO)?;
            for event in &ready[..count] {
                self.receive(usize::try_from(event.data())?, &mut receiver)?;
            }
            if look.is_multiple_of(LOOKS_A_TIMER) {
                let now = Instant::now();
                if now - self.media_at >= REST {
                    let _ = self.resting.take().map(|told| told.send(()));
                }
                self.list.iter_mut().for_each(|subscriber| subscriber.run(now));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn add(&mut self, subscriber: Subscriber) -> anyhow::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, self.list.len() as u64);
        self.epoll.add(subscriber.socket(), event)?;
        self.list.push(subscriber);
        Ok(())
    }

    fn receive(&mut self, number: usize, receiver: &mut Receiver) -> anyhow::Result<()> {
        let subscriber = &mut self.list[number];
        let (now, now_us) = (Instant::now(), SystemClock.now().timestamp_micros());
        let before = self.counted.media;
        receiver.drain(&subscriber.socket(), |datagram| {
            let age = Duration::from_micros(u64::try_from(now_us - datagram.at_us).unwrap_or_default());
            subscriber.take(now, age, &datagram, &mut self.counted);
        })?;
        if self.counted.media > before {
            self.media_at = now;
        }
        // Handshakes wait for nobody.
        subscriber.run(now);
        Ok(())
    }
}
