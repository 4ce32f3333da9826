//! What encodes, and how fast.

/// What encodes video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoEncoder {
    /// VP8.
    Libvpx,
    /// VP9.
    LibvpxVp9,
    /// H.264.
    Libx264,
}

impl VideoEncoder {
    /// FFmpeg's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Libvpx => "libvpx",
            Self::LibvpxVp9 => "libvpx-vp9",
            Self::Libx264 => "libx264",
        }
    }

    /// Settings that keep up with real time on one core: VP8 at `-cpu-used 8` was slower than that, at 16 three times faster.
    #[must_use]
    pub fn speed(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Libvpx => [("deadline", "realtime"), ("cpu-used", "16")],
            Self::LibvpxVp9 => [("deadline", "realtime"), ("cpu-used", "8")],
            Self::Libx264 => [("preset", "veryfast"), ("profile", "high")],
        }
    }
}

/// What encodes audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioEncoder {
    /// Opus.
    Libopus,
    /// AAC.
    Aac,
}

impl AudioEncoder {
    /// FFmpeg's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Libopus => "libopus",
            Self::Aac => "aac",
        }
    }
}
