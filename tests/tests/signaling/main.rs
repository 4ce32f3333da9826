//! Signaling against the real edge: who is let in, what frames do, who is told what, and what the rows say of it.

mod frames;
mod life;
mod limits;
mod outage;
mod seats;
mod upgrade;
