//! `cargo xtask bench`: one benchmark by name.

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
  cargo xtask bench programs
  cargo xtask bench connect -- --help   print the benchmark's own options")]
pub(crate) struct Args {
    /// The benchmark
    #[arg(value_enum)]
    name: Name,

    /// Arguments for the benchmark
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

/// One variant per folder in a package's benches.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// New connections a second: direct, with both iptables backends, with eBPF
    Connect,
    /// The time of each program for each redirected connection
    Programs,
    /// The load of a large cluster's agents on its API server and on each node
    Scale,
}

impl Name {
    /// The package, and the benchmark's name there.
    const fn target(self) -> [&'static str; 2] {
        match self {
            Self::Connect => ["redirect-user", "connect"],
            Self::Programs => ["redirect-user", "programs"],
            Self::Scale => ["redirect-agent", "scale"],
        }
    }
}

/// Sets up what is missing (a benchmark needs the same programs as a test), then runs the benchmark.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    let [package, name] = args.name.target();
    let bench = ["bench", "--package", package, "--bench", name, "--"];
    command::run(cargo(bench).args(&args.rest))
}
