//! The arguments: what is measured, and where the figures are written.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use redirect_testkit::iptables::Backend;

use crate::arm::Arm;

/// New connections per second: direct, iptables-legacy, iptables-nft, eBPF.
///
/// Creates pods of its own and removes them; needs root. Keep the machine quiet in the meantime.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "connect",
    bin_name = "cargo xtask bench connect --",
    after_help = "\
Examples:
  cargo xtask bench connect
  cargo xtask bench connect -- --rounds 30 --ranges 0,100000
  cargo xtask bench connect -- --quick --arms ebpf"
)]
pub(crate) struct Args {
    /// Rounds; each measures every arm once, in random order
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Seconds for which an arm is measured in a round
    #[arg(long, value_name = "S", default_value = "0.4", value_parser = seconds)]
    pub(crate) seconds: Duration,

    /// Numbers of excluded ranges, none of which contains the destination
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "0,1000,10000"
    )]
    pub(crate) ranges: Vec<u32>,

    /// Arms besides the direct one, with which all others are compared
    #[arg(long, value_name = "ARM,…", value_enum, value_delimiter = ',', default_values_t = Arm::REDIRECTING)]
    arms: Vec<Arm>,

    /// Also measure the programs that another build has loaded below this state directory
    #[arg(long, value_name = "FOLDER")]
    pub(crate) baseline: Option<PathBuf>,

    /// Wait for the listener to close before the next connect, which adds its work to the figures
    #[arg(long)]
    pub(crate) await_close: bool,

    /// Seed of the ranges and of the order of the arms
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// File for every single measurement; a CSV file of the same name is written beside it
    #[arg(
        long,
        value_name = "FILE",
        help = "File for every single measurement, with a CSV file beside it [default: bench/connect-TIME.json in the target folder]"
    )]
    json: Option<PathBuf>,

    /// One round of 0.1 s, to see whether the benchmark works
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,

    /// Added by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The files that the figures are written to.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) json: PathBuf,
    pub(crate) csv: PathBuf,
}

impl Args {
    /// The arguments of the smoke test.
    pub(crate) fn smoke() -> Self {
        let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join("connect-smoke.json");
        Self {
            json: Some(json),
            ..Self::parse_from(["connect", "--quick"])
        }
    }

    /// The arms, the direct one first.
    pub(crate) fn arms(&self) -> Vec<Arm> {
        let mut arms = vec![Arm::Direct];
        for arm in self
            .arms
            .iter()
            .copied()
            .chain(self.baseline.is_some().then_some(Arm::Baseline))
        {
            if !arms.contains(&arm) {
                arms.push(arm);
            }
        }
        arms
    }

    /// The number of rounds, and how long an arm is measured in each.
    pub(crate) const fn length(&self) -> (u32, Duration) {
        if self.quick {
            (1, Duration::from_millis(100))
        } else {
            (self.rounds, self.seconds)
        }
    }

    /// The programs that the arms need.
    pub(crate) fn programs(&self) -> Vec<&'static str> {
        self.arms()
            .into_iter()
            .filter_map(Arm::backend)
            .flat_map(Backend::programs)
            .collect()
    }

    /// The files of this run: a name that no earlier run has, unless one is given.
    pub(crate) fn files(&self) -> Result<Files> {
        let json = if let Some(file) = &self.json {
            file.clone()
        } else {
            let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
                .parent()
                .context("find the target folder")?;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .context("read the clock")?;
            target
                .join("bench")
                .join(format!("connect-{}.json", now.as_secs()))
        };
        Ok(Files {
            csv: json.with_extension("csv"),
            json,
        })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_error| format!("\"{text}\" is not a number of seconds"))?;
    if !(0.01..=60.0).contains(&seconds) {
        return Err("give 0.01 to 60 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}
