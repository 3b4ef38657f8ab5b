//! `cargo xtask test`: every test of the workspace, those on real kernels and real proxies included.

use std::{env, process::Command};

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
    // The binaries are built on their own because `cargo test` builds only those of the package under test, and
    // tests start them as an operator would.
    let ready = steps.step("set up", || setup::ensure(Purpose::Test))
        && steps.step("build the binaries", || {
            command::run(on_host("build").arg("--bins"))
        })
        && steps.step("compile the tests", || {
            command::run(on_host("test").arg("--no-run"))
        });
    if ready {
        steps.step("run the tests", || command::run(&mut all_tests(args)));
    }
    steps.finish()
}

fn all_tests(args: &Args) -> Command {
    let mut test = on_host("test");
    // One failure must not hide the others: a CI run is too long to find them one by one.
    test.arg("--no-fail-fast").arg("--");
    // After the dashes, where documentation tests see it too: cargo's own filter leaves them out.
    test.args(&args.filter).args(&args.rest);
    if env::var_os("CI").is_some() {
        test.env("REDIRECT_REQUIRE_ALL", "1");
    }
    test
}

fn on_host(subcommand: &str) -> Command {
    cargo([subcommand, "--workspace", "--exclude", EBPF_PACKAGE])
}
