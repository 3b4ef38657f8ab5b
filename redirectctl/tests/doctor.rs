//! `redirectctl doctor` on this machine: with every privilege, with the three it asks for, and
//! with none.
#![expect(
    clippy::disallowed_methods,
    clippy::panic_in_result_fn,
    reason = "a test runs programs, and fails by panicking"
)]

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Command, Output},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use redirect_common::{abi::MapName, hooks::Hook};
use redirect_testkit::missing_or_fail;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_redirectctl");
const NOBODY: u32 = 65534;

/// A program cannot be run while another thread's child still has it open for writing.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A folder that no other test uses, and that must not come into being.
fn state_dir(name: &str) -> PathBuf {
    Path::new("/sys/fs/bpf").join(format!("redirect-doctor-{name}-{}", process::id()))
}

fn json(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout)
        .context(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The results of the checks whose names begin with `prefix`, with the names.
fn results<'json>(report: &'json Value, prefix: &str) -> Vec<(&'json str, &'json str)> {
    let text = |check: &'json Value, field| check[field].as_str().unwrap_or_default();
    let checks = report["checks"].as_array().into_iter().flatten();
    checks
        .map(|check| (text(check, "check"), text(check, "result")))
        .filter(|(name, _)| name.starts_with(prefix))
        .collect()
}

#[test]
fn a_machine_that_runs_the_tests_is_ready_and_nothing_is_left() -> Result<()> {
    if let Some(reason) = missing_or_fail(&[])? {
        eprintln!("skipped: {reason}");
        return Ok(());
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let state_dir = state_dir("root");
    let mut doctor = Command::new(PROGRAM);
    doctor
        .args(["doctor", "--output", "json", "--bpffs"])
        .arg(&state_dir);
    let output = doctor.output()?;
    let report = json(&output)?;
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["ok"], true);
    assert_eq!(results(&report, "map ").len(), MapName::ALL.len());
    assert_eq!(results(&report, "program ").len(), Hook::ALL.len() + 1);
    for (name, result) in results(&report, "") {
        assert_eq!(result, "present", "{name}: {report:#}");
    }
    assert!(!state_dir.exists(), "{} was made", state_dir.display());

    let output = Command::new(PROGRAM).arg("doctor").output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(text.starts_with("CHECK  "), "{text}");
    assert!(text.ends_with("\neverything required is there\n"), "{text}");
    Ok(())
}

/// Runs as nobody, from a place that nobody can read.
fn as_nobody(arguments: &[&str]) -> Result<Output> {
    let copy = env::temp_dir().join(format!("redirect-doctor-{}", process::id()));
    fs::copy(PROGRAM, &copy)?;
    let output = Command::new(&copy)
        .args(arguments)
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    fs::remove_file(&copy)?;
    Ok(output?)
}

#[test]
fn without_privileges_it_says_what_it_could_not_find_out() -> Result<()> {
    if let Some(reason) = missing_or_fail(&[])? {
        eprintln!("skipped: {reason}");
        return Ok(());
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = as_nobody(&["doctor", "--output", "json"])?;
    let report = json(&output)?;
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(report["ok"], false);
    for (name, result) in results(&report, "CAP_") {
        assert_eq!(result, "missing", "{name}");
    }
    for prefix in ["map ", "program "] {
        for (name, result) in results(&report, prefix) {
            assert_eq!(result, "unknown", "{name}");
        }
    }
    // What does not take a privilege is still told.
    for prefix in ["kernel", "cgroup2", "netns cookie", "membarrier"] {
        for (name, result) in results(&report, prefix) {
            assert_eq!(result, "present", "{name}");
        }
    }
    Ok(())
}
