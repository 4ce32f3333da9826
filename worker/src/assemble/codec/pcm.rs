//! Samples as 32-bit floats, which Chromium writes for `codecs=pcm`: the layout of a track whose header is lost.

/// Packets that must look like samples.
const MIN_PACKETS: usize = 4;

/// The loudest sample believed in; full scale is 1.
const LOUDEST: f32 = 16.0;

/// Sample rates that browsers record with, hertz.
const RATES: [usize; 6] = [48_000, 44_100, 96_000, 32_000, 16_000, 8_000];

/// How far packets' times may be off together: one part in this many.
const TIMES_WITHIN: usize = 5;

/// Sample rate and channels of a track, from its packets: (milliseconds, payload), in order. `None` if they are no samples.
pub(crate) fn layout<'a>(mut packets: impl Iterator<Item = (i64, &'a [u8])> + Clone) -> Option<(usize, u8)> {
    let count = packets.clone().count();
    let (first_ms, first) = packets.next()?;
    let samples = first.len() / 4;
    let even = packets.clone().filter(|(_, data)| data.len() == first.len()).count() + 1;
    let whole = first.len() % 4 == 0 && samples > 0 && even * 8 >= count * 7;
    if count < MIN_PACKETS
        || !whole
        || !std::iter::once(first).chain(packets.clone().map(|(_, data)| data)).all(are_samples)
    {
        return None;
    }
    let span_ms = usize::try_from(packets.last()?.0 - first_ms).ok().filter(|ms| *ms > 0)?;
    let per_second = samples * (count - 1) * 1_000 / span_ms;
    let fits = |layout: &(usize, u8)| per_second.abs_diff(values(layout)) <= values(layout) / TIMES_WITHIN;
    let all = || RATES.into_iter().flat_map(|rate| [(rate, 1), (rate, 2)]).filter(fits);
    // Browsers pass sound on by the hundredth of a second.
    let by_length = all().find(|layout| values(layout) == samples * 100);
    by_length.or_else(|| all().min_by_key(|layout| per_second.abs_diff(values(layout))))
}

/// Values a second.
fn values((rate, channels): &(usize, u8)) -> usize {
    rate * usize::from(*channels)
}

fn are_samples(data: &[u8]) -> bool {
    data.chunks_exact(4).all(|bytes| {
        let sample = f32::from_le_bytes(bytes.try_into().unwrap_or_default());
        // The smallest numbers are as good as none: bytes of something else are full of them.
        sample == 0.0 || (sample.is_normal() && (1e-12..=LOUDEST).contains(&sample.abs()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(samples: usize, value: impl Fn(usize) -> f32) -> Vec<Vec<u8>> {
        (0..8)
            .map(|packet| (0..samples).flat_map(|n| value(packet * samples + n).to_le_bytes()).collect())
            .collect()
    }

    fn every_ten_ms(packets: &[Vec<u8>]) -> Option<(usize, u8)> {
        layout((0..).step_by(10).zip(packets.iter().map(Vec::as_slice)))
    }

    #[test]
    fn samples_tell_their_rate_and_channels() {
        let sine = |n: usize| (n as f32 / 17.0).sin();
        assert_eq!(every_ten_ms(&packets(480, sine)), Some((48_000, 1)));
        assert_eq!(every_ten_ms(&packets(960, sine)), Some((48_000, 2)));
        assert_eq!(every_ten_ms(&packets(441, |_| 0.0)), Some((44_100, 1)));
    }

    #[test]
    fn other_bytes_are_no_samples() {
        let noise: Vec<Vec<u8>> =
            (0..8u8).map(|n| (0..240u32).map(|at| (at * 97 + u32::from(n) * 31) as u8).collect()).collect();
        assert_eq!(every_ten_ms(&noise), None);
    }
}
