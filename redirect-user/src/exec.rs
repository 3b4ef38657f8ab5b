//! Running one command redirected, in a cgroup of its own, and leaving nothing behind.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    config::RedirectConfig,
    node::{Reader, Writer},
    sys::{
        capability,
        cgroup::{self, Cgroup},
        netns::{Netns, NetnsRef},
    },
};

/// What the names of the cgroups begin with; the process id follows.
const PREFIX: &str = "redirect-exec-";
/// Exit status if the command exists but cannot be run, as a shell has it.
const CANNOT_RUN: u8 = 126;
/// Exit status if the command does not exist, as a shell has it.
const NOT_FOUND: u8 = 127;
/// What a shell adds to the number of the signal that ended a command.
const BY_SIGNAL: u8 = 128;
/// How long the forwarder may take to end: longer than it gives to connections that are open.
const PATIENCE: Duration = Duration::from_secs(5);

/// The built-in forwarder to start beside the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// Where it listens.
    pub port: u16,
    /// The user it becomes.
    pub uid: u32,
    /// The group it becomes.
    pub gid: u32,
    /// Whether only registered destinations are forwarded to.
    pub registry_only: bool,
    /// The file of registered destinations.
    pub registry: Option<PathBuf>,
}

/// How the command ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status to pass on.
    pub status: u8,
    /// What went wrong apart from the command itself.
    pub problem: Option<Error>,
}

/// A cgroup of its own below the caller's, removed with this value.
#[derive(Debug)]
pub struct Sandbox {
    owner: PathBuf,
    parent: PathBuf,
    folder: PathBuf,
    netns: Netns,
}

impl Sandbox {
    /// Makes the cgroup. What earlier runs that were killed have left is removed first.
    pub fn new(owner: &Path) -> Result<Self> {
        capability::require(&capability::NEEDED)?;
        let parent = cgroup::own()?;
        sweep(owner, &parent);
        let netns = Netns::read(&NetnsRef::Own)?;
        let folder = parent.join(format!("{PREFIX}{}", std::process::id()));
        let sandbox = Self {
            owner: owner.to_owned(),
            parent,
            folder,
            netns,
        };
        for folder in [sandbox.folder.clone(), sandbox.app(), sandbox.proxy()] {
            fs::create_dir(&folder)
                .with_context(|| format!("make cgroup \"{}\"", folder.display()))?;
        }
        Ok(sandbox)
    }

    /// The caller's network namespace, which is the command's.
    pub const fn netns(&self) -> &Netns {
        &self.netns
    }

    fn app(&self) -> PathBuf {
        self.folder.join("app")
    }

    fn proxy(&self) -> PathBuf {
        self.folder.join("proxy")
    }

    /// Runs the command until it ends. Signals that would end this process are passed on to it.
    pub fn run(
        self,
        config: &RedirectConfig,
        sidecar: Option<&Sidecar>,
        command: &[OsString],
    ) -> Result<Ended> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        runtime.block_on(self.run_async(config, sidecar, command))
    }

    async fn run_async(
        self,
        config: &RedirectConfig,
        sidecar: Option<&Sidecar>,
        command: &[OsString],
    ) -> Result<Ended> {
        // From here on no signal ends this process before it has cleaned up.
        let mut signals = Signals::new()?;
        let cgroup = Cgroup::open(&self.folder)?;
        Writer::open(&self.owner)?.attach(&cgroup, &self.netns, config)?;
        let forwarder = match sidecar {
            Some(sidecar) => match self.start_forwarder(sidecar).await {
                Ok(forwarder) => Some(forwarder),
                Err(error) => {
                    self.detach(&cgroup)?;
                    return Err(error);
                }
            },
            None => None,
        };
        let ended = match self.start(command) {
            Ok(mut child) => signals.wait(&mut child).await.map(code),
            Err(error) => Err(error),
        };
        // Redirection ends before the forwarder does: nothing the command left behind is refused.
        let detached = self.detach(&cgroup);
        if let Some(forwarder) = forwarder {
            forwarder.stop().await.context("stop the forwarder")?;
        }
        match ended {
            Ok(status) => Ok(Ended {
                status,
                problem: detached.err(),
            }),
            Err(error) => {
                let name = command
                    .first()
                    .map(|name| name.to_string_lossy().into_owned());
                let missing = error.kind() == io::ErrorKind::NotFound;
                let status = if missing { NOT_FOUND } else { CANNOT_RUN };
                let problem =
                    Error::new(error).context(format!("run \"{}\"", name.unwrap_or_default()));
                Ok(Ended {
                    status,
                    problem: Some(problem),
                })
            }
        }
    }

    /// Starts the command in its cgroup: this process goes there, forks, and comes back, because
    /// a socket belongs to the cgroup its process is in when it makes it.
    fn start(&self, command: &[OsString]) -> io::Result<Child> {
        let [program, arguments @ ..] = command else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        let mut command = Command::new(program);
        command.args(arguments);
        self.spawn(&self.app(), &mut command)
    }

    fn spawn(&self, folder: &Path, command: &mut Command) -> io::Result<Child> {
        enter(folder)?;
        let child = command.spawn();
        enter(&self.parent)?;
        child
    }

    async fn start_forwarder(&self, sidecar: &Sidecar) -> Result<Forwarder> {
        let Sidecar {
            port,
            uid,
            gid,
            registry_only,
            registry,
        } = sidecar;
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
        let mut child = self
            .spawn(&self.proxy(), &mut command)
            .context("start the forwarder")?;
        let stdout = child.stdout.take().context("read from the forwarder")?;
        let mut lines = BufReader::new(stdout).lines();
        // Its first line says that it listens.
        if lines
            .next_line()
            .await
            .context("read from the forwarder")?
            .is_none()
        {
            bail!("start the forwarder: it ended at once; is port {port} taken?");
        }
        Ok(Forwarder {
            child,
            log: tokio::spawn(pass_on(lines)),
        })
    }

    fn detach(&self, cgroup: &Cgroup) -> Result<()> {
        let mut writer = Writer::open(&self.owner)?;
        let pod = writer.pod(cgroup.id(), cgroup.path())?;
        writer.detach(&pod)?;
        writer.retire()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        remove(&self.folder, &self.parent);
    }
}

/// A forwarder that runs.
struct Forwarder {
    child: Child,
    log: JoinHandle<()>,
}

impl Forwarder {
    /// Lets it finish the connections that end by themselves, and shows its log to the last line:
    /// the command's last connections are over only now.
    async fn stop(mut self) -> io::Result<()> {
        if let Some(pid) = pid(&self.child) {
            // It may have ended by itself.
            kill_process(pid, Signal::TERM).unwrap_or_default();
        }
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        // It ends with the forwarder's output; what the forwarder has started would not count.
        drop(timeout(PATIENCE, self.log).await);
        Ok(())
    }
}

/// The process id, unless it has been waited for.
fn pid(child: &Child) -> Option<Pid> {
    child
        .id()
        .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
}

/// Shows the forwarder's log on standard error, apart from what the command prints.
async fn pass_on(mut lines: Lines<BufReader<ChildStdout>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        use io::Write as _;
        drop(writeln!(io::stderr(), "proxy: {line}"));
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

/// Moves this process to a cgroup.
fn enter(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("cgroup.procs"), "0")
}

/// Removes a cgroup and those below it. Processes that the command left behind go to `parent`.
fn remove(folder: &Path, parent: &Path) {
    let Ok(cgroup) = Cgroup::open(folder) else {
        return;
    };
    for pid in cgroup.processes() {
        // It may have ended meanwhile.
        drop(fs::write(parent.join("cgroup.procs"), pid.to_string()));
    }
    for folder in [folder.join("app"), folder.join("proxy"), folder.to_owned()] {
        drop(fs::remove_dir(folder));
    }
}

/// Removes cgroups of runs whose process is gone and whose command has ended.
fn sweep(owner: &Path, parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        let folder = entry.path();
        let Ok(cgroup) = Cgroup::open(&folder) else {
            continue;
        };
        if cgroup.processes().is_empty() && test_kill_process(pid).is_err() {
            // A failure here is met again, and reported, by this run's own attach.
            drop(detach(owner, &cgroup));
            remove(&folder, parent);
        }
    }
}

/// Detaches a cgroup if it is attached. That its links go when it is removed is not enough: the
/// kernel takes its time with that, and until then they look alive.
fn detach(owner: &Path, cgroup: &Cgroup) -> Result<()> {
    if Reader::open(owner)?.is_none() {
        return Ok(());
    }
    let mut writer = Writer::open(owner)?;
    let pod = writer.pod(cgroup.id(), cgroup.path())?;
    writer.detach(&pod)
}

/// The signals that end a process and are passed on instead.
struct Signals {
    interrupt: SignalStream,
    quit: SignalStream,
    terminate: SignalStream,
    hang_up: SignalStream,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("listen to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the command, passing signals on. A terminal's Ctrl-C reaches the command by
    /// itself, so that interrupting twice would be wrong: those are only survived.
    async fn wait(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
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
                // It has ended meanwhile.
                return child.wait().await;
            }
        }
    }
}
