//! A benchmark of the programs' own time: how long each of them runs for one redirected connection.
//!
//! The kernel counts the runs of every program and their time (`bpf_stats`). One client thread connects and closes with
//! a reset, as fast as it can, to a proxy that asks for the original destination and closes. The figures are steady where
//! rates are not: they do not contain the kernel's own work, nor the scheduler's.
//!
//! Every round measures every row once. Each connection is accounted for by the rule that redirected it.
//!
//! Started by `cargo bench` the program measures; started by `cargo test` it runs one test with a quick round.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its results, and its progress beside them"
)]

mod args;
mod report;
mod row;
mod site;

use std::{
    path::Path,
    process::{self, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use redirect_testkit::{
    GuardedFolder, helper, missing, missing_or_fail,
    runner::{self, trial},
};
use redirect_user::{bpf::count_runs, node::uninstall, sys::bpffs};

use crate::{args::Args, report::Report, row::Row, site::Site};

/// The programs that pods need.
const PROGRAMS: [&str; 1] = ["ip"];

fn main() -> ExitCode {
    helper::intercept();
    runner::bench_or_test(|words| bench(&Args::parse_from(words)), test)
}

fn bench(args: &Args) -> Result<()> {
    if let Some(reason) = missing(&PROGRAMS) {
        bail!(
            "measure programs: {reason}: `cargo xtask setup` installs programs, `sudo` makes root"
        );
    }
    let report = measure(args)?;
    println!("{report}");
    let file = args.file()?;
    report.write(&file)?;
    println!("\nEvery measurement: {}", file.display());
    Ok(())
}

/// Measures every row in every round.
fn measure(args: &Args) -> Result<Report> {
    let state_dir = Path::new(bpffs::MOUNT_POINT).join(format!("redirect-bench-{}", process::id()));
    // Guarded before anything is created there, so that it is removed even if this process is killed.
    let _guard = GuardedFolder::guard(&state_dir)?;
    let _counting = count_runs()?;
    let (rounds, duration) = args.length();
    let mut runs = Vec::new();
    for round in 1..=rounds {
        for row in Row::all() {
            // A new pod for each row: a program runs for all pods, and stand-ins of one row would be found by the next.
            let site = Site::make(row, &state_dir).with_context(|| format!("prepare {row}"))?;
            let run = site.measure(round, duration);
            let run = run.with_context(|| format!("measure {row}, round {round}"))?;
            eprintln!("round {round} of {rounds}: {row}: {:.0} ns", run.together());
            runs.push(run);
        }
    }
    let removed = uninstall(&state_dir)?;
    ensure!(
        removed.foreign.is_empty(),
        "files that are not ours: {:?}",
        removed.foreign
    );
    Report::of(args, runs)
}

/// Runs the smoke test: every row redirects and can be measured. The figures mean nothing.
fn test() -> ExitCode {
    let args = Args::smoke();
    runner::run(missing_or_fail(&PROGRAMS).map(|reason| {
        let smoke = move || measure(&args)?.write(&args.file()?);
        let name = "the_time_of_every_program_is_measured";
        vec![trial(name, reason.as_ref(), smoke)]
    }))
}
