//! Draining: the time for proxies to read the original destinations of their last redirected
//! connections.

use std::{thread, time::Duration};

use anyhow::Result;

use crate::sys::cgroup::{self, CgroupId};

/// The time for which a drained cgroup's programs still answer. Usually a redirected connection
/// takes less than a millisecond until its proxy has read the original destination.
const DRAIN_TIME: Duration = Duration::from_millis(200);

/// Waits if a process is in one of these cgroups, whose programs no longer decide but still answer.
///
/// A connection that was redirected just before may not have reached the proxy yet, or the proxy
/// may not have read its original destination yet. A proxy that gets no answer takes the connection
/// for one to itself and closes it. No event tells when every proxy has read its destinations.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no condition to wait for"
)]
pub(super) fn drain(cgroups: &[CgroupId]) -> Result<()> {
    let found = cgroup::find(cgroups)?;
    let mut folders = found.iter().flatten();
    if folders.any(|folder| cgroup::is_populated(folder).unwrap_or(true)) {
        thread::sleep(DRAIN_TIME);
    }
    Ok(())
}
