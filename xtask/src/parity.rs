//! `cargo xtask parity`: millions of random connections, behind real iptables and behind the programs.

use anyhow::{Result, bail};

use crate::{
    command::{self, cargo},
    setup::{self, Purpose},
    workspace,
};

/// Compare random connections under random policies with real iptables.
///
/// The comparison makes two pods, one behind Istio's rules and one behind the programs, and removes them. It needs
/// root. At the first difference it fails, and prints the smallest case.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask parity
  cargo xtask parity --flows 5000000 --seed 7
  cargo xtask parity -- --help   print more options")]
pub(crate) struct Args {
    /// Number of connections
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    flows: u64,

    /// Seed of the random policies and connections
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// Arguments for the program that compares
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

/// Sets up what is missing, builds, and runs the program of the kernel tests.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !workspace::is_root() {
        bail!(
            "compare with iptables: this attaches BPF programs and makes network namespaces: run it as root"
        );
    }
    setup::ensure(Purpose::Test)?;
    let (flows, seed) = (args.flows.to_string(), args.seed.to_string());
    let test = [
        "test",
        "--quiet",
        "--release",
        "--package",
        "redirect-user",
        "--test",
        "kernel",
    ];
    let run = ["--", "parity", "--flows", &flows, "--seed", &seed];
    command::run(cargo(test).args(run).args(&args.rest))
}
