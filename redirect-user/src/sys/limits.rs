//! The limits of this process (getrlimit(2)).

use std::{fs::File, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lifts the limit of locked memory, which maps and programs count against before Linux 5.11.
pub fn lift_locked_memory() -> Result<()> {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    setrlimit(Resource::Memlock, unlimited)
        .context("lift the limit of locked memory (RLIMIT_MEMLOCK), which BPF maps count against before Linux 5.11 (needs CAP_SYS_RESOURCE)")
}

/// Calls `act` while this process can open no further descriptor.
pub fn without_descriptors<T>(act: impl FnOnce() -> T) -> Result<T> {
    let before = getrlimit(Resource::Nofile);
    // The kernel gives the lowest free number.
    let free = File::open("/dev/null").context("find the next descriptor")?;
    let limit = Rlimit {
        current: Some(u64::try_from(free.as_raw_fd())?),
        ..before
    };
    drop(free);
    setrlimit(Resource::Nofile, limit).context("limit the descriptors")?;
    let done = act();
    setrlimit(Resource::Nofile, before).context("allow descriptors again")?;
    Ok(done)
}
