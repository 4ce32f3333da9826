//! A spool in a bucket, which may be away while calls go on.

use std::path::PathBuf;

use super::packets::put_packets;
use super::*;
use crate::storage::LocalStorage;

/// The bucket: of the one provider that every machine has.
struct Bucket {
    folder: PathBuf,
    spool: Spool,
}

impl Bucket {
    /// A house whose spool it is.
    fn of(source: TrackSource) -> (House, Self) {
        let mut house = House::new();
        house.spec.source = source;
        let folder = house.dir.path().join("bucket");
        let storage = Arc::new(LocalStorage::open(&folder).unwrap());
        let bucket = Self { spool: Spool::in_bucket(storage, house.dir.path()), folder };
        (house, bucket)
    }

    /// Takes the house up again, over the bucket.
    async fn restart(&self, house: House) -> House {
        let (dir, clock, spec) = house.end().await;
        let config = CaptureConfig { spool: self.spool.clone(), ..config(dir.path()) };
        let (capture, recovered) = Capture::open(config, clock.clone()).unwrap();
        House { dir, clock, capture, recovered, spec }
    }

    /// What a worker reads.
    async fn read(&self, recording: &RecordingId, track: &TrackId) -> Vec<(u64, Vec<u8>)> {
        let (spool, recording, track) = (self.spool.clone(), recording.clone(), track.clone());
        blocking(move || {
            let mut reader = TrackReader::open(&spool, &recording, &track).unwrap();
            reader.iter().map(|(chunk, bytes)| (chunk.sequence(), bytes.unwrap().to_vec())).collect()
        })
        .await
    }

    async fn segments(&self, recording: &RecordingId, track: &TrackId) -> Vec<u32> {
        let (spool, recording, track) = (self.spool.clone(), recording.clone(), track.clone());
        blocking(move || spool.segments(&recording, &track).unwrap()).await
    }

    fn goes_away(&self) {
        std::fs::rename(&self.folder, self.folder.with_extension("away")).unwrap();
        std::fs::write(&self.folder, "in the way").unwrap();
    }

    fn comes_back(&self) {
        std::fs::remove_file(&self.folder).unwrap();
        std::fs::rename(self.folder.with_extension("away"), &self.folder).unwrap();
    }
}

#[tokio::test]
async fn segments_wait_for_a_bucket_that_is_away_and_follow() {
    let (house, bucket) = Bucket::of(TrackSource::Client);
    let house = bucket.restart(house).await;
    let log = house.log().await;
    bucket.goes_away();
    put_all(&log, 0..3).await;
    house.later(11).await;
    put_all(&log, 3..5).await;
    house.later(11).await;
    assert_eq!(local_segments(house.dir.path()).len(), 2);
    let lag = house.capture.lag().await.unwrap();
    assert!(lag.bytes > 0 && lag.since.is_some());
    house.capture.close_recording(&house.spec.recording).await.unwrap_err();
    bucket.comes_back();
    let facts = house.capture.close_recording(&house.spec.recording).await.unwrap();
    assert_eq!(house.capture.lag().await.unwrap(), Lag::default());
    assert!(local_segments(house.dir.path()).is_empty());
    let read = bucket.read(&house.spec.recording, &facts[0].id).await;
    assert_eq!(read, all(0..5));
}

#[tokio::test]
async fn a_start_while_the_bucket_is_away_knows_what_has_left() {
    for source in [TrackSource::Client, TrackSource::Server] {
        let (house, bucket) = Bucket::of(source);
        let house = bucket.restart(house).await;
        let log = house.log().await;
        for part in [0..3, 3..5] {
            match source {
                TrackSource::Client => put_all(&log, part).await,
                TrackSource::Server => put_packets(&house, &log, part.start as u16..part.end as u16).await,
            }
            house.later(11).await;
            // The last commit's own move may be under way still, and a tick does not wait for that.
            while !local_segments(house.dir.path()).is_empty() {
                house.later(0).await;
            }
        }
        let before = log.status();
        drop(log);
        bucket.goes_away();
        let house = bucket.restart(house).await;
        let log = house.log().await;
        assert_eq!(log.status(), before);
        match source {
            TrackSource::Client => put_all(&log, 5..6).await,
            TrackSource::Server => put_packets(&house, &log, 5..6).await,
        }
        bucket.comes_back();
        let facts = house.capture.close_recording(&house.spec.recording).await.unwrap();
        assert_eq!(facts[0].status.chunks, before.chunks + 1);
        assert_eq!(bucket.segments(&house.spec.recording, &facts[0].id).await, [0, 1, 2]);
        house.capture.forget(&house.spec.recording).await.unwrap();
        assert!(spool::names(&house.dir.path().join("capture/tracks")).unwrap().is_empty());
    }
}
