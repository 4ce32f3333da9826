//! The forwarding of a call, without a socket, clock or file.
