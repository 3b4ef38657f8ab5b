//! Giving proxies the time to ask about what was redirected last.

use std::{thread, time::Duration};

use anyhow::Result;

use crate::sys::cgroup::{self, CgroupId};

/// How long a redirected connection may take until its proxy knows where it was to go: usually that is less than a
/// millisecond.
const PATIENCE: Duration = Duration::from_millis(200);

/// Waits, if somebody lives in one of these cgroups, whose programs decide no more but answer still.
///
/// What was redirected just before has not come to the proxy yet, or the proxy has not asked yet where it was to
/// go. Whoever asked in vain would take it for a connection to itself, and close it. Nothing tells when all have
/// asked.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no condition to wait for"
)]
pub(super) fn drain(cgroups: &[CgroupId]) -> Result<()> {
    let found = cgroup::find(cgroups)?;
    let mut folders = found.iter().flatten();
    if folders.any(|folder| cgroup::is_populated(folder).unwrap_or(true)) {
        thread::sleep(PATIENCE);
    }
    Ok(())
}
