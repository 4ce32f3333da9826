//! What processes hold, as the kernel counts it.

use anyhow::Context;

/// A process' share of memory in bytes (`Pss` of proc_pid_smaps(5)): what it shares with others is divided among them.
pub(crate) fn held(pid: u32) -> anyhow::Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("the kernel tells Pss")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
