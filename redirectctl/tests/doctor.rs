//! `redirectctl doctor` on this machine, with every privilege and with none.
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

/// The lock of both tests: a program cannot run while another thread's child still has its file open for writing.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A state directory that no other test uses. The tests must not create it.
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
fn a_ready_machine_passes_and_nothing_is_left() -> Result<()> {
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
    assert!(!state_dir.exists(), "{} exists", state_dir.display());

    let output = Command::new(PROGRAM).arg("doctor").output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(text.starts_with("CHECK  "), "{text}");
    assert!(text.ends_with("\neverything required is there\n"), "{text}");
    Ok(())
}

/// Runs a copy of the program as user nobody, who cannot read the build folder.
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
fn doctor_reports_unknown_checks_without_privileges() -> Result<()> {
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
    // Checks that need no privilege still have a result.
    for prefix in ["kernel", "cgroup2", "netns cookie"] {
        for (name, result) in results(&report, prefix) {
            assert_eq!(result, "present", "{name}");
        }
    }
    Ok(())
}
