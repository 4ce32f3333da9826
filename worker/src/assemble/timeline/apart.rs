//! Pictures that nobody can decode, because what they refer to was in a lost blob: they go to a track of their own.
//!
//! Decided by measuring recordings with a blob lost in Chromium 156 and FFmpeg 5.1. Left where they are, such pictures of VP9,
//! AV1 and Firefox's VP8 end playback in Chromium at the first of them (`PIPELINE_ERROR_DECODE`), and of a recording whose first
//! blob is lost nothing plays at all. A black keyframe in front helps Chromium's own VP8 alone, as the others carry the state
//! of their entropy coder from frame to frame; a copy of the next keyframe helps no more. To throw them away would lose what was
//! received. In a second video track, after all others, every packet stays in the file at its time, players show the first
//! video track, which decodes without an error and stands still over the hole until the next keyframe, and whoever wants to
//! restore pictures has them.

use super::stream::Stream;
use crate::assemble::writer::MAX_TRACKS;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// To be seen or heard.
    Shown,
    /// Received, and kept for completeness: its pictures refer to lost ones, or it is empty.
    Apart,
}

/// The stream for the undecodable pictures of a stream, made when the first comes; without room for it, the stream itself.
pub(super) fn of(streams: &mut Vec<Stream>, index: usize) -> usize {
    let count = streams.len();
    let Some(stream) = streams.get_mut(index) else { return index };
    if let Some(apart) = stream.apart {
        return apart;
    }
    if count >= MAX_TRACKS {
        return index;
    }
    stream.apart = Some(count);
    let mut apart = Stream::new(stream.header.clone());
    apart.info.role = Role::Apart;
    streams.push(apart);
    count
}

/// Gives the streams apart what was learnt of their codec since; a stream without a packet is not to be shown.
pub(super) fn complete(streams: &mut [Stream]) {
    for index in 0..streams.len() {
        let Some(stream) = streams.get_mut(index) else { continue };
        if stream.info.packets == 0 {
            stream.info.role = Role::Apart;
        }
        let (header, apart) = (stream.header.clone(), stream.apart);
        if let Some(apart) = apart.and_then(|apart| streams.get_mut(apart)) {
            apart.header = header;
        }
    }
}
