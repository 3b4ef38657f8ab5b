//! The arguments: how long is measured, and where the figures are written.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use clap::Parser;

/// The time of each program for each redirected connection, as the kernel counts it.
///
/// Creates pods of its own and removes them; needs root and Linux 5.8.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "programs",
    bin_name = "cargo xtask bench programs --",
    after_help = "\
Examples:
  cargo xtask bench programs
  cargo xtask bench programs -- --rounds 9"
)]
pub(crate) struct Args {
    /// Rounds; each measures every row once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// File for every single measurement [default: bench/programs-TIME.json in the target folder]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// One round of 0.1 s, to see whether the benchmark works
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,

    /// Added by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// The arguments of the smoke test.
    pub(crate) fn smoke() -> Self {
        let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs-smoke.json");
        Self {
            json: Some(json),
            ..Self::parse_from(["programs", "--quick"])
        }
    }

    /// The number of rounds, and the duration of a measurement.
    pub(crate) const fn length(&self) -> (u32, Duration) {
        if self.quick {
            (1, Duration::from_millis(100))
        } else {
            (self.rounds, Duration::from_secs(1))
        }
    }

    /// The file of this run: a name that no earlier run has, unless one is given.
    pub(crate) fn file(&self) -> Result<PathBuf> {
        if let Some(file) = &self.json {
            return Ok(file.clone());
        }
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.context("read the clock")?.as_secs();
        let folder = target.context("find the target folder")?.join("bench");
        Ok(folder.join(format!("programs-{now}.json")))
    }
}
