//! What becomes of a finished file's pictures: copied, or turned upright, brought to one size and encoded.
//!
//! A stream has one size when it is encoded, and FFmpeg takes the first picture's where nothing else is said: that of a call's
//! first second, which is its smallest. So all are fitted into a frame that holds the largest.

use ffmpeg_sidecar::command::FfmpegCommand;

use super::{MuxInput, seconds};
use crate::media::{MuxPlan, Turn, VideoPlan};

/// The longer side of encoded pictures at most, in pixels: UHD. A keyframe may claim 16,383 (VP8), and what an encoder needs grows with
/// the area.
const SIDE_MAX: u32 = 3_840;

/// Width and height in pixels.
type Size = (u32, u32);

/// Says of each stream of pictures what becomes of it.
pub(super) fn encode(ffmpeg: &mut FfmpegCommand, inputs: &[MuxInput], plan: &MuxPlan, threads: usize) {
    for (n, ((input, stream), video)) in plan.streams.iter().zip(&plan.video).enumerate() {
        let mut set = |name: &str, value: &str| {
            ffmpeg.args([&format!("-{name}:v:{n}"), value]);
        };
        let VideoPlan::Encode { encoder, bitrate, framerate, resolution } = video else {
            set("c", "copy");
            continue;
        };
        set("c", encoder.as_str());
        set("b", &bitrate.to_string());
        set("threads", &threads.to_string());
        // Fixed gop: a keyframe every two seconds at 30 frames per second, so that a player can seek.
        set("g", "60");
        encoder.speed().into_iter().for_each(|(name, value)| set(name, value));
        if framerate.is_none() {
            set("enc_time_base", "1:1000");
            set("fps_mode", "vfr");
        }
        let asked = resolution.map(|size| (size.width, size.height));
        let mut filters = inputs.get(*input).map_or_else(Vec::new, |input| upright(input, *stream, asked));
        filters.extend(framerate.map(|fps| format!("fps={fps}")));
        // Even sides, as 4:2:0 needs.
        filters.extend(["scale=trunc(iw/2)*2:trunc(ih/2)*2".to_owned(), "format=yuv420p".to_owned()]);
        set("filter", &filters.join(","));
    }
}

/// What turns a stream's pictures upright and brings them into one frame: of the size that was asked for, else one that holds
/// the largest.
fn upright(input: &MuxInput, stream: usize, asked: Option<Size>) -> Vec<String> {
    let size = input.sizes.get(stream).copied().filter(|(width, height)| *width > 0 && *height > 0);
    let swapped = size.map(|(width, height)| (height, width));
    let (turn, turned) = match &input.turn {
        Turn::All(1) => (Some("transpose=clock".to_owned()), swapped),
        Turn::All(2) => (Some("hflip,vflip".to_owned()), size),
        Turn::All(3) => (Some("transpose=cclock".to_owned()), swapped),
        Turn::None | Turn::All(_) => (None, size),
        Turn::Changing(turns) => (size.map(|size| changing(input, turns, size)), None),
    };
    turn.into_iter().chain(asked.or(turned.map(bounded)).map(fitted)).collect()
}

/// In a square, a turn by quarters is exact and cuts nothing off.
fn changing(input: &MuxInput, turns: &[(u64, u16)], (width, height): Size) -> String {
    let (side, _) = bounded((width.max(height), width.max(height)));
    let (mut before, mut quarters) = (0, "0".to_owned());
    for (from_ms, by) in turns {
        let from = seconds(from_ms.saturating_add(input.offset_ms));
        quarters.push_str(&format!("+gte(t,{from})*({})", i32::from(*by) - before));
        before = i32::from(*by);
    }
    format!("{},rotate='PI/2*({quarters})':ow={side}:oh={side}", fitted((side, side)))
}

/// Scaled to fill a frame without being distorted; what is left of it is black.
fn fitted((width, height): Size) -> String {
    format!("scale={width}:{height}:force_original_aspect_ratio=decrease,pad={width}:{height}:-1:-1,setsar=1")
}

/// The size of an encoded frame for pictures of this size at most.
fn bounded((width, height): Size) -> Size {
    let longest = u64::from(width.max(height).max(SIDE_MAX));
    let bounded = |side: u32| {
        let side = u64::from(side) * u64::from(SIDE_MAX) / longest;
        u32::try_from(side).unwrap_or(SIDE_MAX).max(1).next_multiple_of(2)
    };
    (bounded(width), bounded(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(turn: Turn, size: Size) -> String {
        let (file, delays_ms, sizes) = ("a.mkv".to_owned(), Vec::new(), vec![size]);
        upright(&MuxInput { file, offset_ms: 500, duration_ms: 1, delays_ms, sizes, turn }, 0, None).join(",")
    }

    #[test]
    fn turned_pictures_stand_in_a_frame_that_holds_the_largest() {
        let frame = "scale=720:1280:force_original_aspect_ratio=decrease,pad=720:1280:-1:-1,setsar=1";
        assert_eq!(filters(Turn::All(3), (1_280, 720)), format!("transpose=cclock,{frame}"));
        assert_eq!(filters(Turn::None, (720, 1_280)), frame);
        let square = "scale=640:640:force_original_aspect_ratio=decrease,pad=640:640:-1:-1,setsar=1";
        let turns = Turn::Changing(vec![(0, 1), (2_000, 3)]);
        let wanted = format!("{square},rotate='PI/2*(0+gte(t,0.500)*(1)+gte(t,2.500)*(2))':ow=640:oh=640");
        assert_eq!(filters(turns, (640, 360)), wanted);
    }

    #[test]
    fn a_frame_is_no_larger_than_can_be_encoded_and_keeps_its_shape() {
        assert_eq!([(1_279, 719), (3_840, 2_160)].map(bounded), [(1_280, 720), (3_840, 2_160)]);
        assert_eq!([(5_120, 2_880), (16_383, 2)].map(bounded), [(3_840, 2_160), (3_840, 2)]);
        assert_eq!(bounded((u32::MAX, u32::MAX)), (SIDE_MAX, SIDE_MAX));
    }

    #[test]
    fn pictures_of_an_unknown_size_are_left_as_they_are() {
        assert_eq!(filters(Turn::Changing(vec![(0, 1)]), (0, 0)), "");
        assert_eq!(filters(Turn::All(1), (0, 0)), "transpose=clock");
    }
}
