// SPDX-License-Identifier: MIT OR Apache-2.0
//! The other half of this kit: what a binary does when it was started as a worker or a guard.
//!
//! Workers are the test binary itself, so no helper binary has to be built, found, or be readable
//! by the uids workers take: it is started as root, and the worker drops its ids afterwards.

use std::{env, process::exit};

use anyhow::{Context as _, Result, bail};

use crate::{
    cleanup,
    command::HELPER,
    worker::{container, session},
};

/// Becomes a worker or a guard if this process was started as one, and never returns then.
///
/// Call it first in `main`: identities can be changed only while there is a single thread.
#[expect(
    clippy::exit,
    reason = "an intercepted process must not fall through into the caller's main"
)]
pub fn intercept() {
    let mut args = env::args_os().skip(1);
    if args.next().is_none_or(|mark| mark != HELPER) {
        return;
    }
    let words: Vec<String> = args
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match become_helper(&words) {
        Ok(()) => exit(0),
        Err(error) => {
            complain(&error);
            exit(1)
        }
    }
}

fn become_helper(words: &[String]) -> Result<()> {
    match words {
        [kind, list] if kind == "guard" => {
            cleanup::run(&serde_json::from_str(list).context("reading the guard's list")?)
        }
        [kind, entry] if kind == "worker" => {
            session::run(&serde_json::from_str(entry).context("reading the worker's identity")?)
        }
        [kind, entry] if kind == "container" => {
            container::run(&serde_json::from_str(entry).context("reading what to do first")?)
        }
        [kind] if kind == "pause" => container::pause(),
        _ => bail!("{HELPER} is for this kit's own use"),
    }
}

fn complain(error: &anyhow::Error) {
    use std::io::Write as _;
    // Nobody is left to tell if even standard error is closed.
    drop(writeln!(std::io::stderr(), "redirect-testkit: {error:#}"));
}
