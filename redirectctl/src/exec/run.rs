//! The run of a command, from its start to its exit status.

use std::{ffi::OsString, io, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use anyhow::{Context as _, Error, Result};
use redirect_user::config::RedirectConfig;

use super::{ForwarderOptions, cgroup::ExecCgroup, forwarder::Forwarder, signals::Signals};

/// The exit status if the command exists but cannot be run, as in a shell.
const CANNOT_RUN: u8 = 126;
/// The exit status if the command does not exist, as in a shell.
const NOT_FOUND: u8 = 127;
/// The number that a shell adds to the number of the signal that ended a command.
const BY_SIGNAL: u8 = 128;

/// The result of a command.
#[derive(Debug)]
pub struct CommandResult {
    /// The exit status to pass on.
    pub status: u8,
    /// A problem apart from the command itself.
    pub problem: Option<Error>,
}

/// Runs a command in the cgroup until it ends. Signals that would end this process are passed on to the command.
pub fn run(
    cgroup: &ExecCgroup,
    config: &RedirectConfig,
    forwarder: Option<&ForwarderOptions>,
    command: &[OsString],
) -> Result<CommandResult> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(run_async(cgroup, config, forwarder, command))
}

async fn run_async(
    cgroup: &ExecCgroup,
    config: &RedirectConfig,
    forwarder: Option<&ForwarderOptions>,
    command: &[OsString],
) -> Result<CommandResult> {
    // From here on, no signal ends this process before the cgroup is removed.
    let mut signals = Signals::new()?;
    let attached = cgroup.attach(config)?;
    let forwarder = match forwarder {
        Some(options) => match Forwarder::start(cgroup, options).await {
            Ok(forwarder) => Some(forwarder),
            Err(error) => {
                cgroup.detach(&attached)?;
                return Err(error);
            }
        },
        None => None,
    };
    let ended = match cgroup.start(command) {
        Ok(mut child) => signals.wait(&mut child).await.map(code),
        Err(error) => Err(error),
    };
    // Redirection ends before the forwarder ends: connections of processes that the command left behind are not
    // refused.
    let detached = cgroup.detach(&attached);
    if let Some(forwarder) = forwarder {
        forwarder.stop().await.context("stop the forwarder")?;
    }
    Ok(match ended {
        Ok(status) => CommandResult {
            status,
            problem: detached.err(),
        },
        Err(error) => not_run(error, command),
    })
}

/// The result of a command that could not be run, as in a shell.
fn not_run(error: io::Error, command: &[OsString]) -> CommandResult {
    let missing = error.kind() == io::ErrorKind::NotFound;
    let name = command
        .first()
        .map(|name| name.to_string_lossy().into_owned());
    let problem = Error::new(error).context(format!("run \"{}\"", name.unwrap_or_default()));
    CommandResult {
        status: if missing { NOT_FOUND } else { CANNOT_RUN },
        problem: Some(problem),
    }
}

/// The exit status, as in a shell.
fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().and_then(|signal| u8::try_from(signal).ok());
    let plain = status.code().and_then(|code| u8::try_from(code).ok());
    plain
        .or_else(|| signal.map(|signal| BY_SIGNAL.saturating_add(signal)))
        .unwrap_or(u8::MAX)
}
