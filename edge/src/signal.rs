//! Signaling: the WebSocket of the API's section 6.
//!
//! This module must not know rooms' rules (`rooms`) or WebRTC: it reads frames, asks, and writes answers.
//!
//! | file | holds |
//! |---|---|
//! | `frame` | what frames mean |
//! | `fragment` | pieces of descriptions, of clients without a socket |
//! | `token` | who opens a socket |
//! | `socket` | one socket's life |

pub(crate) mod fragment;
pub(crate) mod frame;
pub(crate) mod socket;
pub(crate) mod token;
