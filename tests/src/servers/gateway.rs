//! A gateway before a real server: it hands on what it is sent, but for the requests that a test has it meet ([`Plan::Met`]).
//! What happens to bytes and connections, whatever they carry, is [`crate::faults`].

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::faults::{Faults, Plan};
use super::serving::Serving;

/// No path begins so: every request may be met.
const NONE: &str = " ";

/// The gateway; ends with its value.
#[derive(Debug)]
pub struct Gateway {
    serving: Serving,
    faults: Arc<Faults>,
}

impl Gateway {
    /// Opens a port of its own before a server.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn before(server: SocketAddr) -> Self {
        let client = reqwest::Client::builder().http1_only().redirect(reqwest::redirect::Policy::none());
        let client = client.build().expect("a client of no certificates");
        let handing_on = Router::new().fallback(move |request: Request| {
            let client = client.clone();
            async move { hand_on(&client, server, request).await }
        });
        let faults = Arc::<Faults>::default();
        Self { serving: Serving::start(0, handing_on, Arc::clone(&faults), NONE).await, faults }
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address)
    }

    /// What becomes of requests.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Sets what becomes of requests.
    pub fn set(&self, plan: Plan) {
        self.faults.set(plan);
    }
}

/// The same request to the server: its `host` too, which signatures cover.
async fn hand_on(client: &reqwest::Client, server: SocketAddr, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let url = format!("http://{server}{}", head.uri);
    let body = reqwest::Body::wrap_stream(body.into_data_stream());
    let sent = client.request(head.method, url).headers(head.headers).body(body).send().await;
    let Ok(answer) = sent else { return StatusCode::BAD_GATEWAY.into_response() };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    response.headers_mut().clone_from(answer.headers());
    response.map(|_| Body::from_stream(answer.bytes_stream()))
}
