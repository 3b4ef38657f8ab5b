//! From the command's start to its exit status.

use std::{ffi::OsString, io, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use anyhow::{Context as _, Error, Result};
use redirect_user::config::RedirectConfig;

use super::{ExecCgroup, Sidecar, forwarder::Forwarder, signals::Signals};

/// Exit status if the command exists but cannot be run, as a shell has it.
const CANNOT_RUN: u8 = 126;
/// Exit status if the command does not exist, as a shell has it.
const NOT_FOUND: u8 = 127;
/// What a shell adds to the number of the signal that ended a command.
const BY_SIGNAL: u8 = 128;

/// How the command ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status to pass on.
    pub status: u8,
    /// What went wrong apart from the command itself.
    pub problem: Option<Error>,
}

/// Runs a command in a sandbox until it ends. Signals that would end this process are passed on
/// to it.
pub fn run(
    sandbox: &ExecCgroup,
    config: &RedirectConfig,
    sidecar: Option<&Sidecar>,
    command: &[OsString],
) -> Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(run_async(sandbox, config, sidecar, command))
}

async fn run_async(
    sandbox: &ExecCgroup,
    config: &RedirectConfig,
    sidecar: Option<&Sidecar>,
    command: &[OsString],
) -> Result<Ended> {
    // From here on no signal ends this process before it has cleaned up.
    let mut signals = Signals::new()?;
    let cgroup = sandbox.attach(config)?;
    let forwarder = match sidecar {
        Some(sidecar) => match Forwarder::start(sandbox, sidecar).await {
            Ok(forwarder) => Some(forwarder),
            Err(error) => {
                sandbox.detach(&cgroup)?;
                return Err(error);
            }
        },
        None => None,
    };
    let ended = match sandbox.start(command) {
        Ok(mut child) => signals.wait(&mut child).await.map(code),
        Err(error) => Err(error),
    };
    // Redirection ends before the forwarder does: nothing the command left behind is refused.
    let detached = sandbox.detach(&cgroup);
    if let Some(forwarder) = forwarder {
        forwarder.stop().await.context("stop the forwarder")?;
    }
    Ok(match ended {
        Ok(status) => Ended {
            status,
            problem: detached.err(),
        },
        Err(error) => not_run(error, command),
    })
}

/// What a shell would say of a command that could not be run.
fn not_run(error: io::Error, command: &[OsString]) -> Ended {
    let missing = error.kind() == io::ErrorKind::NotFound;
    let name = command
        .first()
        .map(|name| name.to_string_lossy().into_owned());
    let problem = Error::new(error).context(format!("run \"{}\"", name.unwrap_or_default()));
    Ended {
        status: if missing { NOT_FOUND } else { CANNOT_RUN },
        problem: Some(problem),
    }
}

/// The exit status that a shell would show.
fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().and_then(|signal| u8::try_from(signal).ok());
    let plain = status.code().and_then(|code| u8::try_from(code).ok());
    plain
        .or_else(|| signal.map(|signal| BY_SIGNAL.saturating_add(signal)))
        .unwrap_or(u8::MAX)
}
