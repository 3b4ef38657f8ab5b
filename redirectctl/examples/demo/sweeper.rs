//! A helper process that runs `redirectctl uninstall` when the demo is over, however it ends.
//!
//! The pod's own guard (redirect-testkit) removes cgroup and namespaces in the same way: it waits
//! for its standard input to close, which happens on return, on Ctrl-C and on SIGKILL alike.

use std::{
    env,
    ffi::OsString,
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};

use crate::command::program;

/// The first argument of a demo that is to be a sweeper.
const MARK: &str = "__sweeper";

/// Dropping it removes the folder of all state; so does the end of this process.
#[derive(Debug)]
pub(crate) struct Sweeper {
    child: Child,
    lifeline: Option<OwnedFd>,
}

impl Sweeper {
    /// Starts it before there is anything to remove.
    pub(crate) fn start(redirectctl: &Path, bpffs: &Path) -> Result<Self> {
        let own = env::current_exe().context("find this program")?;
        let mut child = program(&own)
            .arg(MARK)
            .args([redirectctl, bpffs])
            // Out of reach of the terminal's Ctrl-C.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("start the sweeper")?;
        let lifeline = child.stdin.take().map(OwnedFd::from);
        Ok(Self { child, lifeline })
    }

    /// The lifeline once more, as a redirectctl's standard input, which it does not read: if the
    /// demo is interrupted, sweeping waits until a command that is under way has ended too.
    pub(crate) fn lifeline(&self) -> Result<Stdio> {
        let lifeline = self.lifeline.as_ref().map(OwnedFd::try_clone).transpose();
        let lifeline = lifeline.context("hold the sweeper back")?;
        Ok(lifeline.map_or_else(Stdio::null, Stdio::from))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // It has said itself what went wrong.
        drop(self.child.wait());
    }
}

/// Becomes the sweeper if this process was started as one.
pub(crate) fn intercept() -> Option<ExitCode> {
    let mut words = env::args_os().skip(1);
    if words.next()? != MARK {
        return None;
    }
    let paths: Vec<OsString> = words.collect();
    let [redirectctl, bpffs] = paths.as_slice() else {
        return Some(ExitCode::FAILURE);
    };
    Some(match sweep(redirectctl, &PathBuf::from(bpffs)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if even standard error is closed.
            drop(writeln!(io::stderr(), "demo: clean up: {error:#}"));
            ExitCode::FAILURE
        }
    })
}

fn sweep(redirectctl: &OsString, bpffs: &Path) -> Result<()> {
    // Any outcome means that the demo is over.
    drop(io::stdin().read_to_end(&mut Vec::new()));
    if !bpffs.exists() {
        return Ok(());
    }
    let status = program(redirectctl)
        .arg("--bpffs")
        .arg(bpffs)
        .args(["uninstall", "--yes"])
        .stdout(Stdio::null())
        .status()
        .context("start redirectctl")?;
    anyhow::ensure!(status.success(), "redirectctl uninstall: {status}");
    Ok(())
}
