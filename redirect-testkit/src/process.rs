// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that a worker runs, with the worker's cgroup, namespace, uid and gid.

use std::{
    io::{self, Write as _},
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::command;

/// A program to start and keep running.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StartProcess {
    pub(crate) argv: Vec<String>,
    pub(crate) stdin: String,
}

/// The handle of a program that [`crate::Worker::start`] started. Only that worker knows the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub(crate) index: usize,
    /// The process id.
    pub pid: u32,
}

/// The exit status and the outputs of a program that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramOutput {
    /// The exit status; none if a signal ended the program.
    pub status: Option<i32>,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

impl ProgramOutput {
    /// Whether the program ended with status 0.
    pub fn is_success(&self) -> bool {
        self.status == Some(0)
    }
}

/// A running program, with its outputs so far.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Running {
    /// Starts a program. Both of its outputs go to the log.
    pub(crate) fn start(request: &StartProcess) -> Result<Self> {
        let (name, args) = request
            .argv
            .split_first()
            .ok_or_else(|| anyhow!("start a program: the command line is empty"))?;
        let mut child = command::program(name)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let log = Arc::new(Mutex::new(Vec::new()));
        if let Some(out) = child.stdout.take() {
            collect(out, Arc::clone(&log));
        }
        if let Some(err) = child.stderr.take() {
            collect(err, Arc::clone(&log));
        }
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(request.stdin.as_bytes())
                .with_context(|| format!("write the standard input of {name}"))?;
        }
        Ok(Self { child, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap_or_else(PoisonError::into_inner))
            .into_owned()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

/// Copies an output to the log, in a thread of its own.
fn collect(mut from: impl io::Read + Send + 'static, log: Arc<Mutex<Vec<u8>>>) {
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            let seen = chunk.get(..count).unwrap_or_default();
            log.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(seen);
        }
    });
}

/// Runs a program to its end.
pub(crate) fn run(argv: &[String]) -> Result<ProgramOutput> {
    let (name, args) = argv
        .split_first()
        .ok_or_else(|| anyhow!("run a program: the command line is empty"))?;
    let done = command::program(name)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {name}"))?;
    Ok(ProgramOutput {
        status: done.status.code(),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    })
}
