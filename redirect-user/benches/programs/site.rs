//! A site: an attached pod with a proxy and a client, which is measured and accounted for.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use redirect_common::{chain::RuleId, hooks::Hook};
use redirect_testkit::{Behaviour, Identity, Pod, Rate, Serve, Worker, wait_until};
use redirect_user::{
    bpf::{Runs, linked_program_runs, program_runs},
    config::{Inbound, InboundPorts, Include, RedirectConfig},
    node::{Reader, Writer},
    sys::{
        cgroup::Cgroup,
        netns::{NetnsRef, NetnsSnapshot},
    },
};
use serde::Serialize;

use crate::row::Row;

/// Istio's port for outbound connections.
const LISTENER: u16 = 15001;
/// The server's name.
const SERVER: &str = "proxy";
/// The time for connections in the listener's queue to end.
const SETTLING: Duration = Duration::from_secs(10);

/// The measurement of one row in one round.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) row: Row,
    pub(crate) round: u32,
    /// Redirected connections.
    pub(crate) connections: u64,
    /// The programs that ran, by name.
    pub(crate) programs: BTreeMap<&'static str, ProgramTime>,
}

/// The time of one program.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ProgramTime {
    /// Runs for each connection.
    pub(crate) runs: f64,
    /// Nanoseconds for each run.
    pub(crate) ns: f64,
}

impl Run {
    /// The nanoseconds of all programs for one connection.
    pub(crate) fn together(&self) -> f64 {
        let programs = self.programs.values();
        programs.map(|program| program.runs * program.ns).sum()
    }
}

/// A pod that is ready to be measured.
#[derive(Debug)]
pub(crate) struct Site<'state> {
    row: Row,
    state_dir: &'state Path,
    cgroup: Cgroup,
    client: Worker,
    listener: Worker,
    // Last, because dropping the pod removes the namespaces that the workers are in.
    _pod: Pod,
}

impl<'state> Site<'state> {
    /// Creates the pod, attaches it, and starts a proxy on the wildcard address.
    pub(crate) fn make(row: Row, state_dir: &'state Path) -> Result<Self> {
        let pod = Pod::new("programs")?;
        let cgroup = Cgroup::open(pod.cgroup().path())?;
        let netns = NetnsSnapshot::read(&NetnsRef::Path(pod.namespace()))?;
        let mut config = RedirectConfig {
            include: Include::Any,
            dual_stack: true,
            ..RedirectConfig::default()
        };
        if row.inbound {
            config.inbound = Inbound {
                include_ports: InboundPorts::Any,
                ..Inbound::default()
            };
        }
        Writer::open(state_dir)?.attach(&cgroup, &netns, &config)?;
        let client = pod.worker(&Identity::app())?;
        let listener = pod.worker(&Identity::proxy())?;
        let any = if row.ipv6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let any = SocketAddr::new(any, LISTENER);
        listener.serve(&Serve::new(SERVER, any).behaviour(Behaviour::QueryAndClose))?;
        Ok(Self {
            row,
            state_dir,
            cgroup,
            client,
            listener,
            _pod: pod,
        })
    }

    /// Measures for a duration, after as long a warm-up, and detaches the pod.
    pub(crate) fn measure(self, round: u32, duration: Duration) -> Result<Run> {
        let mut tried = self.connect(duration)?;
        let before = self.runs()?;
        let connections = self.connect(duration)?;
        let after = self.runs()?;
        tried += connections;
        let accepted = self.listener.accepted(SERVER)?;
        ensure!(
            accepted.redirected == tried,
            "{} of {tried} connections arrived with an original destination",
            accepted.redirected
        );
        let reader = Reader::open(self.state_dir)?.context("nothing is loaded any more")?;
        let hits = reader.hits(&reader.pod(self.cgroup.id(), self.cgroup.path())?)?;
        let counted = hits.of(RuleId::AnyIncluded);
        ensure!(
            counted == tried,
            "the rule counted {counted} of {tried} connections"
        );
        drop(reader);
        self.detach()?;
        let programs = after.into_iter().filter_map(|(name, runs)| {
            let runs = runs.since(before.get(name).copied().unwrap_or_default());
            (runs.count > 0).then(|| (name, ProgramTime::of(runs, connections)))
        });
        Ok(Run {
            row: self.row,
            round,
            connections,
            programs: programs.collect(),
        })
    }

    /// Connects for a duration, and waits until all connections were accepted. Returns their number.
    fn connect(&self, duration: Duration) -> Result<u64> {
        let before = self.listener.accepted(SERVER)?.connections;
        let rated = self.client.connect_rate(&Rate {
            to: self.row.first(),
            destinations: self.row.destinations,
            duration,
            await_close: true,
        })?;
        ensure!(
            rated.errors.is_empty() && rated.connections > 0,
            "connections failed: {:?}",
            rated.errors
        );
        let all = before + rated.connections;
        let settled = wait_until(SETTLING, || {
            let accepted = self.listener.accepted(SERVER);
            accepted.is_ok_and(|accepted| accepted.connections >= all)
        });
        ensure!(
            settled,
            "{} connections did not all arrive",
            rated.connections
        );
        Ok(rated.connections)
    }

    /// The runs of every program so far.
    fn runs(&self) -> Result<BTreeMap<&'static str, Runs>> {
        let reader = Reader::open(self.state_dir)?.context("nothing is loaded any more")?;
        let pins = reader.pins();
        let mut runs = BTreeMap::new();
        for hook in Hook::ALL {
            runs.insert(hook.program(), program_runs(pins, hook)?);
        }
        if self.row.inbound {
            // This program is loaded anew for each pod.
            let link = pins.link(self.cgroup.id(), Hook::SkLookup);
            runs.insert(Hook::SkLookup.program(), linked_program_runs(&link)?);
        }
        Ok(runs)
    }

    fn detach(&self) -> Result<()> {
        let mut writer = Writer::open(self.state_dir)?;
        let pod = writer.pod(self.cgroup.id(), self.cgroup.path())?;
        writer.detach(&[pod])
    }
}

impl ProgramTime {
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    fn of(runs: Runs, connections: u64) -> Self {
        Self {
            runs: runs.count as f64 / connections as f64,
            ns: runs.time.as_nanos() as f64 / runs.count as f64,
        }
    }
}
