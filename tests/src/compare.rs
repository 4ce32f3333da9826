//! How a file differs from what the browser recorded, packet by packet: payloads by their hash, times in milliseconds.

use std::collections::HashMap;

use crate::probe::Packet;

/// Two times that are no more than this apart are the same: containers round to a millisecond, each for itself.
pub const SAME_MS: f64 = 1.01;

/// How an output differs from a reference.
#[derive(Debug, Default)]
pub struct Compared {
    /// How many packets are there, at their time.
    pub kept: usize,
    /// Those that are not there.
    pub missing: Vec<Packet>,
    /// Those that are there at another time: wanted and found, milliseconds.
    pub mistimed: Vec<(f64, f64)>,
    /// How many packets the output has that the reference does not.
    pub foreign: usize,
}

impl Compared {
    /// The span of what is missing: from its first packet to the end of its last, milliseconds. None when nothing is.
    #[must_use]
    pub fn missing_span_ms(&self) -> Option<(f64, f64)> {
        let from = self.missing.iter().map(|packet| packet.ms).reduce(f64::min)?;
        let to = self.missing.iter().map(|packet| packet.ms + packet.lasts_ms).reduce(f64::max)?;
        Some((from, to))
    }
}

/// Compares an output with a reference.
#[must_use]
pub fn compare(wanted: &[Packet], found: &[Packet]) -> Compared {
    let mut times: HashMap<(&str, &str), Vec<f64>> = HashMap::new();
    for packet in found {
        times.entry((&packet.kind, &packet.hash)).or_default().push(packet.ms);
    }
    let mut result = Compared::default();
    // Payloads that repeat, as silence does, are matched by time first.
    let mut unmatched = Vec::new();
    for packet in wanted {
        let same = times.get_mut(&(packet.kind.as_str(), packet.hash.as_str()));
        let near = same.and_then(|same| {
            let at = same.iter().position(|ms| (ms - packet.ms).abs() <= SAME_MS)?;
            Some(same.swap_remove(at))
        });
        match near {
            Some(_) => result.kept += 1,
            None => unmatched.push(packet),
        }
    }
    for packet in unmatched {
        match times.get_mut(&(packet.kind.as_str(), packet.hash.as_str())).and_then(Vec::pop) {
            Some(ms) => result.mistimed.push((packet.ms, ms)),
            None => result.missing.push(packet.clone()),
        }
    }
    result.foreign = times.values().map(Vec::len).sum();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ms: f64, hash: &str) -> Packet {
        Packet {
            kind: "audio".to_owned(),
            ms,
            lasts_ms: 20.0,
            hash: hash.to_owned(),
            key: true,
            size: 1,
            at: 0,
        }
    }

    #[test]
    fn what_is_missing_moved_or_new_is_told_apart() {
        let wanted = [packet(0.0, "a"), packet(20.0, "b"), packet(40.0, "c"), packet(60.0, "a")];
        let found = [packet(0.4, "a"), packet(1_040.0, "c"), packet(60.0, "a"), packet(80.0, "d")];
        let compared = compare(&wanted, &found);
        assert_eq!((compared.kept, compared.foreign), (2, 1));
        assert_eq!(compared.mistimed, [(40.0, 1_040.0)]);
        assert_eq!(compared.missing_span_ms(), Some((20.0, 40.0)));
    }
}
