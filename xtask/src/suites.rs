//! The test suites of the workspace, and the choice of those that a filter is about.
//!
//! A suite is the unit tests of a package, or one of its integration tests. The choice is made from the sources, before
//! anything is compiled: a suite may contain the filter if its own name, a module or a function contains it. The choice
//! may include a suite without such a test. It never leaves one out, except for names that are made when tests run.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::workspace::{self, EBPF_PACKAGE};

/// A test program of a package, as cargo selects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    package: String,
    target: Target,
    /// The names of modules and functions in the sources.
    names: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// The unit tests of the library and of the programs.
    Unit { has_lib: bool, has_bins: bool },
    /// The integration test with this name.
    Test(String),
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            package, target, ..
        } = self;
        match target {
            Target::Unit { .. } => write!(f, "unit tests of {package}"),
            Target::Test(name) => write!(f, "{package}/{name}"),
        }
    }
}

impl Suite {
    /// Whether a test in the suite may have a name that contains the text.
    fn may_contain(&self, text: &str) -> bool {
        // Tests are listed by module and function; the last part is the most specific.
        let text = text.rsplit("::").find(|part| !part.is_empty());
        let text = text.unwrap_or_default();
        let own = match &self.target {
            Target::Unit { .. } => &self.package,
            Target::Test(name) => name,
        };
        own.contains(text) || self.names.iter().any(|name| name.contains(text))
    }
}

impl Target {
    /// The arguments by which cargo selects the target in the selected packages.
    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Unit { has_lib, has_bins } => {
                let flags = [has_lib.then_some("--lib"), has_bins.then_some("--bins")];
                flags.into_iter().flatten().map(str::to_owned).collect()
            }
            Self::Test(name) => vec![format!("--test={name}")],
        }
    }

    fn is_same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unit { .. }, Self::Unit { .. }) => true,
            (Self::Test(name), Self::Test(other)) => name == other,
            (Self::Unit { .. }, Self::Test(_)) | (Self::Test(_), Self::Unit { .. }) => false,
        }
    }
}

/// The result of a choice.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The arguments by which cargo selects the chosen suites; none for all suites.
    pub(crate) arguments: Vec<String>,
    /// The suites that are left out.
    pub(crate) left_out: Vec<String>,
}

/// Chooses the suites that may contain a text: all of them if none does.
///
/// Cargo selects packages and targets independently, so every package of a chosen suite is built with every chosen
/// target that it has.
pub(crate) fn choose(suites: &[Suite], text: &str) -> Choice {
    let chosen: Vec<_> = suites
        .iter()
        .filter(|suite| suite.may_contain(text))
        .collect();
    let is_built = |suite: &&Suite| {
        chosen.iter().any(|chosen| chosen.package == suite.package)
            && chosen
                .iter()
                .any(|chosen| chosen.target.is_same_kind(&suite.target))
    };
    let left_out: Vec<_> = suites.iter().filter(|suite| !is_built(suite)).collect();
    if chosen.is_empty() || left_out.is_empty() {
        return Choice::default();
    }
    let packages = chosen
        .iter()
        .map(|suite| format!("--package={}", suite.package));
    let targets = chosen.iter().flat_map(|suite| suite.target.arguments());
    let arguments: BTreeSet<_> = packages.chain(targets).collect();
    Choice {
        arguments: arguments.into_iter().collect(),
        left_out: left_out.iter().map(ToString::to_string).collect(),
    }
}

/// Reads the suites of all packages that are compiled for the host.
pub(crate) fn read() -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for folder in workspace::packages()? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if name != EBPF_PACKAGE {
            suites.extend(of_package(&folder, &name)?);
        }
    }
    Ok(suites)
}

fn of_package(folder: &Path, package: &str) -> Result<Vec<Suite>> {
    let src = folder.join("src");
    let mut suites = vec![Suite {
        package: package.to_owned(),
        target: Target::Unit {
            has_lib: src.join("lib.rs").is_file(),
            has_bins: src.join("main.rs").is_file() || src.join("bin").is_dir(),
        },
        names: names(&src)?,
    }];
    for path in entries(&folder.join("tests"))? {
        let is_suite = path.join("main.rs").is_file() || is_source(&path);
        if let Some(name) = path.file_stem().filter(|_| is_suite) {
            suites.push(Suite {
                package: package.to_owned(),
                target: Target::Test(name.to_string_lossy().into_owned()),
                names: names(&path)?,
            });
        }
    }
    Ok(suites)
}

/// The paths in a folder, sorted; none if there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let list = || format!("list {}", folder.display());
    let entries = fs::read_dir(folder).with_context(list)?;
    let paths = entries.map(|entry| Ok(entry.with_context(list)?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// The names of the modules and functions in a source file, or in all source files of a folder.
fn names(path: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    if is_source(path) {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        found.extend(declared(&text).map(str::to_owned));
    }
    for entry in entries(path)? {
        found.extend(names(&entry)?);
    }
    Ok(found)
}

/// The names that follow `fn` and `mod` in a source text.
fn declared(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split_whitespace();
    words
        .clone()
        .zip(words.skip(1))
        .filter(|(keyword, _)| matches!(*keyword, "fn" | "mod"))
        .filter_map(|(_, name)| {
            name.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .next()
        })
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(package: &str, test: Option<&str>, names: &[&str]) -> Suite {
        Suite {
            package: package.to_owned(),
            target: test.map_or(
                Target::Unit {
                    has_lib: true,
                    has_bins: false,
                },
                |name| Target::Test(name.to_owned()),
            ),
            names: names.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn a_filter_chooses_the_suites_with_such_a_name() {
        let suites = [
            suite("common", None, &["tests", "a_range_is_excluded"]),
            suite("user", None, &["a_list_is_parsed"]),
            suite("user", Some("kernel"), &["udp", "a_port_is_excluded"]),
            suite("user", Some("walls"), &["walls_stand"]),
        ];
        let arguments = |text: &str| choose(&suites, text).arguments.join(" ");
        assert_eq!(arguments("kernel"), "--package=user --test=kernel");
        assert_eq!(arguments("udp::a_port"), "--package=user --test=kernel");
        assert_eq!(arguments("udp::"), "--package=user --test=kernel");
        // Cargo builds the unit tests of `user` as well.
        let choice = choose(&suites, "excluded");
        let expected = [
            "--lib",
            "--package=common",
            "--package=user",
            "--test=kernel",
        ];
        assert_eq!(choice.arguments, expected);
        assert_eq!(choice.left_out, ["user/walls"]);
    }

    #[test]
    fn a_filter_without_a_match_chooses_all_suites() {
        let suites = [suite("user", Some("walls"), &["walls_stand"])];
        assert_eq!(choose(&suites, "made_when_tests_run"), Choice::default());
    }

    #[test]
    fn functions_and_modules_are_declared_names() {
        let text =
            "mod inner;\n\npub(crate) fn first<T>(x: T) {}\nasync fn second() {}\n// a mod.rs\n";
        let names: Vec<_> = declared(text).collect();
        assert_eq!(names, ["inner", "first", "second"]);
    }

    #[test]
    fn this_test_is_found_in_the_unit_tests_of_xtask() {
        let suites = read().unwrap();
        let choice = choose(&suites, "this_test_is_found_in_the_unit_tests_of_xtask");
        assert_eq!(choice.arguments, ["--bins", "--package=xtask"]);
    }
}
