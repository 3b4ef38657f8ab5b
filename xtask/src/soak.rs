//! `cargo xtask soak`: the tests that are too long for `cargo xtask test`.
//!
//! The names of these tests begin with `soak_` after their modules, and they are ignored by default. They print their
//! progress on standard error.

use anyhow::{Result, bail};

use crate::{
    command,
    setup::Purpose,
    steps::Steps,
    test::{are_ready, on_host},
    workspace,
};

/// The mark in the names of long tests. No other test has it.
const MARK: &str = "soak_";

/// Run the long tests: many pods, many kills, much traffic.
///
/// The tests run one after the other, each alone on the machine. They need root.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask soak
  cargo xtask soak pods   run long tests whose name begins with soak_pods
  cargo xtask soak -- --list")]
pub(crate) struct Args {
    /// Run only tests whose name begins with this after soak_
    #[arg(value_name = "NAME", default_value = "")]
    name: String,

    /// Arguments for the test programs
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

/// Sets up what is missing, compiles, runs.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !workspace::is_root() {
        bail!("run the long tests: they attach BPF programs and make pods: run them as root");
    }
    let mut steps = Steps::default();
    if are_ready(&mut steps, Purpose::Soak, on_host("test").arg("--tests")) {
        steps.step("run the long tests", || {
            let mut test = on_host("test");
            test.args(["--tests", "--no-fail-fast", "--"])
                .arg(format!("{MARK}{}", args.name))
                .args(["--ignored", "--nocapture", "--test-threads=1"])
                .args(&args.rest)
                // A skipped test would make the run incomplete.
                .env("REDIRECT_REQUIRE_ALL", "1");
            command::run(&mut test)
        });
    }
    steps.finish()
}
