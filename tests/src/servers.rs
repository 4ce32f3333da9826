//! Servers of our making, for protocols that nobody has a server of: they speak the provider's wire protocol, keep bodies on disk,
//! and do wrong on purpose what a test asks for. And a gateway, by which a real server does wrong.

pub mod clock;
pub mod faults;
pub mod gateway;
pub mod serving;
pub mod vercel_blob;
