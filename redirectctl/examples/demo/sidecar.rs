//! The proxy in the pod, redirectctl's own or Envoy, and its notes about the connections that it was given.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use redirect_testkit::{
    Envoy, Identity, OutboundPolicy, Pod, Process, Worker, WorkerCgroup, wait_until,
};

use crate::report::Report;

/// The time that a proxy may take to be ready, and to note a connection.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// redirectctl's own small forwarder
    Builtin,
    /// An unmodified Envoy
    Envoy,
}

/// A running proxy of uid 1337 in the pod's `istio-proxy`; dropping it ends the proxy.
#[derive(Debug)]
pub(crate) enum Sidecar {
    Builtin { worker: Worker, process: Process },
    Envoy(Envoy),
}

/// The notes of a proxy so far: its connections by original destination, or by the cluster that closed them, and the
/// number of connections that it has made.
type Notes = (BTreeMap<String, u64>, u64);

impl Sidecar {
    /// Prints the command line, starts the proxy, and waits until it listens.
    pub(crate) fn start(
        report: &mut Report,
        kind: Kind,
        pod: &Pod,
        redirectctl: &Path,
        policy: OutboundPolicy,
    ) -> Result<Self> {
        if kind == Kind::Envoy {
            let binary = Envoy::binary()?;
            report.command(&format!("{} --config-yaml … &", binary.display()))?;
            report.note(&format!("outboundTrafficPolicy: {policy:?}"))?;
            return Ok(Self::Envoy(Envoy::start(pod, &policy)?));
        }
        let (line, registry) = match policy {
            OutboundPolicy::AllowAny => ("proxy --mode allow-any", String::new()),
            OutboundPolicy::RegistryOnly { registered } => (
                "proxy --mode registry-only --registry /dev/stdin",
                registered.to_string(),
            ),
        };
        let shown = format!("redirectctl {line} <<< '{registry}' &");
        report.command(&shown.replace(" <<< ''", ""))?;
        // Started as root, so that the binary can be anywhere: the forwarder becomes uid 1337 itself.
        let worker = pod.worker(&Identity::root().cgroup(WorkerCgroup::Proxy))?;
        let program = redirectctl.to_string_lossy();
        let argv: Vec<_> = [&*program].into_iter().chain(line.split(' ')).collect();
        let process = worker.start(&argv, &registry)?;
        let log = || worker.log(process).unwrap_or_default();
        let is_listening = wait_until(PATIENCE, || log().contains("listening"));
        ensure!(is_listening, "start the built-in proxy: {}", log());
        Ok(Self::Builtin { worker, process })
    }

    /// The note about a connection that the proxy closes without dialling on. Envoy counts such a connection, but not
    /// by its destination.
    pub(crate) fn black_holed(&self, to: SocketAddr) -> String {
        match self {
            Self::Builtin { .. } => to.to_string(),
            Self::Envoy(_) => Envoy::BLACK_HOLE.to_owned(),
        }
    }

    pub(crate) fn notes(&self) -> Result<Notes> {
        match self {
            Self::Builtin { worker, process } => Ok(records(&worker.log(*process)?)),
            Self::Envoy(envoy) => {
                let mut seen = hosts(&envoy.admin("/clusters")?);
                let closed = envoy.turned_away(Envoy::BLACK_HOLE)?;
                seen.insert(Envoy::BLACK_HOLE.to_owned(), closed);
                let opened = envoy.connections(Envoy::PASSTHROUGH)?
                    + envoy.connections(Envoy::REGISTERED)?;
                Ok((seen, opened))
            }
        }
    }

    /// The notes that came after `before`: original destinations, or `-`, and the number of connections made. If a note
    /// is expected, waits for one.
    pub(crate) fn notes_since(&self, before: &Notes, expected: bool) -> Result<(String, u64)> {
        let mut now = self.notes();
        wait_until(PATIENCE, || {
            let is_waiting = expected && now.as_ref().is_ok_and(|now| now == before);
            if is_waiting {
                now = self.notes();
            }
            !is_waiting
        });
        let (seen, opened) = now.context("read the proxy's notes")?;
        let new = seen
            .iter()
            .filter(|(name, count)| before.0.get(*name) != Some(count));
        let names: Vec<_> = new.map(|(name, _)| name.as_str()).collect();
        let names = names.join(" ");
        let text = if names.is_empty() {
            "-".to_owned()
        } else {
            names
        };
        Ok((text, opened.saturating_sub(before.1)))
    }
}

/// The records of the built-in proxy, one a line: ending, peer, original destination, bytes.
fn records(log: &str) -> Notes {
    let (mut seen, mut opened) = Notes::default();
    for line in log.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let [ending @ ("forwarded" | "blackholed"), _, destination, _, ..] = words[..] {
            opened += u64::from(ending == "forwarded");
            *seen.entry(destination.to_owned()).or_default() += 1;
        }
    }
    (seen, opened)
}

/// Requests by host, from Envoy's `/clusters`. The hosts of an `ORIGINAL_DST` cluster are the original destinations
/// that Envoy has read: `PassthroughCluster::36.152.44.96:80::rq_total::1`.
fn hosts(page: &str) -> BTreeMap<String, u64> {
    let entry = |line: &str| {
        let (line, requests) = line.rsplit_once("::")?;
        let (cluster, host) = line.strip_suffix("::rq_total")?.split_once("::")?;
        let is_outbound = [Envoy::PASSTHROUGH, Envoy::REGISTERED].contains(&cluster);
        is_outbound.then_some((host.to_owned(), requests.parse().ok()?))
    };
    page.lines().filter_map(entry).collect()
}
