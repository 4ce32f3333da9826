//! A storage that tells Prometheus what it does: `callreel_storage_seconds` (a histogram, by operation),
//! `callreel_storage_bytes_total` (by direction) and `callreel_storage_failures_total` (by operation and the error's code), each
//! by provider and destination (`main`, `backup`).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use prometheus::{CounterVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::{
    Attributes, ByteStream, Capabilities, Destination, Link, ListStream, ObjectHead, Place, PutFile,
    Resumption, SharedStorage, Storage, StorageError, UnfinishedStream, UploadWatch,
};

/// From an answer of a server nearby to a day of video over a slow uplink, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0, 120.0, 600.0, 3600.0, 14_400.0];

/// What is counted, for every storage of a process.
#[derive(Debug, Clone)]
pub struct StorageMetrics {
    seconds: HistogramVec,
    bytes: CounterVec,
    failures: IntCounterVec,
}

impl StorageMetrics {
    /// Makes them and registers them.
    ///
    /// # Errors
    /// When the registry holds one of the names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let seconds = HistogramOpts::new(
            "callreel_storage_seconds",
            "How long calls to storage took that succeeded, by provider, destination and operation",
        );
        let bytes = Opts::new(
            "callreel_storage_bytes_total",
            "Bytes put into storage and got from it, by provider and destination",
        );
        let failures = Opts::new(
            "callreel_storage_failures_total",
            "Calls to storage that failed, by provider, destination, operation and reason",
        );
        let metrics = Self {
            seconds: HistogramVec::new(
                seconds.buckets(BUCKETS.to_vec()),
                &["provider", "destination", "operation"],
            )?,
            bytes: CounterVec::new(bytes, &["provider", "destination", "direction"])?,
            failures: IntCounterVec::new(failures, &["provider", "destination", "operation", "reason"])?,
        };
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
    }

    /// The same storage, counted.
    #[must_use]
    pub fn measure(&self, storage: SharedStorage, destination: Destination) -> SharedStorage {
        let provider = storage.place().provider;
        Arc::new(Measured { storage, meter: Meter { metrics: self.clone(), provider, destination } })
    }
}

struct Measured {
    storage: SharedStorage,
    meter: Meter,
}

#[derive(Clone)]
struct Meter {
    metrics: StorageMetrics,
    provider: String,
    destination: Destination,
}

impl Meter {
    /// The labels of whatever is counted, with those of its own.
    fn labels<'a, const N: usize>(&'a self, own: [&'a str; N]) -> Vec<&'a str> {
        [self.provider.as_str(), self.destination.as_str()].into_iter().chain(own).collect()
    }

    async fn time<T>(
        &self,
        operation: &str,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let began = Instant::now();
        let done = call.await;
        match &done {
            Ok(_) => {
                let seconds = self.metrics.seconds.with_label_values(&self.labels([operation]));
                seconds.observe(began.elapsed().as_secs_f64());
            }
            Err(error) => self.failed(operation, error),
        }
        done
    }

    fn failed(&self, operation: &str, error: &StorageError) {
        self.metrics.failures.with_label_values(&self.labels([operation, error.code()])).inc();
    }

    fn moved(&self, direction: &str, bytes: u64) {
        #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
        self.metrics.bytes.with_label_values(&self.labels([direction])).inc_by(bytes as f64);
    }
}

#[async_trait]
impl Storage for Measured {
    fn place(&self) -> Place {
        self.storage.place()
    }

    fn capabilities(&self) -> Capabilities {
        self.storage.capabilities()
    }

    async fn put_file(&self, put: &PutFile<'_>, watch: &dyn UploadWatch) -> Result<(), StorageError> {
        self.meter.time("put", self.storage.put_file(put, watch)).await?;
        self.meter.moved("put", tokio::fs::metadata(put.file).await.map_or(0, |file| file.len()));
        Ok(())
    }

    async fn put_bytes(&self, key: &str, bytes: Bytes, attributes: &Attributes) -> Result<(), StorageError> {
        let size = bytes.len() as u64;
        self.meter.time("put", self.storage.put_bytes(key, bytes, attributes)).await?;
        self.meter.moved("put", size);
        Ok(())
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StorageError> {
        self.meter.time("head", self.storage.head(key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<ByteStream, StorageError> {
        let blocks = self.meter.time("get", self.storage.get_range(key, range)).await?;
        let meter = self.meter.clone();
        Ok(blocks.inspect_ok(move |block| meter.moved("get", block.len() as u64)).boxed())
    }

    fn list(&self, prefix: &str) -> ListStream<'_> {
        self.storage.list(prefix).inspect_err(|error| self.meter.failed("list", error)).boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.meter.time("delete", self.storage.delete(key)).await
    }

    async fn temporary_url(&self, key: &str, link: &Link) -> Result<Option<String>, StorageError> {
        self.meter.time("sign", self.storage.temporary_url(key, link)).await
    }

    fn unfinished(&self, prefix: &str) -> UnfinishedStream<'_> {
        self.storage.unfinished(prefix).inspect_err(|error| self.meter.failed("list", error)).boxed()
    }

    async fn abort(&self, upload: &Resumption) -> Result<(), StorageError> {
        self.meter.time("abort", self.storage.abort(upload)).await
    }

    async fn try_parts(&self, key: &str) -> Result<(), StorageError> {
        self.storage.try_parts(key).await
    }

    fn folder(&self) -> Option<&Path> {
        self.storage.folder()
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.storage.local_path(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::LocalStorage;
    use crate::telemetry::render;

    #[tokio::test]
    async fn calls_bytes_and_failures_are_counted_by_provider() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let metrics = StorageMetrics::register(&registry).unwrap();
        let storage =
            metrics.measure(Arc::new(LocalStorage::open(folder.path()).unwrap()), Destination::Backup);
        storage.put_bytes("a/b", Bytes::from_static(b"12345"), &Attributes::default()).await.unwrap();
        let got: Vec<Bytes> = storage.get_range("a/b", 1..3).await.unwrap().try_collect().await.unwrap();
        assert_eq!(got.concat(), b"23");
        storage.get_range("a/c", 0..1).await.err().unwrap();
        storage.delete("a/b").await.unwrap();
        let text = render(&registry);
        for line in [
            r#"callreel_storage_bytes_total{destination="backup",direction="get",provider="local"} 2"#,
            r#"callreel_storage_bytes_total{destination="backup",direction="put",provider="local"} 5"#,
            r#"callreel_storage_seconds_count{destination="backup",operation="put",provider="local"} 1"#,
            r#"callreel_storage_seconds_count{destination="backup",operation="delete",provider="local"} 1"#,
            r#"callreel_storage_failures_total{destination="backup",operation="get",provider="local",reason="object-not-found"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
