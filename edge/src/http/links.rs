//! Addresses of our own routes, as clients outside see them (`PUBLIC_URL`).

use std::sync::Arc;

use shared::id::{ArtifactId, CallId, RecordingId, UserId};

/// Makes addresses.
#[derive(Debug, Clone)]
pub struct Links(Arc<str>);

impl Links {
    /// From `PUBLIC_URL`, without a slash at its end.
    #[must_use]
    pub fn new(base: String) -> Self {
        Self(base.into())
    }

    /// `PUBLIC_URL`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.0
    }

    /// Where a recording's main file is read.
    #[must_use]
    pub fn download(&self, call: &CallId, recording: &RecordingId) -> String {
        // Ids hold no character that a path segment would have to escape (RFC 3986, section 3.3).
        format!("{}/video-calls/{call}/recording/{recording}/download", self.0)
    }

    /// Where one file of a recording is read.
    #[must_use]
    pub fn artifact(&self, call: &CallId, recording: &RecordingId, artifact: &ArtifactId) -> String {
        format!("{}?artifact={artifact}", self.download(call, recording))
    }

    /// A publisher's session.
    #[must_use]
    pub fn whip(&self, call: &CallId, session: &str) -> String {
        format!("{}/video-calls/{call}/whip/{session}", self.0)
    }

    /// A session that plays somebody.
    #[must_use]
    pub fn whep(&self, call: &CallId, of: &UserId, session: &str) -> String {
        format!("{}/video-calls/{call}/whep/{of}/{session}", self.0)
    }

    /// Where a picture is read.
    #[must_use]
    pub fn thumbnail(&self, call: &CallId, recording: &RecordingId, n: u32) -> String {
        format!("{}/video-calls/{call}/recording/{recording}/thumbnails/{n}", self.0)
    }
}
