//! `cargo xtask soak`: the tests that are too long for `cargo xtask test`.
//!
//! They are tests like others, named `soak_…` after their modules and ignored by default. They say on standard error how
//! far they are.

use anyhow::{Result, bail};

use crate::{
    command,
    setup::Purpose,
    steps::Steps,
    test::{are_ready, on_host},
    workspace,
};

/// What the names of long tests have in them, and no others.
const MARK: &str = "soak_";

/// Run the long tests: many pods, many kills, much traffic.
///
/// One after the other, each alone on the machine. Needs root.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask soak
  cargo xtask soak pods          only long tests whose name goes on with \"pods\"
  cargo xtask soak -- --list")]
pub(crate) struct Args {
    /// Only tests whose name, after soak_, begins with this
    #[arg(value_name = "NAME", default_value = "")]
    name: String,

    /// Arguments for the test programs
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

/// Sets up what is missing, compiles, runs.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !workspace::is_root() {
        bail!(
            "run the long tests: they attach BPF programs and make pods, which needs root; run it as root"
        );
    }
    let mut steps = Steps::default();
    if are_ready(&mut steps, Purpose::Soak, &["--tests"]) {
        steps.step("run the long tests", || {
            let mut test = on_host("test");
            test.args(["--tests", "--no-fail-fast", "--"])
                .arg(format!("{MARK}{}", args.name))
                .args(["--ignored", "--nocapture", "--test-threads=1"])
                .args(&args.rest)
                // Whoever asked for them wants none to skip itself.
                .env("REDIRECT_REQUIRE_ALL", "1");
            command::run(&mut test)
        });
    }
    steps.finish()
}
