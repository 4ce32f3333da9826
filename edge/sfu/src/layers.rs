//! Which simulcast layer of which source a subscriber gets.
//!
//! | part | decides |
//! |---|---|
//! | [`share`] | how an estimate is divided among the sources: audio, then screens, then the speaker, then the others |
//! | [`switch`] | when a leg changes over to the layer it should have: at a keyframe of that layer |
//! | [`trial`] | which pictures to send although they do not fit, and until when |
//!
//! Must not know packets, SSRCs or how the estimate came about.

pub mod share;
pub mod switch;
pub mod trial;

use crate::codec::Size;

/// A simulcast layer, by its rid. A source without simulcast has only [`Layer::F`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// A quarter of the width.
    Q,
    /// Half of it.
    H,
    /// All of it.
    F,
}

impl Layer {
    /// From the lowest up.
    pub const ALL: [Self; 3] = [Self::Q, Self::H, Self::F];

    /// The layer of a rid; `None` for any but `q`, `h`, `f`.
    pub fn from_rid(rid: &str) -> Option<Self> {
        match rid {
            "q" => Some(Self::Q),
            "h" => Some(Self::H),
            "f" => Some(Self::F),
            _ => None,
        }
    }

    /// Its rid.
    pub fn rid(self) -> &'static str {
        match self {
            Self::Q => "q",
            Self::H => "h",
            Self::F => "f",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What a subscriber wants of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    No,
    /// This layer at most.
    UpTo(Layer),
}

/// Who comes first when there is not enough for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A shared screen: what the meeting is about.
    Screen,
    /// The camera of whoever speaks.
    Speaker,
    /// Any other camera.
    Other,
}

/// What is sent of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This layer.
    Send(Layer),
    /// Nothing: not wanted, nothing flows, or not even the lowest layer fits.
    Pause,
}

impl Choice {
    fn layer(self) -> Option<Layer> {
        match self {
            Self::Send(layer) => Some(layer),
            Self::Pause => None,
        }
    }
}

/// A layer that flows: packets came in the last interval. Without simulcast there is always one, also while a shared
/// screen stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// As measured.
    pub bitrate_bps: u64,
    /// Of its last keyframe, if that told it.
    pub size: Option<Size>,
}

/// A source as one subscriber sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// What the subscriber wants.
    pub wish: Wish,
    /// How important it is.
    pub rank: Rank,
    /// How large it is shown, if the subscriber told.
    pub tile: Option<Size>,
    /// The layers that flow, by [`Layer`] from the lowest.
    pub flows: [Option<Flow>; 3],
}

impl Source {
    fn flow(&self, layer: Layer) -> Option<Flow> {
        self.flows[layer.index()]
    }

    /// The lowest and the highest layer that may be sent.
    fn range(&self) -> Option<(Layer, Layer)> {
        let Wish::UpTo(most) = self.wish else { return None };
        let mut flowing = Layer::ALL.into_iter().filter(|layer| self.flow(*layer).is_some());
        let lowest = flowing.clone().next()?;
        let allowed = flowing.clone().rfind(|it| *it <= most).unwrap_or(lowest);
        let enough = flowing.find(|layer| self.fills_tile(*layer)).unwrap_or(Layer::F);
        Some((lowest, allowed.min(enough)))
    }

    /// Whether a layer is large enough that a larger one would not be seen. Compared by lines: rotation and cropping
    /// make widths differ.
    fn fills_tile(&self, layer: Layer) -> bool {
        let size = self.flow(layer).and_then(|it| it.size);
        matches!((self.tile, size), (Some(tile), Some(size)) if size.height >= tile.height)
    }
}
