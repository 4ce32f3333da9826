//! Connections of a test's server. Not `axum::serve`: a handler there cannot end a connection without an answer, and that is the
//! fault that clients meet most often.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::faults::Faults;

/// A server that runs until this is dropped; its connections end with it.
#[derive(Debug)]
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Serving {
    /// Listens on a port of 127.0.0.1, 0 for a free one. Requests go through `faults` to `handlers`; those whose path begins
    /// with `sound` pass by the faults.
    ///
    /// # Panics
    /// When the port is taken.
    pub async fn start(port: u16, handlers: Router, faults: Arc<Faults>, sound: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.unwrap_or_else(|error| panic!("port {port} of 127.0.0.1: {error}"));
        let address = listener.local_addr().expect("a bound socket has an address");
        let accepting = tokio::spawn(accept(listener, handlers, faults, sound));
        Self { address, _accepting: AbortOnDropHandle::new(accepting) }
    }
}

async fn accept(listener: TcpListener, handlers: Router, faults: Arc<Faults>, sound: &'static str) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        // A small answer must not wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let (handlers, faults) = (handlers.clone(), Arc::clone(&faults));
        let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
            let (handlers, faults) = (handlers.clone(), Arc::clone(&faults));
            let request = request.map(Body::new);
            async move {
                if request.uri().path().starts_with(sound) {
                    return Faults::default().answer(handlers, request).await;
                }
                faults.answer(handlers, request).await
            }
        });
        connections.spawn(async move {
            // How a connection ends is the client's business; what it left is looked at by the test.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
