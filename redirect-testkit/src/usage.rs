// SPDX-License-Identifier: MIT OR Apache-2.0
//! The resource usage of a process, from proc(5).

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use rustix::param::clock_ticks_per_second;

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("read {path}"))
}

/// The resident memory of a process in bytes: `VmRSS` of its `status`.
pub fn resident_memory(pid: u32) -> Result<u64> {
    let status = read(pid, "status")?;
    let mut lines = status.lines();
    let kibibytes = lines
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .context("parse the status of a process: it has no VmRSS")?;
    Ok(kibibytes.trim().parse::<u64>()? << 10)
}

/// The processor time of a process, ended threads included: `utime` and `stime` of its `stat`, in clock ticks.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let stat = read(pid, "stat")?;
    // The name may contain any character. After it come the state, ten numbers, and then these two.
    let (_, fields) = stat
        .rsplit_once(") ")
        .context("parse the stat of a process: it has no name")?;
    let times = fields.split(' ').skip(11).take(2).map(str::parse::<u32>);
    let ticks = times.sum::<Result<u32, _>>()?;
    let second = u32::try_from(clock_ticks_per_second())?;
    Ok(Duration::from_secs(1) * ticks / second)
}
