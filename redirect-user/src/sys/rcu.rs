//! Waiting until no program can still use data that it read before.

use anyhow::{Context as _, Result};
use rustix::thread::{MembarrierCommand, membarrier};

/// Waits for an RCU grace period: every program run that began before the call has ended after it.
///
/// `MEMBARRIER_CMD_GLOBAL` is `synchronize_rcu` (kernel/sched/membarrier.c), since Linux 4.3.
pub fn grace_period() -> Result<()> {
    membarrier(MembarrierCommand::Global).context("wait for running BPF programs: membarrier")
}
