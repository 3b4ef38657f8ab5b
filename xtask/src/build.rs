//! `cargo xtask build`: the default members, the BPF object among them.

use anyhow::{Context as _, Result};

use crate::{
    command::{self, ask, cargo},
    setup::{self, Purpose},
};

/// Build all programs, with the BPF object.
///
/// After the set-up, a plain `cargo build` does the same.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask build --release")]
pub(crate) struct Args {
    /// Build with optimisation, as for a deployment
    #[arg(long)]
    release: bool,
}

/// Sets up what is missing, then builds.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Build)?;
    let release = args.release.then_some("--release");
    command::run(&mut cargo(["build"].into_iter().chain(release)))
}

/// Builds programs for a machine without libraries. Returns their folder, relative to the target folder.
pub(crate) fn build_static(packages: &[&str]) -> Result<String> {
    setup::ensure(Purpose::Build)?;
    let host = ask("rustc", &["--print", "host-tuple"]).context("ask rustc for its target")?;
    let host = host.trim();
    let mut build = cargo(["build", "--release", "--bins"]);
    build.args(packages.iter().flat_map(|package| ["--package", package]));
    // With a named target, programs that run during the build are not linked statically.
    build.args(["--target", host]);
    command::run(build.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(format!("{host}/release"))
}
