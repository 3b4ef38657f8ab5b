//! `cargo xtask demo`: the story of the README, happening.
//!
//! Makes a pod and a world around it, redirects the pod with the real redirectctl, and prints a
//! row for every connection as it is made. Whatever is shown is measured: who answered is what
//! the server said, the rule is the one whose counter moved. Nothing is left behind, however the
//! demo ends.

mod cells;
mod command;
mod mesh;
mod row;
mod screen;
mod sidecar;
mod story;
mod sweeper;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Result, bail};
use clap::Parser;

use crate::{screen::Screen, sidecar::Kind};

/// Shows redirection working on a pod made for the purpose, row by row.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Args {
    /// The proxy that connections are redirected to
    #[arg(long, value_enum, default_value_t = Kind::Builtin)]
    proxy: Kind,
}

fn main() -> ExitCode {
    // Both look at the command line first: this program is its own helper processes.
    redirect_testkit::helper::intercept();
    if let Some(code) = sweeper::intercept() {
        return code;
    }
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell if even standard error is closed.
            drop(writeln!(io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells whether every row was as it should be.
fn run(args: &Args) -> Result<bool> {
    if let Some(reason) = redirect_testkit::missing(&[]) {
        bail!(
            "run demo: {reason}: it attaches BPF programs and makes cgroups and network namespaces"
        );
    }
    let mut screen = Screen::new();
    if let Err(error) = story::tell(&mut screen, args.proxy) {
        screen.check(false, &format!("{error:#}"))?;
    }
    screen.summary()
}
