//! `cargo xtask build`: the default members, the BPF object among them.

use anyhow::Result;

use crate::{
    command::{self, cargo},
    setup::{self, Purpose},
};

/// Build redirectctl and everything beside it, the BPF object included.
///
/// Once set up, a plain `cargo build` does the same.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask build --release")]
pub(crate) struct Args {
    /// Optimise, as for a deployment
    #[arg(long)]
    release: bool,
}

/// Sets up what is missing, then builds.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Build)?;
    let release = args.release.then_some("--release");
    command::run(&mut cargo(["build"].into_iter().chain(release)))
}
