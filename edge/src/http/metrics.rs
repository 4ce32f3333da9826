//! What is counted of requests. Labels are route templates, methods and status classes: small, fixed sets.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

/// Upper bounds of the latency histogram in seconds: from a cached answer (1 ms) to the time limit of control routes.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];

/// The process's registry, and the metrics of HTTP in it.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
}

/// A request that runs; counted until it is dropped.
pub(super) struct InFlight(IntGauge);

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When one of them is registered already.
    pub fn register(registry: Registry) -> prometheus::Result<Self> {
        let requests = Opts::new("callreel_http_requests_total", "Requests answered");
        let requests = IntCounterVec::new(requests, &["route", "method", "status"])?;
        let seconds = HistogramOpts::new("callreel_http_request_seconds", "Seconds to a response's head")
            .buckets(BUCKETS.to_vec());
        let seconds = HistogramVec::new(seconds, &["route", "method"])?;
        let in_flight = IntGauge::new("callreel_http_requests_in_flight", "Requests that run")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self { registry, requests, seconds, in_flight })
    }

    /// Everything registered, as text.
    #[must_use]
    pub fn render(&self) -> String {
        shared::telemetry::render(&self.registry)
    }

    pub(super) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    pub(super) fn count(&self, route: &str, method: &str, status: StatusCode, took: Duration) {
        let method = known(method);
        self.requests.with_label_values(&[route, method, class(status)]).inc();
        self.seconds.with_label_values(&[route, method]).observe(took.as_secs_f64());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A method is whatever a caller writes; only those that HTTP defines become labels.
fn known(method: &str) -> &'static str {
    let all = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    all.into_iter().find(|known| *known == method).unwrap_or("other")
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
