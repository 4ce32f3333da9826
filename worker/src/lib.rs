//! placeholder

pub mod assemble;
