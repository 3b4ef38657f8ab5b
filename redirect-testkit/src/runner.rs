// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runner of test suites that have a `main` of their own: it runs each test, or skips it and prints the reason.

use std::{env, ffi::OsString, process::ExitCode};

use anyhow::Result;
pub use libtest_mimic::Trial;
use libtest_mimic::{Arguments, Failed};

use crate::require::tests_at_once;

/// The function of a test, as the runner calls it.
pub type Test = fn() -> Result<()>;

/// Tests of one module that need the same of the machine: see [`cases!`](crate::cases).
#[derive(Debug, Clone, Copy)]
pub struct Cases<N> {
    /// The module that lists the tests, as `module_path!` gives it.
    pub module: &'static str,
    /// The needs of the tests, in the suite's own terms.
    pub needs: N,
    /// The path of each test's function, and the function.
    pub tests: &'static [(&'static str, Test)],
}

/// Lists the tests of a module, grouped by their needs.
///
/// A test is a function without arguments that returns `()` or a `Result<()>`. Its name in the suite is the
/// module with the list, and the function: `paths::a_bound_source_is_kept`.
///
/// ```
/// # enum Needs { Root, Envoy }
/// # fn pods_are_made() {}
/// # fn pods_are_removed() {}
/// # mod proxies { pub fn envoy_starts() -> anyhow::Result<()> { Ok(()) } }
/// # use redirect_testkit::{cases, runner::Cases};
/// const CASES: &[Cases<Needs>] = cases! {
///     Needs::Root => [
///         pods_are_made,
///         pods_are_removed,
///     ],
///     Needs::Envoy => [proxies::envoy_starts],
/// };
/// ```
#[macro_export]
macro_rules! cases {
    ($($needs:expr => [$($test:path),+ $(,)?]),+ $(,)?) => {
        &[$($crate::runner::Cases {
            module: ::std::module_path!(),
            needs: $needs,
            tests: &[$((::std::stringify!($test), || $crate::runner::Tested::into_result($test()))),+],
        }),+]
    };
}

/// The return type of a test; a test may panic as well.
pub trait Tested {
    /// Converts the value for the runner.
    fn into_result(self) -> Result<()>;
}

impl Tested for () {
    fn into_result(self) -> Result<()> {
        Ok(self)
    }
}

impl Tested for Result<()> {
    fn into_result(self) -> Result<()> {
        self
    }
}

impl<N> Cases<N> {
    /// Drops the module from the tests' names.
    #[must_use]
    pub fn without_module(self) -> Self {
        Self { module: "", ..self }
    }

    /// The name of a test in the suite: the module without the suite's name, and the function without its path.
    fn name(&self, path: &str) -> String {
        let (_, function) = path.rsplit_once("::").unwrap_or(("", path));
        match self.module.split_once("::") {
            Some((_suite, module)) => format!("{module}::{}", function.trim()),
            None => function.trim().to_owned(),
        }
    }
}

/// Makes a trial of each test. `missing` returns the reason to skip tests with these needs on this machine, if
/// there is one.
pub fn trials<N: Copy>(
    cases: impl IntoIterator<Item = Cases<N>>,
    missing: impl Fn(N) -> Result<Option<String>>,
) -> Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for cases in cases {
        let reason = missing(cases.needs)?;
        for &(path, test) in cases.tests {
            trials.push(trial(cases.name(path), reason.as_ref(), test));
        }
    }
    Ok(trials)
}

/// Makes a trial of a test. If there is a reason to skip the test, prints it.
#[expect(clippy::print_stderr, reason = "tests print to standard error")]
pub fn trial(
    name: impl Into<String>,
    reason: Option<&String>,
    test: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    let name = name.into();
    if let Some(reason) = reason {
        eprintln!("{name} is skipped: {reason}");
    }
    let run = move || test().map_err(|error| Failed::from(format!("{error:#}")));
    Trial::test(name, run).with_ignored_flag(reason.is_some())
}

/// Runs the trials as the command line says, and returns the exit code of the suite. [`tests_at_once`] is the
/// default number of threads.
#[expect(clippy::print_stderr, reason = "tests print to standard error")]
pub fn run(trials: Result<Vec<Trial>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert_with(tests_at_once);
    match trials {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The `main` of a benchmark: measures if cargo started it as a benchmark, and otherwise runs its test.
///
/// cargo adds `--bench` to the arguments of a benchmark, and nothing to those of a test.
#[expect(
    clippy::print_stderr,
    reason = "the error of a benchmark is for the terminal"
)]
pub fn bench_or_test(
    bench: impl FnOnce(Vec<OsString>) -> Result<()>,
    test: impl FnOnce() -> ExitCode,
) -> ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    if !words.iter().any(|word| word == "--bench") {
        return test();
    }
    match bench(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() {}

    mod inner {
        pub(super) fn second() {}
    }

    #[test]
    fn a_test_is_called_by_module_and_function() {
        let cases: &[Cases<u8>] = cases! { 1 => [first, inner::second], 2 => [first] };
        let names = |cases: Cases<u8>| -> Vec<_> {
            let tests = cases.tests.iter();
            tests.map(|(path, _)| cases.name(path)).collect()
        };
        assert_eq!(cases.len(), 2);
        assert_eq!(
            names(cases[0]),
            ["runner::tests::first", "runner::tests::second"]
        );
        assert_eq!(names(cases[0].without_module()), ["first", "second"]);
    }
}
