//! The limit of open files of this process.

use anyhow::{Context as _, Result};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files to its maximum. The usual limit, 1024, is for programs that use
/// `select(2)`; a process that follows a node's pods has several files open for each.
pub fn raise_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raise the limit of open files (RLIMIT_NOFILE)")
}
