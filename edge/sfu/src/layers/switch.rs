//! Changes a leg over to the layer it should have, without a broken picture: the old layer is sent until a keyframe
//! of the new one begins.
//!
//! Going to nothing needs no keyframe and happens at once. If the old layer stops flowing while the new one's keyframe
//! is awaited, nothing is sent meanwhile. Must not know bitrates, SSRCs or how a keyframe is asked for.

use super::{Choice, Layer};
use crate::codec::Look;

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send it.
    Forward,
    /// Follow its layer from this packet on, and send it.
    Change,
    /// It is of another layer, or nothing is sent: not a gap of the leg.
    Ignore,
}

/// What to ask the publisher for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A keyframe of this layer.
    Keyframe(Layer),
}

/// The state of one leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Nothing is sent, nothing is awaited.
    Paused,
    /// Nothing is sent until a keyframe of this layer.
    Starting(Layer),
    /// This layer is sent.
    Steady(Layer),
    /// The first is sent until a keyframe of the second.
    Changing(Layer, Layer),
}

impl Switch {
    /// Takes a new aim. What is needed is to be asked for again whenever this is called while a keyframe is awaited:
    /// requests are merged elsewhere.
    pub fn aim(&mut self, choice: Choice) -> Need {
        let (state, need) = match (*self, choice) {
            (_, Choice::Pause) => (Self::Paused, Need::Nothing),
            (Self::Paused | Self::Starting(_), Choice::Send(to)) => (Self::Starting(to), Need::Keyframe(to)),
            (Self::Steady(is) | Self::Changing(is, _), Choice::Send(to)) if is == to => {
                (Self::Steady(is), Need::Nothing)
            }
            (Self::Steady(is) | Self::Changing(is, _), Choice::Send(to)) => {
                (Self::Changing(is, to), Need::Keyframe(to))
            }
        };
        *self = state;
        need
    }

    /// Judges a packet.
    pub fn packet(&mut self, layer: Layer, look: &Look) -> Step {
        match *self {
            Self::Starting(to) | Self::Changing(_, to) if layer == to && look.is_keyframe() => {
                *self = Self::Steady(to);
                Step::Change
            }
            Self::Steady(is) | Self::Changing(is, _) if layer == is => Step::Forward,
            _ => Step::Ignore,
        }
    }

    /// The subscriber lost a picture: which keyframe helps.
    pub fn lost(&self) -> Need {
        match *self {
            Self::Paused => Need::Nothing,
            Self::Steady(layer) | Self::Starting(layer) | Self::Changing(_, layer) => Need::Keyframe(layer),
        }
    }

    /// A source's streams began anew (other SSRCs): what is sent now needs a keyframe first.
    pub fn restart(&mut self) -> Need {
        let aim = self.target();
        *self = Self::Paused;
        self.aim(aim)
    }

    /// The layer that is sent.
    pub fn current(&self) -> Option<Layer> {
        match *self {
            Self::Steady(layer) | Self::Changing(layer, _) => Some(layer),
            Self::Paused | Self::Starting(_) => None,
        }
    }

    /// The layer that is or will be sent.
    pub fn target(&self) -> Choice {
        match *self {
            Self::Paused => Choice::Pause,
            Self::Steady(layer) | Self::Starting(layer) | Self::Changing(_, layer) => Choice::Send(layer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Starts;
    use crate::testing::Random;

    const KEY: Look = Look { starts: Starts::Keyframe(None), ..Look::ORDINARY };

    #[test]
    fn a_change_waits_for_the_targets_keyframe() {
        let mut leg = Switch::Steady(Layer::Q);
        assert_eq!(leg.aim(Choice::Send(Layer::F)), Need::Keyframe(Layer::F));
        assert_eq!(leg.packet(Layer::F, &Look::ORDINARY), Step::Ignore);
        assert_eq!(leg.packet(Layer::H, &KEY), Step::Ignore);
        assert_eq!(leg.packet(Layer::Q, &Look::ORDINARY), Step::Forward);
        assert_eq!(leg.packet(Layer::F, &KEY), Step::Change);
        assert_eq!(leg.packet(Layer::F, &KEY), Step::Forward, "a second packet that counts as a beginning");
        assert_eq!(leg.packet(Layer::Q, &Look::ORDINARY), Step::Ignore);
    }

    #[test]
    fn a_change_of_mind_keeps_what_is_sent() {
        let mut leg = Switch::Changing(Layer::Q, Layer::F);
        assert_eq!(leg.aim(Choice::Send(Layer::Q)), Need::Nothing);
        assert_eq!(leg, Switch::Steady(Layer::Q));
    }

    #[test]
    fn a_pause_is_at_once_and_its_end_needs_a_keyframe() {
        let mut leg = Switch::Steady(Layer::H);
        assert_eq!(leg.aim(Choice::Pause), Need::Nothing);
        assert_eq!(leg.packet(Layer::H, &KEY), Step::Ignore);
        assert_eq!(leg.aim(Choice::Send(Layer::H)), Need::Keyframe(Layer::H));
        assert_eq!(leg.packet(Layer::H, &Look::ORDINARY), Step::Ignore);
        assert_eq!(leg.packet(Layer::H, &KEY), Step::Change);
    }

    #[test]
    fn new_streams_of_a_source_need_a_keyframe() {
        let mut leg = Switch::Changing(Layer::H, Layer::F);
        assert_eq!(leg.restart(), Need::Keyframe(Layer::F));
        assert_eq!(leg.current(), None);
        assert_eq!(Switch::Paused.restart(), Need::Nothing);
    }

    #[test]
    fn no_layer_is_ever_sent_that_did_not_begin_with_a_keyframe() {
        let (mut random, mut leg, mut decodable) = (Random::seeded(1), Switch::Paused, None);
        for _ in 0..100_000 {
            let layer = Layer::ALL[random.below(3) as usize];
            if random.chance(10.0) {
                leg.aim(if random.chance(20.0) { Choice::Pause } else { Choice::Send(layer) });
                decodable = decodable.filter(|_| leg.current().is_some());
                continue;
            }
            let look = if random.chance(20.0) { KEY } else { Look::ORDINARY };
            match leg.packet(layer, &look) {
                Step::Change => {
                    assert!(look.is_keyframe());
                    decodable = Some(layer);
                }
                Step::Forward => assert_eq!(decodable, Some(layer)),
                Step::Ignore => {}
            }
        }
    }
}
