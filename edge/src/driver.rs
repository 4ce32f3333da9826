//! Carries media: a thread and a UDP port per core.
mod datagrams;
mod sys;
