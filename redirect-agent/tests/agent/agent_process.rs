//! An agent that runs as a process: its log, its metrics, its end.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Result;
use redirect_testkit::{in_netns, wait_until};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_redirect-agent");
/// Longer than any wait of these tests.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Arguments of `setpriv`: its program is killed when the thread that started it ends, for any reason.
pub(crate) const DYING: [&str; 2] = ["--pdeathsig", "SIGKILL"];

/// Command line of an agent, without its paths.
pub(crate) const RUN: [&str; 6] = [
    BINARY,
    "run",
    "--log",
    "json",
    "--metrics-listen",
    "127.0.0.1:0",
];

/// Prefix of a command line that enters a network namespace, if there is one to enter.
pub(crate) fn entering(network: Option<&str>) -> Vec<String> {
    let enter = |name| vec!["nsenter".to_owned(), format!("--net=/run/netns/{name}")];
    network.map_or_else(Vec::new, enter)
}

/// Calls a function in a network namespace, if there is one to enter.
pub(crate) fn in_network<T: Send>(
    network: Option<&str>,
    act: impl FnOnce() -> T + Send,
) -> Result<T> {
    match network {
        Some(name) => in_netns(name, act),
        None => Ok(act()),
    }
}

/// Names of all documented metrics.
pub(crate) fn documented() -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/agent.md");
    let text = fs::read_to_string(page).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `redirect_"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let names = cells.flat_map(|cell| cell.split(','));
    names
        .map(|name| name.trim().trim_matches('`').to_owned())
        .collect()
}

/// A running agent; killed when dropped.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    log: PathBuf,
    /// Name of its network namespace, if that is not this process's.
    network: Option<String>,
}

impl Agent {
    /// Starts an agent, with its log in a file.
    pub(crate) fn start(mut command: Command, log: PathBuf, network: Option<String>) -> Self {
        let file = File::create(&log).unwrap();
        let child = command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self {
            child,
            log,
            network,
        }
    }

    /// Waits until a condition holds; fails with the log if it does not.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        assert!(wait_until(LONG, holds), "{what}: {}", self.log());
    }

    #[track_caller]
    pub(crate) fn until_ready(&self) {
        self.until("ready", || self.is_ready());
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz").starts_with("HTTP/1.1 200")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Address in the log line of the HTTP server.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let log = self.log();
        let mut lines = log.lines();
        lines.find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line["address"].as_str()?.parse().ok()
        })
    }

    /// Response with headers; empty if there is none.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        let network = self.network.as_deref();
        let connect = |to| in_network(network, || TcpStream::connect(to)).unwrap();
        let Some(Ok(mut stream)) = self.address().map(connect) else {
            return answer;
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        if stream.write_all(request.as_bytes()).is_ok() {
            drop(stream.read_to_string(&mut answer));
        }
        answer
    }

    /// Sum of the values whose labels contain all of these; zero for a metric without values.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let try_metric = self.try_metric(name, labels);
        assert!(try_metric.is_some(), "it serves no metrics: {}", self.log());
        try_metric.unwrap()
    }

    /// The same sum; `None` if the agent does not answer, such as one that has just started.
    #[track_caller]
    pub(crate) fn try_metric(&self, name: &str, labels: &[&str]) -> Option<u64> {
        // A metric without values is not printed, and so looks like one that does not exist.
        let documented = documented().contains(name.trim_end_matches("_count"));
        assert!(documented, "there is no metric {name}");
        let answer = self.get("/metrics");
        if !(answer.starts_with("HTTP/1.1 200") && answer.ends_with("# EOF\n")) {
            return None;
        }
        let of = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, given) = series.split_once('{').unwrap_or((series, ""));
            let fits = found == name && labels.iter().all(|label| given.contains(label));
            fits.then(|| value.trim().parse::<u64>().ok()).flatten()
        };
        Some(answer.lines().filter_map(of).sum())
    }

    /// Sends a signal that does not end the agent.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the agent ends by itself, and returns its exit status.
    pub(crate) fn status(&mut self) -> Option<i32> {
        let ended = wait_until(LONG, || self.child.try_wait().unwrap().is_some());
        assert!(ended, "it does not end: {}", self.log());
        self.child.wait().unwrap().code()
    }

    /// Sends a signal, waits for the end, and returns the exit status: `None` if the signal killed the agent.
    pub(crate) fn end(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.status()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only if the process has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
