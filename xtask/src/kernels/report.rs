//! The results of the tests in one kernel, read from their output and kept in `docs/kernels`.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::Series;
use crate::workspace;

/// The results of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Size of each program, in the order of attaching: name, instructions, verified instructions.
    programs: Vec<[String; 3]>,
    passed: usize,
    failed: Vec<String>,
    /// The reasons to skip tests, also tests that were not chosen.
    reasons: BTreeMap<String, String>,
    /// The skipped tests, with the reasons.
    skipped: BTreeMap<String, String>,
}

impl Report {
    /// Reads a line of the output.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("program ") {
            let mut words = rest.split_whitespace().map(str::to_owned);
            if let (Some(name), Some(size), Some(verified)) =
                (words.next(), words.next(), words.next())
            {
                self.programs.push([name, size, verified]);
            }
        } else if let Some((name, reason)) = line.split_once(" is skipped: ") {
            self.reasons.insert(name.to_owned(), reason.to_owned());
        } else if let Some((name, verdict)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
        {
            match verdict.trim() {
                "ok" => self.passed += 1,
                "ignored" => {
                    let name = name.trim();
                    let reason = self.reasons.get(name).map_or("a long test", String::as_str);
                    self.skipped.insert(name.to_owned(), reason.to_owned());
                }
                "FAILED" => self.failed.push(name.trim().to_owned()),
                _ => {}
            }
        }
    }

    /// Writes the file of a series, from which `cargo xtask docs` makes the table.
    pub(crate) fn write(&self, series: Series, release: &str) -> Result<()> {
        let path = path(series);
        let folder = workspace::root().join("docs/kernels");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        fs::write(&path, self.text(release)).with_context(|| format!("write {}", path.display()))
    }

    fn text(&self, release: &str) -> String {
        let mut lines = vec![
            format!("release\t{release}"),
            format!("passed\t{}", self.passed),
        ];
        lines.extend(
            self.programs
                .iter()
                .map(|program| format!("program\t{}", program.join("\t"))),
        );
        lines.extend(
            self.skipped
                .iter()
                .map(|(name, reason)| format!("skipped\t{name}\t{reason}")),
        );
        lines.join("\n") + "\n"
    }
}

/// The file with the results of a series.
fn path(series: Series) -> PathBuf {
    let name = format!("docs/kernels/{}.tsv", series.name());
    workspace::root().join(name)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, reason) in &self.skipped {
            writeln!(f, "skipped {name}: {reason}")?;
        }
        for name in &self.failed {
            writeln!(f, "FAILED {name}")?;
        }
        write!(
            f,
            "{} programs loaded, {} tests passed, {} skipped, {} failed",
            self.programs.len(),
            self.passed,
            self.skipped.len(),
            self.failed.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_tests_are_read_from_the_output() {
        let mut report = Report::default();
        for line in [
            "program connect4 1009 30000",
            "proxies::envoy is skipped: needs ENVOY",
            "test proxies::envoy ... ignored",
            "test ports::first  ... ok",
            "test ports::second ... FAILED",
        ] {
            report.read(line);
        }
        assert_eq!(report.failed, ["ports::second"]);
        assert_eq!(
            report.text("6.1"),
            "release\t6.1\npassed\t1\nprogram\tconnect4\t1009\t30000\n\
             skipped\tproxies::envoy\tneeds ENVOY\n"
        );
    }
}
