//! What operators see of the media threads. No label names a call or a person.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::relay::Reason;

/// The metrics of all media threads.
#[derive(Clone)]
pub(super) struct Metrics {
    /// Datagrams that came.
    pub(super) received: IntCounter,
    /// Datagrams of these that no session could read.
    pub(super) refused: IntCounter,
    /// Datagrams of these that were more than their sender may send.
    pub(super) over_limit: IntCounter,
    /// Bytes of them.
    pub(super) received_bytes: IntCounter,
    /// Datagrams that the kernel took.
    pub(super) sent: IntCounter,
    /// Datagrams that it did not take.
    pub(super) dropped: IntCounter,
    /// Bytes of datagrams on their way out, those included that are dropped there.
    pub(super) sent_bytes: IntCounter,
    /// Sessions that are connected or connecting.
    pub(super) people: IntGauge,
    /// Addresses that we have at a TURN server.
    pub(super) relays: IntGauge,
    /// Datagrams of clients that came through it.
    pub(super) relayed_in: IntCounter,
    /// Datagrams to clients that went through it.
    pub(super) relayed_out: IntCounter,
    relays_ended: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let sent = IntCounterVec::new(
            Opts::new(
                "callreel_media_datagrams_sent_total",
                "Datagrams of media sent, by what became of them",
            ),
            &["result"],
        )?;
        let relayed = IntCounterVec::new(
            Opts::new("callreel_media_relayed_datagrams_total", "Datagrams of media through the TURN server"),
            &["direction"],
        )?;
        let metrics = Self {
            received: IntCounter::new(
                "callreel_media_datagrams_received_total",
                "Datagrams of media received",
            )?,
            refused: IntCounter::new(
                "callreel_media_datagrams_refused_total",
                "Datagrams received that belong to no session, or that theirs could not read",
            )?,
            over_limit: IntCounter::new(
                "callreel_media_datagrams_over_limit_total",
                "Datagrams received and thrown away because their sender sends more than one user may",
            )?,
            received_bytes: IntCounter::new(
                "callreel_media_received_bytes_total",
                "Bytes of media received",
            )?,
            dropped: sent.with_label_values(&["dropped"]),
            sent_bytes: IntCounter::new("callreel_media_sent_bytes_total", "Bytes of media sent")?,
            people: IntGauge::new("callreel_media_sessions", "Media sessions on this edge")?,
            sent: sent.with_label_values(&["sent"]),
            relays: IntGauge::new(
                "callreel_media_relays",
                "Addresses at the TURN server at which this edge is reached, one per media thread when all is well",
            )?,
            relayed_in: relayed.with_label_values(&["in"]),
            relayed_out: relayed.with_label_values(&["out"]),
            relays_ended: IntCounterVec::new(
                Opts::new(
                    "callreel_media_relays_ended_total",
                    "Addresses at the TURN server that were lost or not given, by why",
                ),
                &["reason"],
            )?,
        };
        registry.register(Box::new(sent))?;
        registry.register(Box::new(relayed))?;
        registry.register(Box::new(metrics.relays.clone()))?;
        registry.register(Box::new(metrics.relays_ended.clone()))?;
        let Metrics { received, refused, over_limit, received_bytes, sent_bytes, .. } = &metrics;
        for counter in [received, refused, over_limit, received_bytes, sent_bytes] {
            registry.register(Box::new(counter.clone()))?;
        }
        registry.register(Box::new(metrics.people.clone()))?;
        Ok(metrics)
    }

    /// Counts an address at the TURN server that is no more.
    pub(super) fn relay_ended(&self, reason: &Reason) {
        let reason = match reason {
            Reason::Forgotten => "forgotten",
            Reason::Silent => "silent",
            Reason::Refused(_) => "refused",
        };
        self.relays_ended.with_label_values(&[reason]).inc();
    }
}
