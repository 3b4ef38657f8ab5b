//! `cargo xtask test`: every test of the workspace, also those with real kernels and real proxies.

use std::{
    env,
    io::{IsTerminal as _, stdout},
    process::Command,
};

use anyhow::Result;

use crate::{
    command::{self, cargo},
    kernels::{self, Series},
    setup::{self, Purpose},
    steps::Steps,
    suites::{self, Choice},
    workspace::{self, EBPF_PACKAGE},
};

/// Run all tests: unit tests, and tests with real pods, iptables, Envoy and haproxy.
///
/// Without root, tests that need a kernel are skipped. If the variable CI is set, a skipped test is a failure, so that
/// a machine that cannot test does not look like one that did.
///
/// With --filter, only the test suites that may contain such a test are built: those in whose sources the text is part
/// of the name of the suite, of a module or of a function. The other suites and the documentation tests are left out
/// and named. If no suite has such a name, all are built.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test
  cargo xtask test --filter excluded
  cargo xtask test --kernel 5.10,newest --filter ports
  cargo xtask test -- --test-threads 1 --nocapture")]
pub(crate) struct Args {
    /// Run only tests with this text in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Run tests of the programs in these kernels instead, in machines of QEMU: a choice, or those of the filter (root)
    #[arg(long, value_enum, value_name = "SERIES", value_delimiter = ',')]
    kernel: Vec<Series>,

    /// Keep the results of a whole run in docs/kernels
    #[arg(long, requires = "kernel", conflicts_with = "filter")]
    record: bool,

    /// Arguments for the test programs
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

/// Sets up what is missing, compiles, runs, and prints the time of each step.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !args.kernel.is_empty() {
        return kernels::run(&args.kernel, args.filter.as_ref(), &args.rest, args.record);
    }
    if !workspace::is_root() {
        println!("note: not root, so tests that attach BPF programs are skipped");
    }
    let choice = match &args.filter {
        Some(filter) => suites::choose(&suites::read()?, filter),
        None => Choice::default(),
    };
    print_choice(args, &choice);
    let mut steps = Steps::default();
    let mut failures = FailureText::default();
    if are_ready(&mut steps, Purpose::Test, &mut test_command(&choice)) {
        steps.step("run the tests", || {
            let mut test = test_command(&choice);
            command::run_watched(with_test_arguments(&mut test, args), |line| {
                failures.read(line);
            })
        });
    }
    failures.print();
    steps.finish()
}

fn print_choice(args: &Args, choice: &Choice) {
    let Some(filter) = &args.filter else {
        return;
    };
    if choice.left_out.is_empty() {
        println!("note: all suites are built: none, or all, have \"{filter}\" in a name");
    } else {
        let left_out = choice.left_out.join(", ");
        println!("note: left out, without \"{filter}\" in a name: {left_out}, documentation tests");
    }
}

/// The output of failed tests. It is repeated at the end, where a reader looks first in a long log.
#[derive(Debug, Default)]
struct FailureText {
    lines: Vec<String>,
    is_inside: bool,
}

impl FailureText {
    /// Reads a line. A test program prints `---- name ----` and the output of the test, and closes with lists.
    fn read(&mut self, line: &str) {
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
            println!("\nFailures:\n\n{}", self.lines.join("\n").trim_end());
        }
    }
}

/// `cargo test` for the chosen suites.
fn test_command(choice: &Choice) -> Command {
    if choice.arguments.is_empty() {
        return on_host("test");
    }
    let mut test = cargo(["test"]);
    test.args(&choice.arguments);
    test
}

fn with_test_arguments<'a>(test: &'a mut Command, args: &Args) -> &'a mut Command {
    // A failure must not hide others: a CI run is too long to find them one by one.
    test.arg("--no-fail-fast").arg("--");
    // After the dashes, because cargo's own filter leaves documentation tests out.
    test.args(&args.filter).args(&args.rest);
    if stdout().is_terminal() && !args.rest.iter().any(|arg| arg.starts_with("--color")) {
        // The test programs print to a pipe.
        test.arg("--color=always");
    }
    if env::var_os("CI").is_some() {
        test.env("REDIRECT_REQUIRE_ALL", "1");
    }
    test
}

/// Sets up what is missing, and compiles the programs and the tests of this `cargo test`. Returns whether the tests can
/// run.
pub(crate) fn are_ready(steps: &mut Steps, purpose: Purpose, test: &mut Command) -> bool {
    // `cargo test` builds only the programs of the packages under test, but tests start others, as an operator would.
    steps.step("set up", || setup::ensure(purpose))
        && steps.step("build the binaries", || {
            command::run(on_host("build").arg("--bins"))
        })
        && steps.step("compile the tests", || command::run(test.arg("--no-run")))
}

/// A subcommand of cargo for all packages but the BPF programs.
pub(crate) fn on_host(subcommand: &str) -> Command {
    cargo([subcommand, "--workspace", "--exclude", EBPF_PACKAGE])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_output_of_failed_tests_is_kept() {
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
        let mut failures = FailureText::default();
        printed.lines().for_each(|line| failures.read(line));
        assert_eq!(
            failures.lines,
            ["---- two ----", "it broke", "", "    here", ""]
        );
    }
}
