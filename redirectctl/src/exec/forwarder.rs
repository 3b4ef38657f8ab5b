//! The built-in forwarder beside a command.

use std::{io, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use super::{cgroup::ExecCgroup, signals::pid};

/// The time that the forwarder has to end: longer than the time that it gives to open connections.
const PATIENCE: Duration = Duration::from_secs(5);

/// The options of the built-in forwarder that is started beside the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwarderOptions {
    /// The port at which it listens.
    pub port: u16,
    /// The user that it becomes, in the first user namespace.
    pub uid: u32,
    /// The group that it becomes, in the first user namespace.
    pub gid: u32,
    /// Whether only registered destinations are forwarded to.
    pub registry_only: bool,
    /// The file of registered destinations.
    pub registry: Option<PathBuf>,
}

/// A running forwarder.
pub(super) struct Forwarder {
    child: Child,
    log: JoinHandle<()>,
}

impl Forwarder {
    /// Starts the forwarder in the cgroup `proxy`, and waits until it listens.
    pub(super) async fn start(cgroup: &ExecCgroup, options: &ForwarderOptions) -> Result<Self> {
        let ForwarderOptions {
            port,
            uid,
            gid,
            registry_only,
            registry,
        } = options;
        let own = std::env::current_exe().context("find this program")?;
        let mode = if *registry_only {
            "registry-only"
        } else {
            "allow-any"
        };
        let mut command = Command::new(own);
        command
            .args(["proxy", "--listen", &port.to_string(), "--mode", mode])
            .args(["--uid", &uid.to_string(), "--gid", &gid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if let Some(registry) = registry {
            command.arg("--registry").arg(registry);
        }
        let mut child = cgroup
            .spawn(&cgroup.proxy(), &mut command)
            .context("start the forwarder")?;
        let stdout = child.stdout.take().context("read from the forwarder")?;
        let mut lines = BufReader::new(stdout).lines();
        // The first line of output says that the forwarder listens.
        if lines
            .next_line()
            .await
            .context("read from the forwarder")?
            .is_none()
        {
            bail!("start the forwarder: it ended at once; is port {port} taken?");
        }
        Ok(Self {
            child,
            log: tokio::spawn(pass_on(lines)),
        })
    }

    /// Stops the forwarder. It gives open connections the time to end, and its log is shown to the last line: the
    /// command's last connections end only now.
    pub(super) async fn stop(mut self) -> io::Result<()> {
        if let Some(pid) = pid(&self.child) {
            // The forwarder may have ended by itself.
            kill_process(pid, Signal::TERM).unwrap_or_default();
        }
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        // The task ends with the forwarder's output. A process that the forwarder has started and that still holds the
        // output does not count.
        drop(timeout(PATIENCE, self.log).await);
        Ok(())
    }
}

/// Shows the forwarder's log on standard error, apart from the output of the command.
async fn pass_on(mut lines: Lines<BufReader<ChildStdout>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        use io::Write as _;
        // In one call, or the command's own messages would come in between.
        drop(io::stderr().write_all(format!("proxy: {line}\n").as_bytes()));
    }
}
