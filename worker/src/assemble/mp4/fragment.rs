//! The samples of a movie fragment (ISO 14496-12, section 8.8).

use super::boxes::{child, children, u32_at, u64_at};
use super::movie::Track;

/// Samples of one fragment: five seconds of sound and pictures are 500; a longer list is hostile.
const MAX_SAMPLES: usize = 50_000;

/// One sample: where its bytes are, and its times in its track's ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) track: u64,
    pub(super) decode_time: i64,
    pub(super) composition_offset: i64,
    pub(super) duration: i64,
    pub(super) is_sync: bool,
    /// Offset from the fragment's first byte.
    offset: usize,
    size: usize,
}

impl Sample {
    /// The sample's bytes, when all of them are there. `bytes` begin with the `moof`.
    pub(super) fn data<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(self.offset..self.offset.checked_add(self.size)?)
    }
}

/// What `tfhd` and `trex` say of samples that say nothing themselves.
#[derive(Debug, Clone, Copy)]
struct Defaults {
    duration: u32,
    size: u32,
    flags: u32,
}

/// Every sample of a `moof` payload. `after_moof` is where the `mdat` begins when nothing says where data is.
pub(super) fn samples(moof: &[u8], after_moof: usize, tracks: Option<&[Track]>) -> Vec<Sample> {
    const MDAT_HEADER: usize = 8;
    let mut found = Vec::new();
    let mut cursor = after_moof.saturating_add(MDAT_HEADER);
    for (_, traf) in children(moof).filter(|(name, _)| name == b"traf") {
        if found.len() >= MAX_SAMPLES {
            break;
        }
        let _ = track_fragment(traf, tracks, &mut cursor, &mut found);
    }
    found
}

fn track_fragment(
    traf: &[u8],
    tracks: Option<&[Track]>,
    cursor: &mut usize,
    found: &mut Vec<Sample>,
) -> Option<()> {
    let tfhd = child(traf, b"tfhd")?;
    let number = u64::from(u32_at(tfhd, 4)?);
    let track = tracks.and_then(|tracks| tracks.iter().find(|track| track.number == number));
    let defaults = defaults(tfhd, track)?;
    let tfdt = child(traf, b"tfdt");
    let start = tfdt.and_then(|tfdt| match tfdt.first()? {
        1 => i64::try_from(u64_at(tfdt, 4)?).ok(),
        _ => u32_at(tfdt, 4).map(i64::from),
    });
    let mut time = start?; // every recorder writes it; without it nothing times the fragment
    for (_, trun) in children(traf).filter(|(name, _)| name == b"trun") {
        run(trun, number, defaults, &mut time, cursor, found)?;
    }
    Some(())
}

/// The defaults of a track fragment. An explicit base offset is taken for the start of the `moof`: in a stream that was
/// cut into blobs no other one can be meant.
fn defaults(tfhd: &[u8], track: Option<&Track>) -> Option<Defaults> {
    let flags = u32_at(tfhd, 0)?;
    let mut at = 8;
    let mut field = |bit: u32, width: usize| -> Option<u32> {
        (flags & bit != 0).then_some(())?;
        let value = u32_at(tfhd, at);
        at += width;
        value
    };
    field(0x01, 8);
    field(0x02, 4);
    let duration = field(0x08, 4);
    let size = field(0x10, 4);
    let sample_flags = field(0x20, 4);
    Some(Defaults {
        duration: duration.or(track.map(|track| track.default_duration)).unwrap_or(0),
        size: size.or(track.map(|track| track.default_size)).unwrap_or(0),
        flags: sample_flags.or(track.map(|track| track.default_flags)).unwrap_or(0),
    })
}

/// Reads one `trun`.
fn run(
    trun: &[u8],
    track: u64,
    defaults: Defaults,
    time: &mut i64,
    cursor: &mut usize,
    found: &mut Vec<Sample>,
) -> Option<()> {
    const NON_SYNC: u32 = 0x0001_0000;
    let (flags, count) = (u32_at(trun, 0)?, u32_at(trun, 4)? as usize);
    let mut at = 8;
    let mut field = |present: bool| -> Option<Option<u32>> {
        if !present {
            return Some(None);
        }
        let value = u32_at(trun, at)?;
        at += 4;
        Some(Some(value))
    };
    if let Some(offset) = field(flags & 0x1 != 0)? {
        *cursor = usize::try_from(offset.cast_signed()).ok()?;
    }
    let first_flags = field(flags & 0x4 != 0)?;
    for index in 0..count {
        if found.len() >= MAX_SAMPLES {
            return None;
        }
        let duration = i64::from(field(flags & 0x100 != 0)?.unwrap_or(defaults.duration));
        let size = field(flags & 0x200 != 0)?.unwrap_or(defaults.size) as usize;
        let own = field(flags & 0x400 != 0)?.or(first_flags.filter(|_| index == 0)).unwrap_or(defaults.flags);
        let offset = field(flags & 0x800 != 0)?.unwrap_or(0);
        found.push(Sample {
            track,
            decode_time: *time,
            composition_offset: i64::from(offset.cast_signed()),
            duration,
            is_sync: own & NON_SYNC == 0,
            offset: *cursor,
            size,
        });
        *time = time.checked_add(duration)?;
        *cursor = cursor.checked_add(size)?;
    }
    Some(())
}
