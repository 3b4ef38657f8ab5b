//! `cargo xtask bench`: one benchmark of redirect-user by name.

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    command::{self, cargo},
    setup::{self, Purpose},
};

/// Run one benchmark.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench connect
  cargo xtask bench connect -- --help     the benchmark's own options")]
pub(crate) struct Args {
    /// Which benchmark
    #[arg(value_enum)]
    name: Name,

    /// Arguments for the benchmark
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

/// One variant per file in redirect-user/benches.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// New connections a second: direct, both iptables backends, eBPF
    Connect,
}

impl Name {
    const fn target(self) -> &'static str {
        match self {
            Self::Connect => "connect",
        }
    }
}

/// Sets up what is missing (a bench needs a test's peers), then runs the benchmark.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    let bench = [
        "bench",
        "--package",
        "redirect-user",
        "--bench",
        args.name.target(),
        "--",
    ];
    command::run(cargo(bench).args(&args.rest))
}
