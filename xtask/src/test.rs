//! `cargo xtask test`: every test of the workspace, those on real kernels and real proxies included.

use std::{
    env,
    io::{IsTerminal as _, stdout},
    process::Command,
};

use anyhow::Result;

use crate::{
    command::{self, cargo},
    setup::{self, Purpose},
    steps::Steps,
    workspace::{self, EBPF_PACKAGE},
};

/// Run all tests: unit tests, and tests with real pods, iptables, Envoy and haproxy.
///
/// Without root the tests that need a kernel skip themselves. Where the variable CI is set a skipped test is a
/// failure, so that a machine that cannot test does not look like one that did.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test
  cargo xtask test --filter excluded
  cargo xtask test -- --test-threads 1 --nocapture")]
pub(crate) struct Args {
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Arguments for the test programs
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

/// Sets up what is missing, compiles, runs, and says what each took.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !workspace::is_root() {
        println!("note: not root, so tests that attach BPF programs skip themselves");
    }
    let mut steps = Steps::default();
    let mut complaints = Complaints::default();
    if are_ready(&mut steps, Purpose::Test, &[]) {
        steps.step("run the tests", || {
            command::run_watched(&mut all_tests(args), |line| complaints.take(line))
        });
    }
    complaints.print();
    steps.finish()
}

/// What failed tests said: repeated at the end, where a long log is looked at first.
#[derive(Debug, Default)]
struct Complaints {
    lines: Vec<String>,
    is_inside: bool,
}

impl Complaints {
    /// A test program prints `---- name ----` and what the test said, and closes with lists.
    fn take(&mut self, line: &str) {
        if line.starts_with("---- ") {
            self.is_inside = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.is_inside = false;
        }
        if self.is_inside {
            self.lines.push(line.to_owned());
        }
    }

    fn print(&self) {
        if !self.lines.is_empty() {
            println!("\nWhat failed:\n\n{}", self.lines.join("\n").trim_end());
        }
    }
}

fn all_tests(args: &Args) -> Command {
    let mut test = on_host("test");
    // One failure must not hide the others: a CI run is too long to find them one by one.
    test.arg("--no-fail-fast").arg("--");
    // After the dashes, where documentation tests see it too: cargo's own filter leaves them out.
    test.args(&args.filter).args(&args.rest);
    if stdout().is_terminal() && !args.rest.iter().any(|arg| arg.starts_with("--color")) {
        // Theirs is a pipe.
        test.arg("--color=always");
    }
    if env::var_os("CI").is_some() {
        test.env("REDIRECT_REQUIRE_ALL", "1");
    }
    test
}

/// Sets up what is missing and compiles the tests that cargo chooses by these arguments; tells whether they can run.
pub(crate) fn are_ready(steps: &mut Steps, purpose: Purpose, chosen: &[&str]) -> bool {
    // The binaries are built on their own because `cargo test` builds only those of the package under test, and
    // tests start them as an operator would.
    steps.step("set up", || setup::ensure(purpose))
        && steps.step("build the binaries", || {
            command::run(on_host("build").arg("--bins"))
        })
        && steps.step("compile the tests", || {
            command::run(on_host("test").args(chosen).arg("--no-run"))
        })
}

/// A subcommand of cargo, for all but the BPF programs.
pub(crate) fn on_host(subcommand: &str) -> Command {
    cargo([subcommand, "--workspace", "--exclude", EBPF_PACKAGE])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_tests_said_is_kept_and_nothing_else() {
        let printed = "\
test one ... ok
test two ... FAILED

failures:

---- two ----
it broke

    here

failures:
    two

test result: FAILED. 1 passed; 1 failed
test three ... ok";
        let mut complaints = Complaints::default();
        printed.lines().for_each(|line| complaints.take(line));
        assert_eq!(
            complaints.lines,
            ["---- two ----", "it broke", "", "    here", ""]
        );
    }
}
