//! What torn ends and flipped bits cost.

use super::*;

/// A house whose one local segment holds chunks 0 to 2, and that segment's path and bytes.
async fn with_a_segment() -> (House, PathBuf, Vec<u8>) {
    let house = House::new();
    put_all(&house.log().await, 0..3).await;
    let path = local_segments(house.dir.path()).remove(0);
    let bytes = std::fs::read(&path).unwrap();
    (house, path, bytes)
}

/// The chunks that a segment still gives, and whether it says that something is damaged.
fn chunks_of(bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, bool) {
    let Ok(mut segment) = Segment::open(io::Cursor::new(bytes), Check::Bodies) else {
        return (Vec::new(), true);
    };
    let (mut chunks, mut damaged) = (Vec::new(), false);
    while let Some(item) = segment.next_item().unwrap() {
        match item {
            Item::Record(record) if record.frame.kind == RecordKind::Chunk => {
                let body = segment.body(&record).unwrap();
                chunks.push((u64::from(record.frame.sequence), body[CHUNK_PREFIX_BYTES..].to_vec()));
            }
            Item::Record(_) => {}
            Item::Damaged { .. } => damaged = true,
        }
    }
    (chunks, damaged)
}

#[tokio::test]
async fn a_torn_tail_costs_the_last_record_alone() {
    let (_house, _, bytes) = with_a_segment().await;
    let last = FRAME_BYTES + CHUNK_PREFIX_BYTES + media(2).len();
    for cut in 1..=last {
        let (chunks, damaged) = chunks_of(&bytes[..bytes.len() - cut]);
        assert_eq!((chunks, damaged), (all(0..2), cut != last), "cut by {cut}");
    }
}

#[tokio::test]
async fn a_flipped_bit_costs_at_most_the_record_it_touches() {
    let (_house, _, bytes) = with_a_segment().await;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (chunks, damaged) = chunks_of(&flipped);
        assert!(chunks.len() >= 2, "bit {bit} costs more than one record");
        assert!(chunks.len() == 3 || damaged, "bit {bit} hides a record");
        assert!(
            chunks.iter().all(|(sequence, body)| *body == media(*sequence)),
            "bit {bit} gives wrong bytes"
        );
    }
}

#[tokio::test]
async fn a_log_within_a_chunk_is_not_taken_for_records() {
    let (house, _, log_bytes) = with_a_segment().await;
    let mut foreign = House::new();
    foreign.spec = house.spec.clone();
    put_all(&foreign.log().await, [0]).await;
    put(&foreign.log().await, 3, log_bytes).await.unwrap();
    let mut bytes = std::fs::read(local_segments(foreign.dir.path()).remove(0)).unwrap();
    let outer = start_of_last(&bytes);
    bytes[outer + 5] ^= 1;
    assert_eq!(chunks_of(&bytes), (all([0]), true));
}

/// Where the last record of a segment begins.
fn start_of_last(bytes: &[u8]) -> usize {
    let mut segment = Segment::open(io::Cursor::new(bytes), Check::Heads).unwrap();
    let mut last = 0;
    while let Some(Item::Record(record)) = segment.next_item().unwrap() {
        last = record.offset;
    }
    usize::try_from(last).unwrap()
}

#[tokio::test]
async fn a_restart_cuts_the_torn_tail_and_goes_on() {
    let (house, path, bytes) = with_a_segment().await;
    let house = house.restart(|_| std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap()).await;
    assert!(house.recovered[0].damaged_bytes > 0);
    let log = house.log().await;
    assert_eq!(log.status().received, vec![(0, 1)]);
    put_all(&log, [2, 3]).await;
    assert_eq!(house.read().await, all(0..4));
}

#[tokio::test]
async fn a_restart_knows_every_sequence_and_the_complete_mark() {
    let (house, _, _) = with_a_segment().await;
    house.log().await.complete(5).await.unwrap();
    house.later(11).await;
    put_all(&house.log().await, [5]).await;
    let before = house.log().await.facts();
    let house = house.restart(|_| {}).await;
    assert_eq!(house.recovered[0].log.facts(), before);
    assert_eq!(house.recovered[0].closed, Closed::No);
    let log = house.log().await;
    assert_eq!(put(&log, 1, media(1)).await.unwrap(), Outcome::Duplicate);
    assert!(matches!(put(&log, 5, media(1)).await, Err(AppendError::Conflict(5))));
    put_all(&log, [3, 4]).await;
    assert!(log.status().complete);
    drop(log);
    assert_eq!(house.read().await, all(0..6));
}

#[tokio::test]
async fn a_lost_or_damaged_index_is_rebuilt() {
    let (house, path, _) = with_a_segment().await;
    house.later(11).await;
    put_all(&house.log().await, [3]).await;
    let before = house.log().await.facts();
    let index = path.with_file_name("index");
    let house = house.restart(|_| std::fs::remove_file(&index).unwrap()).await;
    assert_eq!(house.recovered[0].log.facts(), before);
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[50] ^= 1;
    let house = house.restart(|_| std::fs::write(&index, &bytes).unwrap()).await;
    assert_eq!(house.recovered[0].log.facts(), before);
    assert_eq!(put(&house.log().await, 1, media(1)).await.unwrap(), Outcome::Duplicate);
}

#[tokio::test]
async fn a_segment_of_a_later_version_is_left_alone_and_stops_the_start() {
    let (house, path, mut bytes) = with_a_segment().await;
    let (dir, clock, _) = house.end().await;
    // The header's two copies (see `format`): magic, version, the copy's length, …, CRC32C.
    let len = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
    for copy in bytes[..2 * len].chunks_exact_mut(len) {
        copy[8..10].copy_from_slice(&(VERSION + 1).to_le_bytes());
        let crc = crc32c::crc32c(&copy[..len - 4]).to_le_bytes();
        copy[len - 4..].copy_from_slice(&crc);
    }
    bytes.truncate(bytes.len() - 5);
    // With its first copy lost as well, the second tells.
    for first_byte in [bytes[0], !bytes[0]] {
        bytes[0] = first_byte;
        std::fs::write(&path, &bytes).unwrap();
        let error = Capture::open(config(dir.path()), clock.clone()).err().unwrap();
        let told = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            told.ends_with("the segment has version 2, known is 1") && told.contains("000000.seg"),
            "{told}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_damaged_chunk_is_asked_for_again() {
    let (house, path, mut bytes) = with_a_segment().await;
    let at = bytes.len() - FRAME_BYTES - CHUNK_PREFIX_BYTES - media(2).len() - 1;
    bytes[at] ^= 1;
    let house = house.restart(|_| std::fs::write(&path, &bytes).unwrap()).await;
    let log = house.log().await;
    assert_eq!(log.status().missing, vec![(1, 1)]);
    put_all(&log, [1]).await;
    let facts = house.capture.close_recording(&house.spec.recording).await.unwrap();
    let mut reader = TrackReader::open(&house.spool(), &house.spec.recording, &facts[0].id).unwrap();
    let read: Vec<_> =
        reader.iter().map(|(chunk, bytes)| (chunk.sequence(), bytes.unwrap().to_vec())).collect();
    assert_eq!(read, all(0..3));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..4096)) {
        let header = SegmentHeader { spec: spec(), track: TrackId::generate(), number: 0, base_us: 0, salt: 1 };
        chunks_of(&bytes);
        chunks_of(&[header.encode(), bytes].concat());
    }
}
