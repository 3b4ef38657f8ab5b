//! `cargo xtask lint`: the checks that a change must pass besides the tests.

mod manifests;
mod words;

use std::process::Command;

use anyhow::Result;

use crate::{
    command::{self, ask, cargo},
    setup::{self, Purpose},
    steps::Steps,
    workspace::{self, EBPF_PACKAGE},
};

/// Check format, lints, dependencies, documentation, manifests and words; a warning is a failure.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The BPF crate is checked in a pass of its own, compiled for the host: together
with the other crates, its dependencies would get features that the BPF target
does not have.")]
pub(crate) struct Args {}

/// Runs every check, also after a failed one, and names the failed checks at the end.
pub(crate) fn run(_args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    if steps.step("set up", || setup::ensure(Purpose::Lint)) {
        steps.step("format", || command::run(&mut format()));
        steps.step("clippy", || command::run(&mut clippy()));
        steps.step("clippy of the BPF crate", || {
            command::run(&mut clippy_ebpf())
        });
        steps.step("dependencies", dependencies);
        steps.step("documentation", || command::run(&mut documentation()));
        steps.step("manifests", manifests::check);
        steps.step("words", words::check);
    }
    steps.finish()
}

/// Grouping imports is unstable, so only a nightly rustfmt checks all of rustfmt.toml.
fn format() -> Command {
    if ask("cargo", &["+nightly", "fmt", "--version"]).is_some() {
        return cargo(["+nightly", "fmt", "--all", "--check"]);
    }
    println!(
        "note: no nightly rustfmt, so the grouping of imports is not checked (rustup toolchain install nightly)"
    );
    cargo(["fmt", "--all", "--check"])
}

fn clippy() -> Command {
    cargo([
        "clippy",
        "--workspace",
        "--exclude",
        EBPF_PACKAGE,
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

fn clippy_ebpf() -> Command {
    let mut clippy = cargo(["clippy", "--package", EBPF_PACKAGE, "--bins", "--lib"]);
    // A target folder of its own: the two passes have different variables, and would discard each other's results.
    clippy.args(["--target-dir", "target/clippy-ebpf", "--", "-D", "warnings"]);
    // A no_std program has no unwinding. aya-ebpf uses inline assembly for BPF, which is unstable in every compiler.
    clippy
        .env("CARGO_PROFILE_DEV_PANIC", "abort")
        .env("RUSTC_BOOTSTRAP", "aya_ebpf");
    clippy
}

fn dependencies() -> Result<()> {
    println!(
        "note: advisories are not checked: their database is a download of its own: run `cargo deny check advisories`"
    );
    let mut deny = Command::new(setup::cargo_deny()?);
    deny.current_dir(workspace::root())
        .args(["check", "bans", "licenses", "sources"]);
    command::run(&mut deny)
}

fn documentation() -> Command {
    let mut doc = cargo(["doc", "--no-deps", "--workspace", "--exclude", EBPF_PACKAGE]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    doc
}
