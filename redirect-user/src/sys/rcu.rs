//! Waiting until no program can still use data that it read before.

use anyhow::{Context as _, Result};
use rustix::thread::{MembarrierCommand, membarrier};

/// Waits for an RCU grace period: every program run that began before the call has ended after it.
///
/// `MEMBARRIER_CMD_GLOBAL` (Linux 4.3) calls `synchronize_rcu` if more than one CPU is online
/// (kernel/sched/membarrier.c). With one CPU it returns at once, which is enough only without
/// `CONFIG_PREEMPT_RCU`.
pub fn grace_period() -> Result<()> {
    membarrier(MembarrierCommand::Global).context("wait for running BPF programs: membarrier")
}
