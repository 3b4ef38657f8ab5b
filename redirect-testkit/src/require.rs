// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requirements of tests that need a kernel: checks of the machine, and the choice between skip and failure.

use std::{env, num::NonZero, thread};

use anyhow::{Result, bail};
use rustix::process::geteuid;
use socket2::{Domain, Protocol, Socket, Type};

use crate::cgroup::unified_mount;

/// The variable that forbids skipping: if it is 1, a test that would be skipped fails. CI must not pass by skipping.
pub const REQUIRE_ALL: &str = "REDIRECT_REQUIRE_ALL";

/// The reason why pods cannot be made here, if they cannot. `programs` are further programs that a test runs.
pub fn missing(programs: &[&str]) -> Option<String> {
    if !geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if let Err(error) = unified_mount() {
        return Some(format!("{error:#}"));
    }
    ["ip"]
        .iter()
        .chain(programs)
        .find(|program| !is_in_path(program))
        .map(|program| format!("needs {program} in PATH"))
}

/// Does as [`missing`], but fails with the reason if [`REQUIRE_ALL`] is 1.
pub fn missing_or_fail(programs: &[&str]) -> Result<Option<String>> {
    skip_or_fail(missing(programs))
}

/// Returns the reason to skip tests, or fails with it if [`REQUIRE_ALL`] is 1.
pub fn skip_or_fail(reason: Option<String>) -> Result<Option<String>> {
    match reason {
        Some(reason) if env::var_os(REQUIRE_ALL).is_some_and(|value| value == "1") => {
            bail!("{reason}, and {REQUIRE_ALL}=1 forbids to skip")
        }
        reason => Ok(reason),
    }
}

/// The default number of tests that run at once: twice the number of processors, because a test mostly waits
/// for the kernel to release something, for answers, and for time-outs.
pub fn tests_at_once() -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    processors.saturating_mul(2)
}

/// The reason why multipath sockets cannot be made here, if they cannot.
pub fn no_multipath() -> Option<String> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP))
        .err()
        .map(|error| format!("needs multipath TCP (sysctl net.mptcp.enabled=1): {error}"))
}

fn is_in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
