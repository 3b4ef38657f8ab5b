//! The output of results: text for people, JSON for programs.

use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;

use super::{Env, Screen};

/// The format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text
    Table,
    /// JSON with stable names (docs/json.md)
    Json,
}

/// A number with its noun: `1 cgroup`, `2 cgroups`.
#[must_use]
pub fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

impl Env {
    /// Prints a result in the given format. It is not an error if the reader of the output has
    /// gone.
    pub fn print<T: Serialize>(
        &mut self,
        format: Format,
        value: &T,
        text: impl FnOnce(Screen) -> String,
    ) -> Result<()> {
        let text = match format {
            Format::Table => text(self.screen),
            Format::Json => serde_json::to_string_pretty(value).context("write JSON")? + "\n",
        };
        let written = self.stdout.write_all(text.as_bytes());
        match written.and_then(|()| self.stdout.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other.context("print the result"),
        }
    }
}
