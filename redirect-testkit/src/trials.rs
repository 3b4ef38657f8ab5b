// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests as the test programs with a `main` of their own run them: each is skipped, and says why, or run.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::require::tests_at_once;

/// A test; one with a reason is skipped and says so.
#[expect(clippy::print_stderr, reason = "where tests talk")]
pub fn trial(
    name: impl Into<String>,
    reason: Option<&String>,
    test: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    let name = name.into();
    if let Some(reason) = reason {
        eprintln!("{name} is skipped: {reason}");
    }
    let told = move || test().map_err(|error| Failed::from(format!("{error:#}")));
    Trial::test(name, told).with_ignored_flag(reason.is_some())
}

/// What `main` of a test program ends with. Runs tests as the command line says, and more at once than there are processors if it does not: see
/// [`tests_at_once`].
#[expect(clippy::print_stderr, reason = "where tests talk")]
pub fn run(trials: Result<Vec<Trial>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert_with(tests_at_once);
    match trials {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
