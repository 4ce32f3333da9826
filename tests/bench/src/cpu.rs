//! What processes have used, as the kernel counts it.

use std::time::Duration;

use anyhow::Context;

/// The length of the kernel's tick in `/proc/PID/stat`, in milliseconds: `USER_HZ` is 100 on every Linux that Rust runs on.
const TICK_MS: u64 = 10;
/// Where `utime` stands after the name in parentheses (proc(5), fields 14 and 15).
const UTIME: usize = 11;

/// CPU time that a process has used so far, all its threads together; its own and the kernel's work for it.
pub(crate) fn used(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("a process has a name in parentheses")?;
    let ticks: Vec<u64> =
        after_name.split_whitespace().skip(UTIME).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * TICK_MS))
}
