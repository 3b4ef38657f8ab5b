//! Standard output of the demo: lines, tables, and the count of the checks.

use std::process::ExitCode;

use anyhow::Result;
use redirect_user::{
    config::Environment,
    console::{Env, Format},
};

/// A connection's cells: heading, expected text, seen text. The iptables rule comes first.
pub(crate) type Cells = [(&'static str, String, String); 9];

#[derive(Debug)]
pub(crate) struct Report {
    env: Env,
    passed: u32,
    failed: u32,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            env: Env::of_process(Environment::default()),
            passed: 0,
            failed: 0,
        }
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        let line = format!("{text}\n");
        self.env.print(Format::Table, &(), |_screen| line)
    }

    /// Prints a command line before it runs.
    pub(crate) fn command(&mut self, text: &str) -> Result<()> {
        self.line(&format!("  $ {text}"))
    }

    /// Prints the output of a command, or a remark.
    pub(crate) fn note(&mut self, text: &str) -> Result<()> {
        self.line(&format!("    {text}"))
    }

    /// Prints connections as one table, then their iptables rules and every cell that is not as expected.
    pub(crate) fn connections(&mut self, connections: &[Cells]) -> Result<()> {
        let (mut heads, mut rows, mut below) = ([""; 9], Vec::new(), Vec::new());
        for cells in connections {
            let [(_, _, iptables), ..] = cells;
            below.push(format!("iptables: {iptables}"));
            let differing = cells.iter().filter(|(_, expected, seen)| expected != seen);
            let differing: Vec<_> = differing.collect();
            // The mark takes the place of the iptables rule, which is too long for a column.
            heads = cells.each_ref().map(|(head, ..)| *head);
            let mut row = cells.each_ref().map(|(.., seen)| seen.clone());
            (heads[0], row[0]) = ("", self.count(differing.is_empty()).to_owned());
            rows.push(row);
            for (head, expected, seen) in differing {
                below.push(format!("{head}: expected {expected}, got {seen}"));
            }
        }
        below.dedup();
        self.line(self.env.screen.table(heads, rows).trim_end())?;
        below.iter().try_for_each(|text| self.note(text))
    }

    /// Prints a check that is not a connection.
    pub(crate) fn check(&mut self, passed: bool, text: &str) -> Result<()> {
        let mark = self.count(passed);
        self.line(&format!("{mark}  {text}"))
    }

    /// Prints the last line; returns the demo's exit status.
    pub(crate) fn summary(&mut self) -> Result<ExitCode> {
        let (passed, failed) = (self.passed, self.failed);
        self.line(&format!("\n{passed} passed, {failed} failed"))?;
        Ok(ExitCode::from(u8::from(failed > 0)))
    }

    /// Counts a check; returns its mark.
    const fn count(&mut self, passed: bool) -> &'static str {
        if passed {
            self.passed += 1;
            return "ok";
        }
        self.failed += 1;
        "FAIL"
    }
}
