//! `cargo xtask demo`: the story of an external service, on a pod made for the purpose.
//!
//! The demo makes a pod and a world around it, redirects the pod with the real redirectctl, and prints a row for every
//! connection. Every cell is measured: the server names itself, and COUNTED is read off the counters of the rules.
//! Guard processes remove the pod, its namespaces and its state directory, also when the demo is interrupted or killed.

mod connection;
mod redirectctl;
mod report;
mod scene;
mod sidecar;
mod story;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use crate::{report::Report, sidecar::Kind};

/// Shows redirection working on a pod made for the purpose, row by row.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Args {
    /// The proxy that connections are redirected to
    #[arg(long, value_enum, default_value_t = Kind::Builtin)]
    proxy: Kind,
}

fn main() -> Result<ExitCode> {
    // Before anything else: workers and guards are this program, started again.
    redirect_testkit::helper::intercept();
    let Args { proxy } = Args::parse();
    if let Some(reason) = redirect_testkit::missing(&[]) {
        bail!(
            "run demo: {reason}: it attaches BPF programs and makes cgroups and network namespaces"
        );
    }
    let mut report = Report::new();
    if let Err(error) = story::tell(&mut report, proxy) {
        report.check(false, &format!("{error:#}"))?;
    }
    report.summary()
}
