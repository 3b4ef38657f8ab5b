//! A benchmark of new connections per second, with all ways of redirecting side by side.
//!
//! One client thread connects and closes with a reset, as fast as it can, to a listener that asks
//! for the original destination and closes. It does so in pods that differ only in how the
//! connection reaches the listener: dialled directly, redirected by iptables (either backend) with
//! Istio's rules, or redirected by the programs. Every round measures every arm once, in another
//! order. The result is an arm's rate divided by that of the direct arm in the *same* round: a
//! machine's speed drifts by more than the differences between arms.
//!
//! The benchmark must never report an arm that lost its redirection. Before an arm is measured, its
//! listener must learn the dialled destination. Afterwards every connection is accounted for at the
//! listener, and all of them by the arm's own counter.
//!
//! Started by `cargo bench` the program measures; started by `cargo test` it runs one test with a
//! quick round.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its results, and its progress beside them"
)]

mod args;
mod arm;
mod progress;
mod random;
mod ranges;
mod report;
mod rounds;
mod run;
mod site;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser as _;
use redirect_testkit::{
    helper, missing, missing_or_fail,
    runner::{self, trial},
};

use crate::{args::Args, report::Report};

fn main() -> ExitCode {
    helper::intercept();
    runner::bench_or_test(|words| bench(&Args::parse_from(words)), test)
}

fn bench(args: &Args) -> Result<()> {
    if let Some(reason) = missing(&args.programs()) {
        bail!(
            "measure connections: {reason}: `cargo xtask setup` installs programs, `sudo` makes root"
        );
    }
    let report = Report::of(args, rounds::measure(args)?)?;
    println!("{report}");
    let files = args.files()?;
    report.write(&files)?;
    println!(
        "\nEvery measurement: {} and {}",
        files.json.display(),
        files.csv.display()
    );
    Ok(())
}

/// Runs the smoke test: every arm redirects and can be measured. The figures mean nothing.
fn test() -> ExitCode {
    let args = Args::smoke();
    runner::run(missing_or_fail(&args.programs()).map(|reason| {
        let smoke = move || {
            let report = Report::of(&args, rounds::measure(&args)?)?;
            report.write(&args.files()?)
        };
        let name = "every_way_of_redirecting_is_measured";
        vec![trial(name, reason.as_ref(), smoke)]
    }))
}
