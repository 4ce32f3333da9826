//! What must hold when processes are killed, frozen and told to end, when the database goes away and when the disk is full:
//! nothing that was acknowledged is lost, everything is made once, and nothing is left lying about.
//!
//! Moments are found by what can be seen from outside (rows, files, processes) or held open by locks in the database, never by
//! time. What is random comes from a seed that is printed; `CHAOS_SEED` repeats a run.

mod database_away;
mod disk_full;
mod edge_killed;
mod edge_lost;
mod job_dead;
mod many;
mod moments;
mod result;
mod seed;
mod uploads;
mod worker_frozen;
mod worker_killed;
mod worker_told_to_end;
mod workshop;
