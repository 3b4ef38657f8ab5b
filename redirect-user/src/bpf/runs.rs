//! The runs of programs: how often they ran, and for how long.
//!
//! The kernel counts them only while somebody asks for it, because each run then reads the clock twice.

use std::{os::fd::OwnedFd, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use aya::{
    programs::ProgramInfo,
    sys::{Stats, enable_stats},
};
use redirect_common::hooks::Hook;

use super::{links, pins::Pins};

/// The runs of one program since it was loaded, while they were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// The number of runs.
    pub count: u64,
    /// The time of all runs together.
    pub time: Duration,
}

impl Runs {
    /// The runs since an earlier reading.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            count: self.count.saturating_sub(earlier.count),
            time: self.time.saturating_sub(earlier.time),
        }
    }
}

/// Has the kernel count the runs of all programs, as long as the result lives. Linux 5.8; needs `CAP_SYS_ADMIN`.
pub fn count_runs() -> Result<OwnedFd> {
    enable_stats(Stats::RunTime).context("count the runs of BPF programs (needs CAP_SYS_ADMIN)")
}

/// The runs of a pinned program.
pub fn program_runs(pins: &Pins, hook: Hook) -> Result<Runs> {
    Ok(runs(&links::info(pins, hook)?))
}

/// The runs of the program of a pinned link.
pub fn linked_program_runs(link: &Path) -> Result<Runs> {
    Ok(runs(&links::linked_info(link)?))
}

const fn runs(info: &ProgramInfo) -> Runs {
    Runs {
        count: info.run_count(),
        time: info.run_time(),
    }
}
