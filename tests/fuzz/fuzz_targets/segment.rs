//! Any bytes are read as a capture segment without a panic, in order, and without a gap between what is reported.
//!
//! `cargo +nightly fuzz run segment --fuzz-dir tests/fuzz`. The same property runs among the ordinary tests.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use shared::capture::{Check, Item, Segment};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut segment) = Segment::open(Cursor::new(bytes), Check::Bodies) else { return };
    let mut next = None;
    while let Some(item) = segment.next_item().expect("memory does not fail") {
        let (offset, end) = match item {
            Item::Record(record) => {
                segment.body(&record).expect("a checked record is whole");
                (record.offset, record.end())
            }
            Item::Damaged { offset, len } => (offset, offset + len),
        };
        assert!(end > offset && next.is_none_or(|next| next == offset));
        next = Some(end);
    }
    assert!(next.is_none_or(|next| next == bytes.len() as u64));
});
