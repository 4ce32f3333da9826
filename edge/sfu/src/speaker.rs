//! Who speaks: from the audio levels in RTP header extensions (RFC 6464), without decoding.
//!
//! Each participant's loudness is smoothed; somebody else takes over only after having been clearly louder than the
//! active speaker for [`TAKE_OVER`], or sooner once the active one fell silent. When nobody speaks the last speaker stays:
//! faces do not jump in a pause. Packets that do not come (DTX) and muted microphones count as silence.
//! Must not know rooms, signaling or RTP headers: the caller gives the level's byte.

use std::hash::Hash;
use std::time::{Duration, Instant};

/// Loudness is smoothed with this time constant: a syllable, so that a cough is less than a word.
const SMOOTHING: Duration = Duration::from_millis(250);

/// Louder than this is speech: in dB above digital silence (-127 dBov). Rooms are below -55 dBov, speech above -45.
pub const SPEECH: f64 = 75.0;

/// A challenger has to be this much louder than an active speaker who speaks, in dB.
pub const MARGIN: f64 = 3.0;

/// For this long without a break, while the active speaker speaks.
pub const TAKE_OVER: Duration = Duration::from_millis(800);

/// For this long, once the active speaker is silent.
pub const TAKE_FLOOR: Duration = Duration::from_millis(200);

/// Without a packet for this long, silence: six packets of 20 ms. DTX sends one in 400 ms (RFC 7587 3.1.3).
pub const DTX: Duration = Duration::from_millis(120);

/// How often [`Speakers::timeout`] wants to be called while anyone speaks or fades.
pub const TICK: Duration = Duration::from_millis(100);

/// Largest number of participants: a room's, with room to spare. More are not considered.
pub const MAX_PARTICIPANTS: usize = 256;

/// Whether a microphone is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Microphone {
    /// Heard.
    On,
    /// Counts as silent, whatever comes.
    Muted,
}

#[derive(Debug)]
struct Voice<K> {
    key: K,
    loudness: f64,
    heard: Instant,
    updated: Instant,
    microphone: Microphone,
}

#[derive(Debug)]
struct Challenge<K> {
    key: K,
    since: Instant,
}

/// The voices of one room. `K` names a participant.
#[derive(Debug)]
pub struct Speakers<K> {
    voices: Vec<Voice<K>>,
    active: Option<K>,
    challenge: Option<Challenge<K>>,
    next_tick: Option<Instant>,
}

impl<K> Default for Speakers<K> {
    fn default() -> Self {
        Self { voices: Vec::new(), active: None, challenge: None, next_tick: None }
    }
}

impl<K: Clone + Eq + Hash> Speakers<K> {
    /// Who speaks, or spoke last.
    pub fn active(&self) -> Option<&K> {
        self.active.as_ref()
    }

    /// A packet's level: the extension's byte, of which the lower 7 bits are -dBov (0 loudest, 127 silence).
    pub fn heard(&mut self, now: Instant, key: &K, level: u8) {
        let loudness = 127.0 - f64::from(level & 0x7f);
        if let Some(voice) = self.voices.iter_mut().find(|it| it.key == *key) {
            voice.fade(now);
            voice.towards(loudness, now);
            voice.heard = now;
        } else if self.voices.len() < MAX_PARTICIPANTS {
            let (key, microphone) = (key.clone(), Microphone::On);
            self.voices.push(Voice { key, loudness: 0.0, heard: now, updated: now, microphone });
        }
        self.next_tick.get_or_insert(now + TICK);
    }

    /// A microphone was switched, perhaps before anything was heard of it.
    pub fn switch(&mut self, now: Instant, key: &K, microphone: Microphone) {
        if let Some(voice) = self.voices.iter_mut().find(|it| it.key == *key) {
            voice.microphone = microphone;
            voice.loudness = 0.0;
            voice.updated = now;
        } else if self.voices.len() < MAX_PARTICIPANTS {
            self.voices.push(Voice { key: key.clone(), loudness: 0.0, heard: now, updated: now, microphone });
        }
        self.next_tick.get_or_insert(now + TICK);
    }

    /// A participant left. The new active speaker, `None` for nobody, if that changed.
    pub fn left(&mut self, key: &K) -> Option<Option<K>> {
        self.voices.retain(|it| it.key != *key);
        if self.challenge.as_ref().is_some_and(|it| it.key == *key) {
            self.challenge = None;
        }
        self.active.take_if(|it| it == key).map(|_| None)
    }

    /// When [`Self::timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_tick
    }

    /// Judges. Gives the new active speaker if it changed.
    pub fn timeout(&mut self, now: Instant) -> Option<K> {
        if self.next_tick.is_none_or(|due| now < due) {
            return None;
        }
        for voice in &mut self.voices {
            voice.fade(now);
        }
        let anyone = self.voices.iter().any(|it| it.loudness > 1.0);
        self.next_tick = anyone.then(|| now + TICK);
        self.judge(now)
    }

    fn judge(&mut self, now: Instant) -> Option<K> {
        let active = self.active.as_ref().and_then(|key| self.voices.iter().find(|it| it.key == *key));
        let spoken = active.map_or(0.0, Voice::audible);
        let (bar, wait) = if spoken >= SPEECH { (spoken + MARGIN, TAKE_OVER) } else { (SPEECH, TAKE_FLOOR) };
        let loudest = self
            .voices
            .iter()
            .filter(|it| self.active.as_ref() != Some(&it.key) && it.audible() >= bar)
            .max_by(|a, b| a.audible().total_cmp(&b.audible()));
        let Some(loudest) = loudest else {
            self.challenge = None;
            return None;
        };
        let key = loudest.key.clone();
        // Whoever challenged first keeps the place while above the bar, so that two loud ones do not hinder each other.
        let challenger = self
            .challenge
            .take()
            .filter(|challenge| self.voices.iter().any(|it| it.key == challenge.key && it.audible() >= bar));
        let challenge = challenger.unwrap_or(Challenge { key, since: now });
        if now.saturating_duration_since(challenge.since) < wait {
            self.challenge = Some(challenge);
            return None;
        }
        self.active = Some(challenge.key.clone());
        Some(challenge.key)
    }
}

impl<K> Voice<K> {
    /// Smoothed loudness in dB above silence.
    fn audible(&self) -> f64 {
        match self.microphone {
            Microphone::On => self.loudness,
            Microphone::Muted => 0.0,
        }
    }

    /// Moves towards a loudness that held since the last update.
    fn towards(&mut self, loudness: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        let weight = 1.0 - (-passed / SMOOTHING.as_secs_f64()).exp();
        self.loudness += (loudness - self.loudness) * weight;
        self.updated = now;
    }

    /// Counts the time without packets as silence.
    fn fade(&mut self, now: Instant) {
        if now.saturating_duration_since(self.heard) > DTX {
            self.towards(0.0, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// Feeds 20 ms packets for so long: `levels` gives the byte of each participant, `None` for no packet.
    fn hear(
        speakers: &mut Speakers<u8>,
        from: Instant,
        ms: u32,
        mut levels: impl FnMut(u8) -> Option<u8>,
    ) -> (Vec<u8>, Instant) {
        let (mut changes, mut now) = (Vec::new(), from);
        for _ in 0..ms / 20 {
            now += Duration::from_millis(20);
            for key in 0..4 {
                if let Some(level) = levels(key) {
                    speakers.heard(now, &key, level);
                }
            }
            changes.extend(speakers.timeout(now));
        }
        (changes, now)
    }

    #[test]
    fn whoever_speaks_becomes_active_and_stays_in_a_pause() {
        let mut speakers = Speakers::default();
        let (changes, now) =
            hear(&mut speakers, Instant::now(), 1_000, |key| Some(if key == 2 { 30 } else { 90 }));
        assert_eq!(changes, [2]);
        let (changes, _) = hear(&mut speakers, now, 20_000, |_| Some(90));
        assert_eq!(changes, []);
        assert_eq!(speakers.active(), Some(&2));
    }

    #[test]
    fn a_cough_does_not_take_over() {
        let mut speakers = Speakers::default();
        let (_, now) = hear(&mut speakers, Instant::now(), 1_000, |key| (key == 1).then_some(35));
        let (changes, now) = hear(&mut speakers, now, 300, |key| Some(if key == 2 { 10 } else { 35 }));
        assert_eq!(changes, []);
        let (changes, _) = hear(&mut speakers, now, 2_000, |key| Some(if key == 1 { 35 } else { 90 }));
        assert_eq!(changes, []);
    }

    #[test]
    fn dtx_is_silence_and_gives_the_floor() {
        let mut speakers = Speakers::default();
        let (_, now) = hear(&mut speakers, Instant::now(), 1_000, |key| (key == 1).then_some(20));
        let (changes, _) = hear(&mut speakers, now, 1_000, |key| (key == 3).then_some(45));
        assert_eq!(changes, [3]);
    }

    #[test]
    fn the_muted_are_not_heard() {
        let mut speakers = Speakers::default();
        let now = Instant::now();
        speakers.switch(now, &1, Microphone::Muted);
        let (changes, now) = hear(&mut speakers, now, 2_000, |key| (key == 1).then_some(5));
        assert_eq!(changes, []);
        speakers.switch(now, &1, Microphone::On);
        assert_eq!(hear(&mut speakers, now, 1_000, |key| (key == 1).then_some(5)).0, [1]);
    }

    #[test]
    fn two_equally_loud_ones_do_not_flap() {
        let (mut speakers, mut random) = (Speakers::default(), Random::seeded(2));
        let (changes, _) =
            hear(&mut speakers, Instant::now(), 60_000, |key| (key < 2).then(|| 30 + random.below(16) as u8));
        assert!(changes.len() <= 3, "{changes:?}");
    }

    #[test]
    fn noise_is_nobody_and_costs_no_timer_when_it_ends() {
        let (mut speakers, mut random) = (Speakers::default(), Random::seeded(4));
        let (changes, now) =
            hear(&mut speakers, Instant::now(), 10_000, |_| Some(56 + random.below(40) as u8));
        assert_eq!(changes, []);
        hear(&mut speakers, now, 5_000, |_| None);
        assert_eq!(speakers.poll_timeout(), None);
    }

    #[test]
    fn the_active_speaker_leaves() {
        let mut speakers = Speakers::default();
        hear(&mut speakers, Instant::now(), 1_000, |key| (key == 1).then_some(20));
        assert_eq!(speakers.left(&0), None);
        assert_eq!(speakers.left(&1), Some(None));
        assert_eq!(speakers.active(), None);
    }
}
