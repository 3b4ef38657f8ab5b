//! Standard output: headings, commands and the table. Counts what passed.

use std::{
    fmt::Display,
    io::{IsTerminal as _, Stdout, Write as _, stdout},
};

use anyhow::{Context as _, Result};

use crate::cells::Cells;

/// The table's columns and their widths; with the mark in front a line has 117 characters.
const COLUMNS: [(&str, usize); 7] = [
    ("UID", 4),
    ("DIALLED", 24),
    ("VERDICT", 7),
    ("RULE", 13),
    ("ANSWERED BY", 18),
    ("PROXY SAW", 17),
    ("GETPEERNAME", 17),
];

#[derive(Clone, Copy)]
enum Style {
    Bold,
    Dim,
    Green,
    Red,
}

/// What is printed to, and the count of what was printed.
#[derive(Debug)]
pub(crate) struct Screen {
    out: Stdout,
    /// Only a terminal is given colours.
    is_terminal: bool,
    /// Whether this section's columns have their names yet.
    has_columns: bool,
    passed: u32,
    failed: u32,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let out = stdout();
        let is_terminal = out.is_terminal();
        Self {
            out,
            is_terminal,
            has_columns: false,
            passed: 0,
            failed: 0,
        }
    }

    /// One line that tells what comes.
    pub(crate) fn heading(&mut self, text: &str) -> Result<()> {
        self.has_columns = false;
        self.line("")?;
        let text = self.paint(Style::Bold, text);
        self.line(&text)
    }

    /// A command as it is run.
    pub(crate) fn command(&mut self, text: impl Display) -> Result<()> {
        self.line(&format!("  $ {text}"))
    }

    /// What a command printed, or what is to be known.
    pub(crate) fn note(&mut self, text: impl Display) -> Result<()> {
        let text = self.paint(Style::Dim, &format!("    {text}"));
        self.line(&text)
    }

    /// The names of the columns, once in each section.
    fn columns(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.has_columns, true) {
            return Ok(());
        }
        let names = line_of(&COLUMNS.map(|(name, _)| name));
        let text = self.paint(Style::Dim, &format!("     {names}"));
        self.line(&text)
    }

    /// One connection: what it should have been, and what it was.
    pub(crate) fn row(
        &mut self,
        uid: u32,
        dialled: &str,
        expected: &Cells,
        seen: &Cells,
    ) -> Result<()> {
        let differences = expected.differences(seen);
        self.columns()?;
        let cells = line_of(&[
            &uid.to_string(),
            dialled,
            &seen.verdict,
            &seen.rule,
            &seen.answered,
            &seen.saw,
            &seen.peername,
        ]);
        self.marked(differences.is_empty(), &cells)?;
        let rule = format!(
            "     iptables: {:<59}  counted: {}",
            seen.iptables, seen.counted
        );
        let rule = self.paint(Style::Dim, rule.trim_end());
        self.line(&rule)?;
        for (what, wanted, got) in differences {
            let text = self.paint(
                Style::Red,
                &format!("     {what}: expected {wanted}, got {got}"),
            );
            self.line(&text)?;
        }
        Ok(())
    }

    /// A check that is no connection.
    pub(crate) fn check(&mut self, is_so: bool, text: &str) -> Result<()> {
        self.marked(is_so, text)
    }

    /// The last line; tells whether everything passed.
    pub(crate) fn summary(&mut self) -> Result<bool> {
        let style = if self.failed == 0 {
            Style::Green
        } else {
            Style::Red
        };
        let text = format!("{} passed, {} failed", self.passed, self.failed);
        let text = self.paint(style, &text);
        self.line("")?;
        self.line(&text)?;
        Ok(self.failed == 0)
    }

    fn marked(&mut self, is_so: bool, text: &str) -> Result<()> {
        let (count, mark, style) = if is_so {
            (&mut self.passed, "ok  ", Style::Green)
        } else {
            (&mut self.failed, "FAIL", Style::Red)
        };
        *count = count.saturating_add(1);
        let mark = self.paint(style, mark);
        self.line(&format!("{mark} {text}"))
    }

    fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}").context("print to standard output")
    }

    fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Green => 32,
            Style::Red => 31,
        };
        if self.is_terminal {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn line_of(cells: &[&str; COLUMNS.len()]) -> String {
    let padded = cells
        .iter()
        .zip(COLUMNS)
        .map(|(cell, (_, width))| format!("{cell:<width$}"));
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}
