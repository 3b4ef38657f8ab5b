//! The kernel tests in other kernels.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{Series, cpio, guest, kernel::Kernel, machine, report::Report};
use crate::{
    command::{self, ask, cargo},
    setup::{self, Purpose},
    steps::Steps,
    workspace,
};

/// The time that a machine may take: an emulated processor is some ten times slower.
const LIMIT: Duration = Duration::from_mins(45);

/// The tests that are run without a filter: all of them would take hours on an emulated processor. They cover each
/// hook, both families, and comparisons with real iptables.
const CHOICE: [&str; 11] = [
    "oldest::",
    "destination::",
    "ipv6::",
    "owner::",
    "sockets::",
    "stand_ins::",
    "dns::queries_look_as_behind_real_iptables",
    "inbound::inbound_connections_look_as_behind_real_iptables",
    "proxies::",
    "update::",
    "upgrade::every_program_of_a_pod_is_replaced_and_nothing_else",
];

/// Runs kernel tests in each of the kernels: those of the filter, or a choice. `record` keeps the results for the
/// documentation.
pub(crate) fn run(
    kernels: &[Series],
    filter: Option<&String>,
    rest: &[String],
    record: bool,
) -> Result<()> {
    if !workspace::is_root() {
        bail!(
            "test other kernels: their packages are kept for all users, which needs root: run it as root"
        );
    }
    let filters = filter.map_or_else(
        || CHOICE.map(str::to_owned).to_vec(),
        |filter| vec![filter.clone()],
    );
    let runs: Vec<_> = filters
        .into_iter()
        .map(|filter| [&[filter], rest].concat())
        .collect();
    let mut steps = Steps::default();
    let mut tests = None;
    if steps.step("set up", || setup::ensure(Purpose::Kernels))
        && steps.step("build the tests", || {
            tests = Some(build()?);
            Ok(())
        })
        && let Some(tests) = tests
    {
        for series in kernels {
            steps.step(series.name(), || in_kernel(*series, &tests, &runs, record));
        }
    }
    steps.finish()
}

fn in_kernel(series: Series, tests: &Path, runs: &[Vec<String>], record: bool) -> Result<()> {
    let kernel = Kernel::of(series)?;
    println!("Linux {}", kernel.release);
    let folder = target().join("kernels").join(series.name());
    let root = folder.join("root");
    guest::make(&root, &kernel, tests, runs)?;
    let archive = folder.join("initramfs");
    cpio::write(&root, &archive)?;
    let mut report = Report::default();
    let status = machine::boot(&kernel.image()?, &archive, &folder, LIMIT, |line| {
        report.read(line);
    })?;
    println!("{report}");
    if status != 0 {
        bail!(
            "test Linux {}: the tests ended with status {status}",
            kernel.release
        );
    }
    if record {
        report.write(series, &kernel.release)?;
    }
    Ok(())
}

/// Builds the kernel tests without dynamic libraries. Returns the program.
fn build() -> Result<PathBuf> {
    let host = ask("rustc", &["--print", "host-tuple"]).context("ask rustc for its target")?;
    let mut build = cargo([
        "test",
        "--no-run",
        "--package",
        "redirect-user",
        "--test",
        "kernel",
    ]);
    // With a named target, programs that run during the build are not linked statically.
    build
        .args(["--target", host.trim(), "--message-format=json"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    let messages = command::output(&mut build)?;
    let program = messages.lines().filter_map(executable).next_back();
    program
        .map(PathBuf::from)
        .context("find the test program: cargo named none")
}

/// The program that a message of cargo names.
fn executable(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("\"executable\":\"")?;
    rest.split('"').next()
}

fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace::root().join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_program_is_read_from_cargos_messages() {
        assert_eq!(
            executable(r#"{"reason":"compiler-artifact","executable":"/t/kernel-1","fresh":true}"#),
            Some("/t/kernel-1")
        );
        assert_eq!(executable(r#"{"executable":null}"#), None);
    }
}
