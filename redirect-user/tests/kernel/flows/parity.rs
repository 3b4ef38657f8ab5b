//! The command `cargo xtask parity`: a run of any length.

use std::{
    env,
    ffi::OsString,
    fmt,
    io::{IsTerminal as _, stderr},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use redirect_common::chain::RuleId;
use redirect_testkit::{iptables::Backend, missing};

use super::runner::{Plan, Runner, Tally};
use crate::differential::ACCEPTED;

/// The first argument of this program if it is started as the command.
const MARK: &str = "parity";
/// The number of connections between two lines of progress.
const LINE: u64 = 100_000;

/// Compare random connections under random policies, behind real iptables and behind the programs
#[derive(Clone, Copy, Debug, Parser)]
#[command(name = "parity", bin_name = "cargo xtask parity")]
struct Args {
    /// Number of connections
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    flows: u64,
    /// Seed that policies and connections are generated from
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// First policy of the seed, to repeat one
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// Number of connections under each policy
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    each: u64,
}

/// Runs the command if this program was started as it.
pub(crate) fn intercept() -> Option<ExitCode> {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    if words.first().is_none_or(|word| word != MARK) {
        return None;
    }
    Some(match run(Args::parse_from(words)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn run(args: Args) -> Result<()> {
    if let Some(reason) = missing(&Backend::Legacy.programs()) {
        bail!("compare with iptables: {reason}: `cargo xtask setup --for test` installs programs");
    }
    let plan = Plan {
        seed: args.seed,
        first: args.first,
        flows: args.flows,
        each: args.each,
    };
    let bar = progress(plan);
    let tally = Runner::new("parity")?.run(plan, |tally, _| {
        bar.set_position(tally.flows);
        bar.set_message(format!("{:.0} flows/s", tally.rate(tally.took)));
        let before = tally.flows.saturating_sub(plan.each);
        if bar.is_hidden() && before / LINE != tally.flows / LINE {
            eprintln!(
                "{} flows, {:.0} a second",
                tally.flows,
                tally.rate(tally.took)
            );
        }
    });
    bar.finish_and_clear();
    let tally = tally?;
    eprintln!("{}", Report(&tally));
    eprintln!("equal: {} flows from seed {}", tally.flows, plan.seed);
    Ok(())
}

fn progress(plan: Plan) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(plan.flows);
    let template = "{bar:24} {pos}/{len} flows, {elapsed} of {duration}  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

impl Tally {
    /// The rate of connections in each of the two pods.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    fn rate(&self, time: Duration) -> f64 {
        self.flows as f64 / time.as_secs_f64()
    }
}

/// A tally as text.
#[derive(Debug)]
pub(super) struct Report<'tally>(pub(super) &'tally Tally);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(tally) = self;
        writeln!(
            f,
            "{} flows under {} policies in {:.1} s: {:.0} flows/s in each pod, {:.0} with the changes of policies",
            tally.flows,
            tally.policies,
            tally.took.as_secs_f64(),
            tally.rate(tally.connecting),
            tally.rate(tally.took),
        )?;
        writeln!(f, "decided by rule, as the programs counted:")?;
        for rule in RuleId::ALL {
            writeln!(f, "  {:>9}  {}", tally.hits.of(rule), rule.name())?;
        }
        writeln!(f, "accepted differences:")?;
        for (count, known) in tally.accepted.iter().zip(ACCEPTED) {
            writeln!(f, "  {count:>9}  {}", known.reason)?;
        }
        Ok(())
    }
}
