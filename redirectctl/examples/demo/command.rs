//! The real `redirectctl`, run as an operator would run it.

use std::{
    env,
    ffi::OsStr,
    io::{self, PipeReader, PipeWriter, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use redirect_testkit::wait_until;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde::de::DeserializeOwned;

use crate::{screen::Screen, sweeper::Sweeper};

/// Stands for the pod's cgroup in arguments, so that printed commands stay short.
pub(crate) const POD: &str = "$POD";

/// How long a command may take to get as far as the demo waits for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command by its path.
#[expect(
    clippy::disallowed_methods,
    reason = "the demo's one place that starts programs"
)]
pub(crate) fn program(path: impl AsRef<OsStr>) -> Command {
    Command::new(path)
}

/// `redirectctl` with the demo's own folder of state.
#[derive(Debug)]
pub(crate) struct Redirectctl {
    path: PathBuf,
    bpffs: PathBuf,
    pod: String,
    // Last: dropping it removes what commands have left.
    sweeper: Sweeper,
}

impl Redirectctl {
    /// Finds the binary that was built with this program.
    pub(crate) fn new(pod: &Path) -> Result<Self> {
        let own = env::current_exe().context("find this program")?;
        // Examples are built into a folder beside the binaries.
        let path = own
            .parent()
            .and_then(Path::parent)
            .map(|folder| folder.join("redirectctl"));
        let Some(path) = path.filter(|path| path.is_file()) else {
            bail!(
                "find redirectctl: it is not where it is built: run `cargo xtask demo`, which builds it"
            );
        };
        let bpffs = PathBuf::from(format!("/sys/fs/bpf/redirect-demo-{}", std::process::id()));
        let sweeper = Sweeper::start(&path, &bpffs)?;
        Ok(Self {
            path,
            bpffs,
            pod: pod.display().to_string(),
            sweeper,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Prints a command, runs it, and prints what it printed. It must succeed.
    pub(crate) fn run(&self, screen: &mut Screen, arguments: &[&str]) -> Result<()> {
        screen.command(shown(arguments))?;
        let output = self.output(arguments)?;
        for text in [&output.stdout, &output.stderr] {
            for line in String::from_utf8_lossy(text).lines() {
                screen.note(line.replace(&self.pod, POD))?;
            }
        }
        succeeded(arguments, &output)
    }

    /// The JSON that a command prints.
    pub(crate) fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let output = self.output(arguments)?;
        succeeded(arguments, &output)?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("read what `{}` printed", shown(arguments)))
    }

    /// Prints a command and starts it so that it cannot end: its standard output is a pipe that is
    /// full already, so it stops where it prints its result, after everything else is done.
    pub(crate) fn stuck(&self, screen: &mut Screen, arguments: &[&str]) -> Result<Stuck> {
        screen.command(format_args!("{} &", shown(arguments)))?;
        let (reader, writer) = full_pipe().context("fill a pipe")?;
        let child = self
            .command(arguments)?
            .stdout(Stdio::from(writer))
            .spawn()
            .context("start redirectctl")?;
        let mut stuck = Stuck {
            child,
            _reader: reader,
        };
        let attached = wait_until(PATIENCE, || !stuck.is_alive() || self.is_attached());
        if !attached || !stuck.is_alive() {
            bail!("`{}` did not get stuck attached", shown(arguments));
        }
        Ok(stuck)
    }

    /// Whether the pod is attached.
    fn is_attached(&self) -> bool {
        self.json::<serde_json::Value>(&["show", "--cgroup", POD, "--output", "json"])
            .is_ok()
    }

    fn output(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments)?
            .output()
            .with_context(|| format!("run `{}`", shown(arguments)))
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = program(&self.path);
        let words = arguments
            .iter()
            .map(|&word| if word == POD { &self.pod } else { word });
        // redirectctl reads istio-iptables' variables; the caller's must not change the story.
        command
            .env_clear()
            .arg("--bpffs")
            .arg(&self.bpffs)
            .args(words)
            .stdin(self.sweeper.lifeline()?);
        Ok(command)
    }
}

/// A command that has done its work and waits to print its result.
#[derive(Debug)]
pub(crate) struct Stuck {
    child: Child,
    _reader: PipeReader,
}

impl Stuck {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL; tells whether that is what it died of.
    pub(crate) fn kill(mut self) -> Result<bool> {
        self.child.kill().context("kill redirectctl")?;
        let status = self.child.wait().context("wait for redirectctl")?;
        Ok(status.signal() == Some(9))
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // Both fail only if it is gone.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn full_pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, mut writer) = io::pipe()?;
    let flags = fcntl_getfl(&writer)?;
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK)?;
    // A page at first, single bytes at last.
    for size in [4096, 1] {
        while matches!(writer.write(&vec![b'\n'; size]), Ok(1..)) {}
    }
    // The flag belongs to the pipe's end, which the command inherits.
    fcntl_setfl(&writer, flags)?;
    Ok((reader, writer))
}

fn succeeded(arguments: &[&str], output: &Output) -> Result<()> {
    if !output.status.success() {
        bail!(
            "`{}` ended with {}: {}",
            shown(arguments),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// As typed into a shell.
fn shown(arguments: &[&str]) -> String {
    arguments
        .iter()
        .fold("redirectctl".to_owned(), |text, word| {
            if word.is_empty() || word.contains('*') {
                format!("{text} '{word}'")
            } else {
                format!("{text} {word}")
            }
        })
}
