//! The signals that would end this process, passed on to the command instead.

use std::{io, process::ExitStatus};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Child,
    signal::unix::{Signal as SignalStream, SignalKind, signal},
};

/// The signals that end a process and are passed on instead.
pub(super) struct Signals {
    interrupt: SignalStream,
    quit: SignalStream,
    terminate: SignalStream,
    hang_up: SignalStream,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("listen to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the command, and passes signals on. A terminal sends Ctrl-C and Ctrl-\ to the command, too, so those
    /// signals are ignored here.
    pub(super) async fn wait(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        let pid = pid(child);
        let terminal = rustix::termios::isatty(io::stdin());
        loop {
            let signal = tokio::select! {
                status = child.wait() => return status,
                _ = self.interrupt.recv() => (!terminal).then_some(Signal::INT),
                _ = self.quit.recv() => (!terminal).then_some(Signal::QUIT),
                _ = self.terminate.recv() => Some(Signal::TERM),
                _ = self.hang_up.recv() => Some(Signal::HUP),
            };
            if let (Some(pid), Some(signal)) = (pid, signal)
                && kill_process(pid, signal).is_err()
            {
                // The command has ended meanwhile.
                return child.wait().await;
            }
        }
    }
}

/// The process id; none after the process has been waited for.
pub(super) fn pid(child: &Child) -> Option<Pid> {
    child
        .id()
        .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
}
