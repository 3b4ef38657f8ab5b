//! The report: a table to read, JSON to plot.

use std::{collections::BTreeSet, fmt, fs, path::Path};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use redirect_testkit::{Hardware, Spread};
use serde::Serialize;

use crate::{args::Args, row::Row, site::Run};

/// Everything that a run of the benchmark has measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Hardware,
    rounds: u32,
    runs: Vec<Run>,
}

impl Report {
    pub(crate) fn of(args: &Args, runs: Vec<Run>) -> Result<Self> {
        Ok(Self {
            machine: Hardware::this()?,
            rounds: args.length().0,
            runs,
        })
    }

    /// Writes the file, and creates its folder.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let write = || format!("write \"{}\"", file.display());
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(write)?;
        }
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        fs::write(file, json).with_context(write)
    }

    /// The names of the programs that ran in any row.
    fn programs(&self) -> BTreeSet<&'static str> {
        let names = self.runs.iter().flat_map(|run| run.programs.keys());
        names.copied().collect()
    }

    fn of_row(&self, row: Row) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.row == row)
    }

    /// The cells of a row: for each program the median time of a run and the runs for each connection, then the time of
    /// all together.
    fn cells(&self, row: Row) -> Vec<String> {
        let mut cells = vec![row.to_string()];
        for name in self.programs() {
            let times = || self.of_row(row).filter_map(|run| run.programs.get(name));
            let ns = Spread::of(times().map(|time| time.ns));
            let runs = Spread::of(times().map(|time| time.runs));
            cells.push(match (ns, runs) {
                (Some(ns), Some(runs)) => format!("{:.0} ({:.1})", ns.median, runs.median),
                _ => "–".to_owned(),
            });
        }
        let together = Spread::of(self.of_row(row).map(Run::together));
        cells.push(
            together.map_or_else(String::new, |Spread { min, median, max }| {
                format!("{median:.0} ({min:.0} – {max:.0})")
            }),
        );
        cells
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "ns for each run (runs for each redirected connection), median of {} rounds; together: ns for each connection\n",
            self.rounds
        )?;
        let mut header = vec!["connections"];
        header.extend(self.programs());
        header.push("together (min – max)");
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(header);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for row in Row::all() {
            table.add_row(self.cells(row));
        }
        write!(f, "{table}")
    }
}
