//! Connections: accepted, served with limits, ended in good order.
//!
//! Decision: not `axum::serve`, which sets neither limit. Without the first a client that trickles its headers holds a
//! connection for ever; without the second hyper's read buffer grows to 400 KiB a connection, and 200 uploaders of 256 KiB
//! chunks took 166 MiB.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::http;

/// The longest from a connection's beginning, or its last answer, to the end of the next request's headers.
const HEADERS_TIME_MAX: Duration = Duration::from_secs(60);
/// The most that is read ahead of a connection; a request's headers must fit.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// After an accept that failed: the process is out of file descriptors, and a moment gives some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// Serves until `stop`; then no connection is accepted, and running requests finish.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let builder = builder();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => begin(&builder, &graceful, router.clone(), stream, peer),
            Err(error) => {
                warn!("a connection was not accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIME_MAX)
        .max_buf_size(READ_BUFFER_BYTES);
    builder.http2().timer(TokioTimer::new());
    builder
}

fn begin(
    builder: &Builder<TokioExecutor>,
    graceful: &GracefulShutdown,
    router: Router,
    stream: TcpStream,
    peer: SocketAddr,
) {
    // Answers are small and complete when they are written; waiting for more would only delay an acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = http::canonical(request.map(Body::new));
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!("a connection ended early: {error}");
        }
    });
}
