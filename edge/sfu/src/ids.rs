//! Names of things. They must not know what the rest of the product calls them: the caller converts at its door.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the name as it is: whoever calls has checked it.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A call.
    RoomId
}
name! {
    /// A person in a call; one person may have several sessions. It becomes the stream id of their tracks.
    User
}
name! {
    /// The identification of a media section (RFC 8843, section 15).
    Mid
}

/// One session of one user, given by the caller and unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a track shows: the `kind` of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Medium {
    /// A microphone.
    Audio,
    /// A camera.
    Video,
    /// A shared screen.
    Screen,
    /// The sound of a shared screen.
    ScreenAudio,
}

impl Medium {
    /// Its name in track ids and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Screen => "screen",
            Self::ScreenAudio => "screen-audio",
        }
    }

    /// Whether pictures flow on it, for which keyframes have to be asked.
    pub fn is_picture(self) -> bool {
        matches!(self, Self::Video | Self::Screen)
    }
}
