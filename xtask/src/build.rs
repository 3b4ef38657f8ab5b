//! `cargo xtask build`: the default members, the BPF object among them.

use anyhow::{Context as _, Result};

use crate::{
    command::{self, ask, cargo},
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

/// Builds programs for a machine that has nothing but its kernel; they are in the folder of this name in the target
/// folder.
pub(crate) fn build_static(packages: &[&str]) -> Result<String> {
    setup::ensure(Purpose::Build)?;
    let host = ask("rustc", &["--print", "host-tuple"]).context("ask rustc what it builds for")?;
    let host = host.trim();
    let mut build = cargo(["build", "--release", "--bins"]);
    build.args(packages.iter().flat_map(|package| ["--package", package]));
    // Named, so that what is compiled to run during the build is not linked like that.
    build.args(["--target", host]);
    command::run(build.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(format!("{host}/release"))
}
