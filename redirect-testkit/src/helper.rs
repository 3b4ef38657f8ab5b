// SPDX-License-Identifier: MIT OR Apache-2.0
//! Helper processes: the test binary itself, started again as a worker or a guard.
//!
//! No separate binary has to be built or found, or be readable by a worker's uid: a helper is started as root,
//! and a worker drops its ids afterwards.

use std::{env, process::exit};

use anyhow::{Context as _, Result, bail};

use crate::{
    cleanup,
    command::HELPER,
    worker::{container, session},
};

/// Runs this process as a helper if it was started as one, and then never returns.
///
/// Call this first in `main`: identities can be changed only while there is a single thread.
#[expect(
    clippy::exit,
    reason = "a helper must not fall through into the caller's main"
)]
pub fn intercept() {
    let mut args = env::args_os().skip(1);
    if args.next().is_none_or(|mark| mark != HELPER) {
        return;
    }
    let words: Vec<String> = args
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match run_helper(&words) {
        Ok(()) => exit(0),
        Err(error) => {
            complain(&error);
            exit(1)
        }
    }
}

fn run_helper(words: &[String]) -> Result<()> {
    match words {
        [kind, list] if kind == "guard" => {
            cleanup::run(&serde_json::from_str(list).context("read the guard's list")?)
        }
        [kind, spec] if kind == "worker" => {
            session::run(&serde_json::from_str(spec).context("read the worker's identity")?)
        }
        [kind, start] if kind == "container" => {
            container::run(&serde_json::from_str(start).context("read the container's first dial")?)
        }
        [kind] if kind == "pause" => container::pause(),
        _ => bail!("start a helper: {HELPER} is for this kit's own use"),
    }
}

fn complain(error: &anyhow::Error) {
    use std::io::Write as _;
    // If standard error is closed, the message is lost.
    drop(writeln!(std::io::stderr(), "redirect-testkit: {error:#}"));
}
