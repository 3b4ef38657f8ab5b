//! The proxy in the pod: redirectctl's own or Envoy, and what it says it was told.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use redirect_testkit::{
    Envoy, Identity, OutboundPolicy, Pod, Process, Worker, WorkerCgroup, wait_until,
};
use serde_json::Value;

use crate::screen::Screen;

/// How long a proxy may take to be ready, and to note a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// redirectctl's own small forwarder
    Builtin,
    /// An unmodified Envoy
    Envoy,
}

/// A running proxy; dropping it ends it.
#[derive(Debug)]
pub(crate) enum Sidecar {
    Builtin { worker: Worker, process: Process },
    Envoy(Envoy),
}

/// How far a proxy's notes go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Notes {
    /// The built-in proxy's lines; Envoy's requests by host.
    hosts: BTreeMap<String, u64>,
    lines: Vec<String>,
    closed: u64,
    opened: u64,
}

/// What a proxy noted between two looks.
#[derive(Debug)]
pub(crate) struct Noted {
    /// The original destinations it was told, or `-`.
    pub(crate) saw: String,
    /// How many connections it made itself.
    pub(crate) opened: u64,
}

impl Sidecar {
    /// Starts the proxy as uid 1337 in the pod's `istio-proxy` and waits until it listens.
    pub(crate) fn start(
        kind: Kind,
        screen: &mut Screen,
        redirectctl: &str,
        pod: &Pod,
        policy: &OutboundPolicy,
    ) -> Result<Self> {
        match kind {
            Kind::Envoy => {
                let mode = match policy {
                    OutboundPolicy::AllowAny => "outboundTrafficPolicy ALLOW_ANY".to_owned(),
                    OutboundPolicy::RegistryOnly { registered } => {
                        format!("outboundTrafficPolicy REGISTRY_ONLY, registered: {registered}")
                    }
                };
                screen.command(format_args!("envoy --config-yaml … &    # {mode}"))?;
                let envoy = Envoy::start(pod, policy)?;
                screen.note(format_args!("Envoy {}", version(&envoy)?))?;
                Ok(Self::Envoy(envoy))
            }
            Kind::Builtin => {
                let (mode, registry) = match policy {
                    OutboundPolicy::AllowAny => (vec!["--mode", "allow-any"], String::new()),
                    OutboundPolicy::RegistryOnly { registered } => (
                        vec!["--mode", "registry-only", "--registry", "/dev/stdin"],
                        registered.to_string(),
                    ),
                };
                let fed = if registry.is_empty() {
                    String::new()
                } else {
                    format!("echo {registry} | ")
                };
                screen.command(format_args!("{fed}redirectctl proxy {} &", mode.join(" ")))?;
                Self::start_builtin(redirectctl, pod, &mode, &registry)
            }
        }
    }

    /// As root, so that the binary can be anywhere: it becomes uid 1337 itself.
    fn start_builtin(redirectctl: &str, pod: &Pod, mode: &[&str], registry: &str) -> Result<Self> {
        let worker = pod.worker(&Identity::root().cgroup(WorkerCgroup::Proxy))?;
        let process = worker.start(&[&[redirectctl, "proxy"], mode].concat(), registry)?;
        let mut log = String::new();
        let ready = wait_until(PATIENCE, || {
            log = worker.log(process).unwrap_or_default();
            log.contains("listening") || !worker.is_alive(process).unwrap_or(false)
        });
        if !ready || !log.contains("listening") {
            bail!("start the built-in proxy: {}", log.trim());
        }
        Ok(Self::Builtin { worker, process })
    }

    /// How a connection is shown that the proxy closes without dialling on. Envoy counts it, but
    /// does not say where it was going.
    pub(crate) fn black_holed(&self, to: SocketAddr) -> String {
        match self {
            Self::Builtin { .. } => to.to_string(),
            Self::Envoy(_) => Envoy::BLACK_HOLE.to_owned(),
        }
    }

    /// What the proxy has noted so far.
    pub(crate) fn notes(&self) -> Result<Notes> {
        match self {
            Self::Builtin { worker, process } => {
                let log = worker.log(*process)?;
                // What follows the last line break is not finished.
                let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
                Ok(Notes {
                    hosts: BTreeMap::new(),
                    lines: whole.lines().map(str::to_owned).collect(),
                    closed: 0,
                    opened: 0,
                })
            }
            Self::Envoy(envoy) => Ok(Notes {
                hosts: hosts(&envoy.admin("/clusters")?),
                lines: Vec::new(),
                closed: envoy.turned_away(Envoy::BLACK_HOLE)?,
                opened: envoy.connections(Envoy::PASSTHROUGH)?
                    + envoy.connections(Envoy::REGISTERED)?,
            }),
        }
    }

    /// What the proxy has noted since; if it is to note something, waits for that.
    pub(crate) fn noted(&self, before: &Notes, expects: bool) -> Result<Noted> {
        let mut now = self.notes();
        if expects {
            wait_until(PATIENCE, || {
                let is_more = now.as_ref().map_or(true, |now| now != before);
                if !is_more {
                    now = self.notes();
                }
                is_more
            });
        }
        let now = now.context("ask the proxy what it was told")?;
        let lines = now.lines.iter().skip(before.lines.len());
        let records: Vec<_> = lines.map(|line| Record::parse(line)).collect();
        let mut saw: Vec<String> = records.iter().map(Record::shown).collect();
        let changed = now
            .hosts
            .iter()
            .filter(|(host, requests)| before.hosts.get(*host) != Some(*requests));
        saw.extend(changed.map(|(host, _)| host.clone()));
        if now.closed != before.closed {
            saw.push(Envoy::BLACK_HOLE.to_owned());
        }
        if saw.is_empty() {
            saw.push("-".to_owned());
        }
        let forwarded = records
            .iter()
            .filter(|record| record.verdict == "forwarded");
        let forwarded = u64::try_from(forwarded.count())?;
        Ok(Noted {
            saw: saw.join(" "),
            opened: forwarded + now.opened.saturating_sub(before.opened),
        })
    }
}

/// The first columns of a line of the built-in proxy: verdict, peer, original destination.
struct Record {
    verdict: String,
    destination: String,
}

impl Record {
    fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace().map(str::to_owned);
        Self {
            verdict: words.next().unwrap_or_default(),
            destination: words.nth(1).unwrap_or_default(),
        }
    }

    fn shown(&self) -> String {
        match self.verdict.as_str() {
            "forwarded" | "blackholed" => self.destination.clone(),
            other => format!("{other} {}", self.destination),
        }
    }
}

/// Envoy's own word: `COMMIT/VERSION/…`.
fn version(envoy: &Envoy) -> Result<String> {
    let info: Value = serde_json::from_str(&envoy.admin("/server_info")?)?;
    let version = info.get("version").and_then(Value::as_str);
    let number = version.and_then(|version| version.split('/').nth(1));
    Ok(number.unwrap_or("of an unknown version").to_owned())
}

/// Requests by host, from Envoy's `/clusters`. The hosts of an `ORIGINAL_DST` cluster are the
/// original destinations Envoy read: `PassthroughCluster::36.152.44.96:80::rq_total::1`.
fn hosts(page: &str) -> BTreeMap<String, u64> {
    page.lines()
        .filter_map(|line| {
            let (line, requests) = line.rsplit_once("::")?;
            let (cluster, host) = line.strip_suffix("::rq_total")?.split_once("::")?;
            let is_outbound = [Envoy::PASSTHROUGH, Envoy::REGISTERED].contains(&cluster);
            is_outbound.then_some((host.to_owned(), requests.parse().ok()?))
        })
        .collect()
}
