//! The results of the tests in other kernels as tables. `cargo xtask test --kernel SERIES --record` writes them to
//! `docs/kernels`.

use std::collections::BTreeMap;

/// A file of results, of which each line is a word with its values, separated by tabulators.
macro_rules! results {
    ($series:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/kernels/",
            $series,
            ".tsv"
        ))
    };
}

/// The files of results, oldest kernel first.
pub const FILES: [&str; 2] = [results!("5.10"), results!("newest")];

/// The columns of a table with a label and a cell for each kernel.
pub(crate) const COLUMNS: usize = FILES.len() + 1;

/// The results of one kernel.
#[derive(Debug, Default)]
pub struct Results<'text> {
    /// The release, as `uname -r` prints it.
    pub release: &'text str,
    /// The number of tests that passed.
    pub passed: &'text str,
    /// Each program with its instructions, and those that the verifier walked.
    pub programs: Vec<(&'text str, &'text str, &'text str)>,
    /// The skipped tests, with the reasons.
    pub skipped: Vec<(&'text str, &'text str)>,
}

impl<'text> Results<'text> {
    /// Reads a file of results.
    #[must_use]
    pub fn read(text: &'text str) -> Self {
        let mut results = Self::default();
        for line in text.lines() {
            match *line.split('\t').collect::<Vec<_>>() {
                ["release", release] => results.release = release,
                ["passed", passed] => results.passed = passed,
                ["program", name, size, verified] => results.programs.push((name, size, verified)),
                ["skipped", name, reason] => results.skipped.push((name, reason)),
                _ => {}
            }
        }
        results
    }
}

/// The results of every kernel.
pub(crate) fn all() -> Vec<Results<'static>> {
    FILES.into_iter().map(Results::read).collect()
}

/// Rows of a label and a cell for each kernel.
pub(crate) fn rows(kernels: &[Results<'_>]) -> Vec<[String; COLUMNS]> {
    let row = |label: &str, cell: &dyn Fn(&Results<'_>) -> String| {
        let mut cells = kernels.iter().map(cell);
        std::array::from_fn(|column| {
            let next = if column == 0 {
                Some(label.to_owned())
            } else {
                cells.next()
            };
            next.unwrap_or_default()
        })
    };
    let programs = kernels.first().map(|first| first.programs.as_slice());
    let sizes = programs.unwrap_or_default().iter().map(|(name, _, _)| {
        row(&format!("`{name}`"), &|results| {
            let mut found = results.programs.iter();
            found.find(|(other, _, _)| other == name).map_or_else(
                || "–".to_owned(),
                |(_, size, verified)| format!("{verified} ({size})"),
            )
        })
    });
    let tests = [
        row("tests passed", &|results| results.passed.to_owned()),
        row("tests skipped", &|results| {
            results.skipped.len().to_string()
        }),
    ];
    sizes.chain(tests).collect()
}

/// Skipped tests: the test, the reason, the kernels.
pub(crate) fn skipped(kernels: &[Results<'_>]) -> Vec<[String; 3]> {
    let mut found: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for results in kernels {
        for &skipped in &results.skipped {
            found.entry(skipped).or_default().push(results.release);
        }
    }
    found
        .into_iter()
        .map(|((name, reason), releases)| {
            [format!("`{name}`"), reason.to_owned(), releases.join(", ")]
        })
        .collect()
}
