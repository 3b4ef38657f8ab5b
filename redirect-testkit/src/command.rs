// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running other programs: `ip`, `iptables`, and this binary again.

use std::{
    ffi::OsStr,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// A command by name or path.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the testkit that starts programs"
)]
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    Command::new(name)
}

/// The first argument of a process that is to be a helper: a worker or a guard.
pub(crate) const HELPER: &str = "__probe";

/// This very binary as a helper, to be intercepted by [`crate::helper::intercept`].
///
/// Workers drop to uids that may be unable to read it; it is started as root and drops later.
pub(crate) fn helper(kind: &str, argument: &str) -> Result<Command> {
    let own = std::env::current_exe().context("finding our own binary")?;
    let mut command = program(own);
    command.args([HELPER, kind, argument]);
    Ok(command)
}

/// Runs `name` with `args`, feeds it `input`, and returns its standard output; any status but 0
/// is an error that quotes standard error.
pub(crate) fn output(name: &str, args: &[&str], input: &str) -> Result<String> {
    let shown = || format!("{name} {}", args.join(" "));
    let mut child = program(name)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{}`", shown()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails early closes its end; its own message says more than EPIPE.
        drop(stdin.write_all(input.as_bytes()));
    }
    let done = child
        .wait_with_output()
        .with_context(|| format!("waiting for `{}`", shown()))?;
    if !done.status.success() {
        bail!(
            "`{}` ended with {}: {}",
            shown(),
            done.status,
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
