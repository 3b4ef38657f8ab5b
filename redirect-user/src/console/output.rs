//! Results: aligned tables for people, JSON for programs.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

use super::Env;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text
    Table,
    /// JSON with stable names (docs/json.md)
    Json,
}

impl Env {
    /// Prints a result in the format asked for.
    pub fn print<T: Serialize>(
        &mut self,
        format: Format,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        match format {
            Format::Table => write!(self.stdout, "{}", text()),
            Format::Json => {
                let json = serde_json::to_string_pretty(value).context("write JSON")?;
                writeln!(self.stdout, "{json}")
            }
        }
        .context("print the result")
    }
}

/// Rows below headings, columns aligned, nothing drawn.
pub fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    // Columns are padded with a space on both sides; the outer ones are not for the eye.
    let lines = table.lines().map(|line| {
        line.trim_end()
            .strip_prefix(' ')
            .unwrap_or(line.as_str())
            .trim_end()
            .to_owned()
    });
    lines.fold(String::new(), |text, line| text + &line + "\n")
}

/// A path, or what to say where there is none.
pub fn path(path: Option<&Path>) -> String {
    path.map_or_else(
        || "(not visible here)".to_owned(),
        |path| path.display().to_string(),
    )
}
