//! The index of a track's chunks on disk: which bytes were stored under a sequence.
//!
//! This file must not know segments. It is a sparse file with one slot of fixed size for each sequence, so that a
//! duplicate in a segment closed long ago costs one read of 48 bytes, and memory costs nothing. The index is derived:
//! when it is missing or damaged it is rebuilt from the segments, and it is synced before a segment leaves for the spool,
//! so that after a crash only what is still in the capture folder has to be scanned.
//!
//! | slot | bytes | what |
//! |---|---|---|
//! | SHA-256 | 32 | of the chunk's media |
//! | arrival | 8 | microseconds since 1970 UTC |
//! | size | 4 | bytes of media |
//! | CRC32C | 4 | of the sequence and all before |
//!
//! A slot of zeroes holds nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::chunk::MAX_SEQUENCE;

/// The bytes of one slot.
const SLOT_BYTES: usize = 48;
/// How many slots are read at once when the whole index is loaded.
const SLOTS_AT_ONCE: usize = 4096;

/// What was stored under a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) sha256: [u8; 32],
    pub(super) arrival_us: i64,
    pub(super) size: u32,
}

/// An open index.
#[derive(Debug)]
pub(super) struct Index {
    file: File,
}

impl Index {
    /// Opens the index, or fails with `NotFound`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().read(true).write(true).open(path)? })
    }

    /// Makes an empty index in place of what is there.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Self { file })
    }

    /// Notes a chunk.
    pub(super) fn put(&self, sequence: u32, slot: &Slot) -> io::Result<()> {
        self.file.write_all_at(&slot.encode(sequence), u64::from(sequence) * SLOT_BYTES as u64)
    }

    /// What was stored under a sequence; `InvalidData` when the slot is damaged.
    pub(super) fn get(&self, sequence: u32) -> io::Result<Option<Slot>> {
        let mut bytes = [0; SLOT_BYTES];
        match self.file.read_exact_at(&mut bytes, u64::from(sequence) * SLOT_BYTES as u64) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Slot::decode(&bytes, sequence),
        }
    }

    /// Gives every chunk to `each`, ascending; `InvalidData` when a slot is damaged.
    pub(super) fn load(&self, mut each: impl FnMut(u32, Slot)) -> io::Result<()> {
        let mut at_once = vec![0; SLOT_BYTES * SLOTS_AT_ONCE];
        let (mut sequence, mut source) = (0_u32, io::BufReader::with_capacity(0, &self.file));
        io::Seek::rewind(&mut source)?;
        loop {
            let read = read_full(&mut source, &mut at_once)?;
            for bytes in at_once[..read].as_chunks::<SLOT_BYTES>().0 {
                if let Some(slot) = Slot::decode(bytes, sequence)? {
                    each(sequence, slot);
                }
                sequence += 1;
            }
            if read < at_once.len() || u64::from(sequence) > MAX_SEQUENCE {
                return Ok(());
            }
        }
    }

    /// Puts the index on stable storage.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Slot {
    fn encode(&self, sequence: u32) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..32].copy_from_slice(&self.sha256);
        bytes[32..40].copy_from_slice(&self.arrival_us.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.size.to_le_bytes());
        let crc = crc_of(&bytes, sequence);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SLOT_BYTES], sequence: u32) -> io::Result<Option<Self>> {
        let (sha256, rest) = bytes.split_at(32);
        let (arrival, rest) = rest.split_at(8);
        let (size, crc) = rest.split_at(4);
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if crc_of(bytes, sequence).to_le_bytes() != crc {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("slot {sequence} of the index is damaged"),
            ));
        }
        let sha256 = sha256.try_into().expect("32 bytes were split off");
        let arrival_us = i64::from_le_bytes(arrival.try_into().expect("eight bytes were split off"));
        let size = u32::from_le_bytes(size.try_into().expect("four bytes were split off"));
        Ok(Some(Self { sha256, arrival_us, size }))
    }
}

fn crc_of(bytes: &[u8; SLOT_BYTES], sequence: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), &bytes[..44])
}

fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
