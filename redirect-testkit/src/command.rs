// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands that run other programs: `ip`, `iptables`, and this binary as a helper.

use std::{
    ffi::OsStr,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Makes a command for a program, by name or path.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the testkit that starts programs"
)]
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    Command::new(name)
}

/// The first argument of a helper process: a worker or a guard.
pub(crate) const HELPER: &str = "__probe";

/// Makes a command for this binary as a helper, which [`crate::helper::intercept`] intercepts.
///
/// The binary is started as root: a worker's uid may be unable to read it, so the worker drops its ids later.
pub(crate) fn helper(kind: &str, argument: &str) -> Result<Command> {
    let own = std::env::current_exe().context("find this binary")?;
    let mut command = program(own);
    command.args([HELPER, kind, argument]);
    Ok(command)
}

/// Runs a program with `input` as its standard input, and returns its standard output. Any status but 0 is
/// an error that quotes standard error.
pub(crate) fn output(name: &str, args: &[&str], input: &str) -> Result<String> {
    let shown = || format!("{name} {}", args.join(" "));
    let mut child = program(name)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{}`", shown()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails early closes its input. Its own message says more than EPIPE.
        drop(stdin.write_all(input.as_bytes()));
    }
    let done = child
        .wait_with_output()
        .with_context(|| format!("wait for `{}`", shown()))?;
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
