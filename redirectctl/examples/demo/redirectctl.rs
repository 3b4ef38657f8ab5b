//! The real `redirectctl`, run by root in the pod.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::{
    GuardedFolder, Identity, Pod, Process, ProgramOutput, Worker, WorkerCgroup, wait_until,
};
use serde_json::Value;

use crate::report::Report;

/// The time that an attach may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a command whose standard output is a full pipe without a reader. The pipe is the standard input that the kit
/// makes; it holds 64 KiB.
const BLOCKED: &str = "exec 3<>/dev/stdin; head -c 65536 /dev/zero >&3; exec \"$@\" >&3";

/// `redirectctl` with the demo's own state directory. In command lines, `$POD` stands for the pod's cgroup.
#[derive(Debug)]
pub(crate) struct Redirectctl {
    /// In the pod's cgroup, so that the pod's guard ends commands, too.
    root: Worker,
    pub(crate) path: PathBuf,
    pub(crate) state_dir: PathBuf,
    pod: String,
    _guard: GuardedFolder,
}

impl Redirectctl {
    /// Finds the binary that was built with this program: examples are built into a folder beside the binaries.
    pub(crate) fn new(pod: &Pod) -> Result<Self> {
        let own = env::current_exe().context("find this program")?;
        let folder = own.ancestors().nth(2).context("find this program")?;
        let path = folder.join("redirectctl");
        ensure!(
            path.is_file(),
            "find redirectctl: it is not where it is built: run `cargo xtask demo`, which builds it"
        );
        let name = format!("redirect-demo-{}", std::process::id());
        let state_dir = Path::new("/sys/fs/bpf").join(name);
        let cgroup = WorkerCgroup::Folder(pod.cgroup().app());
        Ok(Self {
            root: pod.worker(&Identity::root().cgroup(cgroup))?,
            path,
            pod: pod.cgroup().path().display().to_string(),
            _guard: GuardedFolder::guard(&state_dir)?,
            state_dir,
        })
    }

    /// Prints a command line, runs it, and prints its output. The command must succeed.
    pub(crate) fn run(&self, report: &mut Report, line: &str) -> Result<()> {
        report.command(&format!("redirectctl {line}"))?;
        let ProgramOutput { stdout, stderr, .. } = self.output(line)?;
        let text = (stdout + &stderr).replace(&self.pod, "$POD");
        text.lines().try_for_each(|line| report.note(line))
    }

    /// Runs a command line that prints JSON, and reads its result.
    pub(crate) fn json(&self, line: &str) -> Result<Value> {
        let output = self.output(&format!("{line} --output json"))?;
        serde_json::from_str(&output.stdout)
            .with_context(|| format!("read the output of `redirectctl {line}`"))
    }

    /// Prints and starts a command line that attaches the pod and cannot end: it blocks when it prints its result,
    /// after everything else is done.
    pub(crate) fn start_blocked(&self, report: &mut Report, line: &str) -> Result<Process> {
        report.command(&format!("redirectctl {line} &"))?;
        let argv = [&["sh", "-c", BLOCKED, "sh"], &self.argv(line)[..]].concat();
        let process = self.root.start(&argv, "")?;
        let is_attached = || self.output("show --cgroup $POD").is_ok();
        ensure!(
            wait_until(PATIENCE, is_attached) && self.root.is_alive(process)?,
            "run `redirectctl {line}`: {}",
            self.root.log(process)?
        );
        Ok(process)
    }

    /// Kills a command with SIGKILL; returns whether it ran until then.
    pub(crate) fn kill(&self, process: Process) -> Result<bool> {
        let is_alive = self.root.is_alive(process)?;
        self.root.kill(process)?;
        Ok(is_alive)
    }

    fn output(&self, line: &str) -> Result<ProgramOutput> {
        let output = self.root.run(&self.argv(line))?;
        let complaint = output.stderr.trim();
        ensure!(output.is_success(), "run `redirectctl {line}`: {complaint}");
        Ok(output)
    }

    /// The words of a command without environment: redirectctl reads istio-iptables' variables.
    fn argv<'a>(&'a self, line: &'a str) -> Vec<&'a str> {
        let (path, state_dir) = (self.path.to_str(), self.state_dir.to_str());
        let mut words = vec!["env", "-i", path.unwrap_or_default()];
        words.extend(["--bpffs", state_dir.unwrap_or_default()]);
        words.extend(line.split(' ').map(|word| match word {
            "$POD" => &self.pod,
            word => word.trim_matches('\''),
        }));
        words
    }
}
