//! Signaling: the WebSocket of API section 6.
mod frame;
