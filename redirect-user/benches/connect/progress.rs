//! The progress on standard error: a bar on a terminal, a line per round elsewhere.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::Run;

/// The progress of a benchmark.
#[derive(Debug)]
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    pub(crate) fn new(rounds: u64) -> Self {
        if !stderr().is_terminal() {
            return Self::Lines;
        }
        let bar = ProgressBar::new(rounds);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:24} {pos}/{len} rounds, {elapsed}  {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self::Bar(bar)
    }

    /// Shows the current step. Only a terminal shows it.
    pub(crate) fn show(&self, step: &str) {
        if let Self::Bar(bar) = self {
            bar.set_message(step.to_owned());
        }
    }

    /// Shows the result of a round.
    pub(crate) fn round(&self, runs: &[Run]) {
        let Some(first) = runs.first() else { return };
        let mut runs: Vec<&Run> = runs.iter().collect();
        runs.sort_by(|a, b| b.rate.total_cmp(&a.rate));
        let ratios: Vec<String> = runs
            .iter()
            .map(|run| format!("{} {:.2}", run.arm, run.of_direct))
            .collect();
        let line = format!(
            "{} ranges, round {}: {}",
            first.ranges,
            first.round,
            ratios.join("  ")
        );
        match self {
            Self::Bar(bar) => {
                bar.set_message(line);
                bar.inc(1);
            }
            Self::Lines => eprintln!("{line}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
