//! Behaviour of the capture on real files.
