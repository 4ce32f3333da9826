//! Vercel Blob: its API (version 12) and the host that blobs are downloaded from, for one store.
//!
//! Written after the official client (`@vercel/blob`), which is also its judge (`tests/vercel_blob`). Stricter than the service
//! where that finds mistakes: headers that the official client always sends are required, an overwritten or deleted blob stays
//! in the cache for the whole minute that it may, and an etag looks like an MD5 and is none.
//!
//! `PUT /-/faults` takes a [`Plan`](super::faults::Plan), `GET /-/faults` tells what came of it, `POST /-/clock {"advanceMs"}`
//! moves the time, `PUT /-/store {"suspended"}` suspends the store: for clients in other processes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::env::Env;
use shared::storage::StorageSettings;
use tower::ServiceExt;

use super::clock::ShiftedClock;
use super::faults::{Faults, Plan};
use super::serving::Serving;

mod api;
mod auth;
mod downloads;
mod error;
mod multipart;
mod objects;
mod signed;
mod writes;

use objects::Objects;

/// Where downloads come from, below a name for the store and its access.
const DOWNLOAD_DOMAIN: &str = "blob.vercel-storage.com";
/// Paths below this belong to the test, not to the protocol; no fault meets them.
const CONTROL: &str = "/-/";

/// Who may read a store's blobs. A store has one access for all of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Access {
    /// Anybody who knows the URL.
    Public,
    /// Who has the token, or a signed URL.
    Private,
}

impl Access {
    /// The word in headers and host names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

/// What a store is.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The store's id, without `store_`.
    pub id: String,
    /// The secret part of its token.
    pub secret: String,
    /// Who may read.
    pub access: Access,
    /// The port to listen on; 0 for a free one.
    pub port: u16,
}

impl Default for StoreSettings {
    fn default() -> Self {
        let (id, secret) = ("callreelTestStore".to_owned(), "30RandomCharacters".to_owned());
        Self { id, secret, access: Access::Private, port: 0 }
    }
}

/// A store, and everything that its handlers share.
#[derive(Debug)]
struct Store {
    settings: StoreSettings,
    clock: Arc<ShiftedClock>,
    faults: Arc<Faults>,
    objects: Objects,
    uploads: multipart::Uploads,
    suspended: AtomicBool,
}

impl Store {
    fn token(&self) -> String {
        format!("vercel_blob_rw_{}_{}", self.settings.id, self.settings.secret)
    }

    /// Where a blob is downloaded.
    fn url(&self, pathname: &str) -> reqwest::Url {
        let (id, access) = (&self.settings.id, self.settings.access.as_str());
        let mut url: reqwest::Url =
            format!("https://{id}.{access}.{DOWNLOAD_DOMAIN}").parse().expect("ids are names of hosts");
        url.path_segments_mut().expect("it has a host").extend(pathname.split('/'));
        url
    }
}

/// A running store; its blobs go with it.
#[derive(Debug)]
pub struct VercelBlobServer {
    serving: Serving,
    store: Arc<Store>,
}

impl VercelBlobServer {
    /// A private store on a free port.
    ///
    /// # Panics
    /// When there is no port or no temporary folder.
    pub async fn start() -> Self {
        Self::start_with(StoreSettings::default()).await
    }

    /// A store as told.
    ///
    /// # Panics
    /// When the port is taken, or there is no temporary folder.
    pub async fn start_with(settings: StoreSettings) -> Self {
        let (clock, faults) = (Arc::<ShiftedClock>::default(), Arc::<Faults>::default());
        let port = settings.port;
        let store = Arc::new(Store {
            objects: Objects::new(Arc::clone(&clock)),
            uploads: multipart::Uploads::default(),
            suspended: AtomicBool::new(false),
            faults: Arc::clone(&faults),
            settings,
            clock,
        });
        let serving = Serving::start(port, by_host(&store), faults, CONTROL).await;
        Self { serving, store }
    }

    /// What `VERCEL_BLOB_API_URL` is to say.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}/api/blob", self.download_url())
    }

    /// What stands for `https://<store>.<access>.blob.vercel-storage.com` here.
    #[must_use]
    pub fn download_url(&self) -> String {
        format!("http://{}", self.serving.address)
    }

    /// What `BLOB_READ_WRITE_TOKEN` is to say.
    #[must_use]
    pub fn token(&self) -> String {
        self.store.token()
    }

    /// The variables by which edge and worker use it.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("BLOB_READ_WRITE_TOKEN", self.token()),
            ("VERCEL_BLOB_API_URL", self.api_url()),
            ("VERCEL_BLOB_DOWNLOAD_URL", self.download_url()),
        ]
    }

    /// Its settings, with some variables set otherwise.
    ///
    /// # Panics
    /// When they are wrong.
    #[must_use]
    pub fn settings(&self, other: &[(&'static str, &str)]) -> StorageSettings {
        let other = other.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let env = Env::from_pairs(self.variables().into_iter().chain(other));
        StorageSettings::from_env(&env).expect("settings of the test's own")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.serving.address
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.store.faults
    }

    /// Its time.
    #[must_use]
    pub fn clock(&self) -> &ShiftedClock {
        &self.store.clock
    }

    /// Where the bytes of a blob are, so that a test can look at them without the protocol.
    #[must_use]
    pub fn stored(&self, pathname: &str) -> Option<PathBuf> {
        self.store.objects.find(pathname).map(|blob| blob.body.to_path_buf())
    }

    /// Suspends the store, as the service does with one whose account is over its limits, or opens it again.
    pub fn suspend(&self, suspended: bool) {
        self.store.suspended.store(suspended, Ordering::SeqCst);
    }

    /// How many multipart uploads were begun and not completed.
    #[must_use]
    pub fn unfinished_uploads(&self) -> usize {
        self.store.uploads.count()
    }
}

/// Downloads have a host of their own; every path there is a blob's.
fn by_host(store: &Arc<Store>) -> Router {
    let (api, downloads) = (api_routes(store), downloads::routes(store));
    Router::new().fallback(move |request: Request| {
        let host = downloads::host(request.headers()).is_some();
        let routes = if host { downloads.clone() } else { api.clone() };
        async move { routes.oneshot(request).await.into_response() }
    })
}

fn api_routes(store: &Arc<Store>) -> Router {
    let blob = || get(api::look).put(api::put).delete(api::delete_signed);
    Router::new()
        .route("/api/blob", blob())
        .route("/api/blob/", blob())
        .route("/api/blob/mpu", post(multipart::act))
        .route("/api/blob/delete", post(api::delete))
        .route("/api/blob/signed-token", post(signed::issue))
        .method_not_allowed_fallback(api::not_allowed)
        .route("/-/faults", get(tell_faults).put(set_faults))
        .route("/-/clock", post(advance))
        .route("/-/store", axum::routing::put(suspend))
        .fallback_service(downloads::routes(store))
        // A body is as large as a recording; its limit is the protocol's.
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(store))
}

async fn tell_faults(State(store): State<Arc<Store>>) -> Json<Value> {
    Json(json!({ "requests": store.faults.requests(), "injected": store.faults.injected() }))
}

async fn set_faults(State(store): State<Arc<Store>>, Json(plan): Json<Plan>) {
    store.faults.set(plan);
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Advance {
    advance_ms: i64,
}

async fn advance(State(store): State<Arc<Store>>, Json(step): Json<Advance>) {
    store.clock.advance(TimeDelta::milliseconds(step.advance_ms));
}

#[derive(Deserialize)]
struct Suspend {
    suspended: bool,
}

async fn suspend(State(store): State<Arc<Store>>, Json(wish): Json<Suspend>) {
    store.suspended.store(wish.suspended, Ordering::SeqCst);
}
