//! The report: a table to read, JSON and CSV to plot.

use std::{collections::BTreeMap, fmt, fs, net::SocketAddr, path::Path};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use redirect_testkit::{Hardware, Spread};
use serde::Serialize;

use crate::{
    args::{Args, Files},
    arm::Arm,
    run::Run,
    site::DESTINATION,
};

/// Everything that a run of the benchmark has measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Hardware,
    settings: Settings,
    summary: Vec<Summary>,
    runs: Vec<Run>,
}

/// The settings of the run.
#[derive(Debug, Serialize)]
struct Settings {
    destination: SocketAddr,
    rounds: u32,
    seconds: f64,
    seed: u64,
    await_close: bool,
}

/// The summary of one arm over all rounds.
#[derive(Debug, Serialize)]
struct Summary {
    ranges: u32,
    arm: &'static str,
    rate: Spread,
    of_direct: Spread,
    p50_ns: Spread,
    p99_ns: Spread,
    connections: u64,
    errors: BTreeMap<String, u64>,
    /// The number of rounds in which the arm was faster, for each other arm.
    ahead_of: BTreeMap<&'static str, usize>,
}

impl Report {
    pub(crate) fn of(args: &Args, runs: Vec<Run>) -> Result<Self> {
        let (rounds, duration) = args.length();
        let mut summary = Vec::new();
        for &ranges in &args.ranges {
            for arm in args.arms() {
                summary.push(Summary::of(&runs, ranges, arm).context("nothing was measured")?);
            }
        }
        Ok(Self {
            machine: Hardware::this()?,
            settings: Settings {
                destination: DESTINATION,
                rounds,
                seconds: duration.as_secs_f64(),
                seed: args.seed,
                await_close: args.await_close,
            },
            summary,
            runs,
        })
    }

    /// Writes the files, and creates their folder.
    pub(crate) fn write(&self, files: &Files) -> Result<()> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        write(&files.json, &json)?;
        write(&files.csv, &self.csv())
    }

    fn csv(&self) -> String {
        let header =
            "ranges,round,place,arm,connections,seconds,rate,of_direct,p50_ns,p99_ns,errors";
        let mut lines = vec![header.to_owned()];
        lines.extend(self.runs.iter().map(Run::csv));
        lines.push(String::new());
        lines.join("\n")
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create \"{}\"", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write \"{}\"", path.display()))
}

impl Run {
    fn csv(&self) -> String {
        let errors: u64 = self.errors.values().sum();
        [
            self.ranges.to_string(),
            self.round.to_string(),
            self.place.to_string(),
            self.arm.to_owned(),
            self.connections.to_string(),
            format!("{:.6}", self.seconds),
            format!("{:.1}", self.rate),
            format!("{:.4}", self.of_direct),
            self.p50_ns.to_string(),
            self.p99_ns.to_string(),
            errors.to_string(),
        ]
        .join(",")
    }
}

impl Summary {
    fn of(runs: &[Run], ranges: u32, arm: Arm) -> Option<Self> {
        let same: Vec<&Run> = runs.iter().filter(|run| run.ranges == ranges).collect();
        let arm_runs: Vec<&Run> = same
            .iter()
            .copied()
            .filter(|run| run.arm == arm.name())
            .collect();
        let mut errors = BTreeMap::new();
        for (name, count) in arm_runs.iter().flat_map(|run| &run.errors) {
            *errors.entry(name.clone()).or_default() += count;
        }
        let mut ahead_of = BTreeMap::new();
        for other in same.iter().filter(|run| run.arm != arm.name()) {
            let ahead = arm_runs
                .iter()
                .any(|run| run.round == other.round && run.rate > other.rate);
            *ahead_of.entry(other.arm).or_default() += usize::from(ahead);
        }
        Some(Self {
            ranges,
            arm: arm.name(),
            rate: Spread::of(arm_runs.iter().map(|run| run.rate))?,
            of_direct: Spread::of(arm_runs.iter().map(|run| run.of_direct))?,
            p50_ns: Spread::of(arm_runs.iter().map(|run| nanoseconds(run.p50_ns)))?,
            p99_ns: Spread::of(arm_runs.iter().map(|run| nanoseconds(run.p99_ns)))?,
            connections: arm_runs.iter().map(|run| run.connections).sum(),
            errors,
            ahead_of,
        })
    }

    fn cells(&self) -> [String; 8] {
        let Spread { min, median, max } = self.of_direct;
        [
            self.ranges.to_string(),
            self.arm.to_owned(),
            format!("{:.0}", self.rate.median),
            format!("{:.1}", self.p50_ns.median / 1000.0),
            format!("{:.1}", self.p99_ns.median / 1000.0),
            format!("{median:.3}"),
            format!("{min:.3} – {max:.3}"),
            self.errors.values().sum::<u64>().to_string(),
        ]
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "times stay far below 2^52 ns, which is 52 days"
)]
const fn nanoseconds(time: u64) -> f64 {
    time as f64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            machine, settings, ..
        } = self;
        writeln!(f, "{machine}")?;
        writeln!(
            f,
            "{} rounds of {} s an arm; medians over rounds, times of connect() alone\n",
            settings.rounds, settings.seconds
        )?;
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header([
            "ranges",
            "arm",
            "rate /s",
            "p50 µs",
            "p99 µs",
            "of direct",
            "min – max",
            "errors",
        ]);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_cell_alignment(if index == 1 {
                CellAlignment::Left
            } else {
                CellAlignment::Right
            });
        }
        for row in &self.summary {
            table.add_row(row.cells());
        }
        writeln!(f, "{table}")?;
        for row in self
            .summary
            .iter()
            .filter(|row| row.arm == Arm::Ebpf.name())
        {
            for (other, rounds) in row
                .ahead_of
                .iter()
                .filter(|(other, _)| **other != Arm::Direct.name())
            {
                let (ranges, all) = (row.ranges, settings.rounds);
                write!(
                    f,
                    "\n{ranges} ranges: {} ahead of {other} in {rounds} of {all} rounds",
                    row.arm
                )?;
            }
        }
        Ok(())
    }
}
