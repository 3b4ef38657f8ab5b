//! A site: a pod with one arm's redirection, a listener and a client, which is verified, measured
//! and accounted for.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread::available_parallelism,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use redirect_common::chain::RuleId;
use redirect_testkit::{
    Behaviour, Dial, Identity, Pod, Rate, RateReport, Serve, Worker,
    iptables::{self, Backend, Family, IstioRules},
    wait_until,
};
use redirect_user::{
    config::{Include, RedirectConfig},
    node::{Reader, Writer},
    sys::{
        cgroup::Cgroup,
        netns::{NetnsRef, NetnsSnapshot},
    },
};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_setaffinity},
};

use crate::arm::Arm;

/// The destination that the client dials if its connections are redirected. No host has this
/// address.
pub(crate) const DESTINATION: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(36, 152, 44, 96)), 80);
/// Istio's port for outbound connections.
const LISTENER: u16 = 15001;
/// The server's name.
const SERVER: &str = "listener";
/// The time for connections in the listener's queue, and for handshakes, to end.
const SETTLING: Duration = Duration::from_secs(10);

/// A pod that is ready to be measured.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) arm: Arm,
    to: SocketAddr,
    redirection: Redirection,
    client: Worker,
    listener: Worker,
    accepted: u64,
    tried: u64,
    // Last, because dropping the pod removes the namespaces that the workers are in.
    pod: Pod,
}

/// The redirection of a site, and the owner of its counter.
#[derive(Debug)]
enum Redirection {
    Nothing,
    Iptables(Backend),
    Programs { state_dir: PathBuf, cgroup: Cgroup },
}

impl Site {
    /// Creates the pod and checks that its connections end where they should.
    pub(crate) fn make(arm: Arm, excluded: &[IpNet], state_dir: &Path) -> Result<Self> {
        let pod = Pod::new(&format!("bench-{}", arm.short()))?;
        let redirection = Redirection::set_up(arm, &pod, excluded, state_dir)?;
        let to = match redirection {
            Redirection::Nothing => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), LISTENER),
            Redirection::Iptables(_) | Redirection::Programs { .. } => DESTINATION,
        };
        let client = pod.worker(&Identity::app())?;
        let listener = pod.worker(&Identity::proxy())?;
        pin_workers(&client, &listener)?;
        let mut site = Self {
            arm,
            to,
            redirection,
            client,
            listener,
            accepted: 0,
            tried: 0,
            pod,
        };
        site.verify()?;
        Ok(site)
    }

    /// Dials once to a listener that reports what it sees, then starts the listener that is
    /// measured.
    fn verify(&mut self) -> Result<()> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), LISTENER);
        self.listener.serve(&Serve::new(SERVER, any))?;
        let dialled = self.client.dial(&Dial::to(self.to))?;
        let seen = dialled
            .banner()
            .with_context(|| format!("dial {}: {:?}", self.to, dialled.outcome))?;
        // Without a redirect, the programs or conntrack answer with the connection's own address.
        let orig_dst = seen.orig_dst.filter(|dst| Some(*dst) != seen.local);
        let expected = self.is_redirected().then_some(DESTINATION);
        ensure!(
            orig_dst == expected,
            "the listener got {orig_dst:?} as the original destination, not {expected:?}"
        );
        self.tried += 1;
        self.check_hits()?;
        self.listener.stop_server(SERVER)?;
        self.listener
            .serve(&Serve::new(SERVER, any).behaviour(Behaviour::QueryAndClose))?;
        Ok(())
    }

    /// Measures for a duration. Fails if any connection went astray.
    pub(crate) fn measure(&mut self, duration: Duration, await_close: bool) -> Result<RateReport> {
        let rated = self.client.connect_rate(&Rate {
            to: self.to,
            destinations: 1,
            duration,
            await_close,
        })?;
        let failed: u64 = rated.errors.values().sum();
        let tried = rated.connections + failed;
        ensure!(
            failed * 100 <= tried,
            "{failed} of {tried} connections failed: {:?}",
            rated.errors
        );

        let before = self.accepted;
        // A connection that failed on the client's side may still have reached the listener.
        let expected = before + rated.connections..=before + tried;
        let mut accepted = self.listener.accepted(SERVER)?;
        wait_until(SETTLING, || {
            accepted = self.listener.accepted(SERVER).unwrap_or(accepted);
            accepted.connections >= *expected.start()
        });
        ensure!(
            expected.contains(&accepted.connections),
            "{} connections were made, but {} arrived",
            rated.connections,
            accepted.connections - before
        );
        let redirected = if self.is_redirected() {
            accepted.connections
        } else {
            0
        };
        ensure!(
            accepted.redirected == redirected,
            "{} of {} connections arrived with an original destination, not {redirected}",
            accepted.redirected,
            accepted.connections
        );
        self.accepted = accepted.connections;
        self.tried += tried;
        Ok(rated)
    }

    /// Checks the arm's own counter and removes everything.
    pub(crate) fn close(self) -> Result<()> {
        self.check_hits()?;
        self.redirection.tear_down()
    }

    const fn is_redirected(&self) -> bool {
        !matches!(self.redirection, Redirection::Nothing)
    }

    /// Checks that every connection was counted where it was redirected. The listener could have
    /// its destination from elsewhere.
    fn check_hits(&self) -> Result<()> {
        let hits = self.redirection.hits(&self.pod)?;
        let expected = if self.is_redirected() { self.tried } else { 0 };
        // iptables counts packets: a SYN that is sent twice counts twice.
        let more = matches!(self.redirection, Redirection::Iptables(_)) && hits > expected;
        ensure!(
            hits == expected || more,
            "the redirecting rule counted {hits} connections, not {expected}"
        );
        Ok(())
    }
}

impl Redirection {
    fn set_up(arm: Arm, pod: &Pod, excluded: &[IpNet], state_dir: &Path) -> Result<Self> {
        match arm {
            Arm::Direct => Ok(Self::Nothing),
            Arm::IptablesLegacy => Self::iptables(Backend::Legacy, pod, excluded),
            Arm::IptablesNft => Self::iptables(Backend::Nft, pod, excluded),
            Arm::Ebpf | Arm::Baseline => Self::programs(pod, excluded, state_dir),
        }
    }

    /// Applies outbound rules only, as the programs redirect. Inbound rules would make no
    /// difference to the figures: they are not evaluated for connections that outbound rules have
    /// redirected.
    fn iptables(backend: Backend, pod: &Pod, excluded: &[IpNet]) -> Result<Self> {
        let rules = IstioRules {
            exclude_cidrs: excluded.to_vec(),
            inbound_except: None,
            ..IstioRules::default()
        };
        iptables::apply_istio(pod, backend, &rules)?;
        Ok(Self::Iptables(backend))
    }

    fn programs(pod: &Pod, excluded: &[IpNet], state_dir: &Path) -> Result<Self> {
        let cgroup = Cgroup::open(pod.cgroup().path())?;
        let netns = NetnsSnapshot::read(&NetnsRef::Path(pod.namespace()))?;
        let config = RedirectConfig {
            include: Include::Any,
            exclude: excluded.to_vec(),
            ..RedirectConfig::default()
        };
        Writer::open(state_dir)?.attach(&cgroup, &netns, &config)?;
        Ok(Self::Programs {
            state_dir: state_dir.to_owned(),
            cgroup,
        })
    }

    /// The number of connections that the rule for "everything else" has redirected.
    fn hits(&self, pod: &Pod) -> Result<u64> {
        match self {
            Self::Nothing => Ok(0),
            Self::Iptables(backend) => packets(&iptables::listing(pod, *backend, Family::V4)?),
            Self::Programs { state_dir, cgroup } => {
                let reader = Reader::open(state_dir)?.context("nothing is loaded any more")?;
                // An entry of a handshake that has ended would be a leak.
                let settled = wait_until(SETTLING, || reader.flows().is_ok_and(|flows| flows == 0));
                ensure!(settled, "handshakes are left over");
                let hits = reader.hits(&reader.pod(cgroup.id(), cgroup.path())?)?;
                ensure!(
                    hits.flow_lost == 0,
                    "{} original destinations were lost",
                    hits.flow_lost
                );
                Ok(hits.of(RuleId::AnyIncluded))
            }
        }
    }

    /// Removes the redirection. Iptables rules are removed with their namespace, attached programs
    /// are detached.
    fn tear_down(self) -> Result<()> {
        let Self::Programs { state_dir, cgroup } = self else {
            return Ok(());
        };
        let mut writer = Writer::open(&state_dir)?;
        let pod = writer.pod(cgroup.id(), cgroup.path())?;
        writer.detach(&[pod])
    }
}

/// The packet counter of the last rule in the output of `iptables-save -c`.
fn packets(listing: &str) -> Result<u64> {
    let counted = listing.lines().find_map(|line| {
        let (packets, rest) = line.strip_prefix('[')?.split_once(':')?;
        rest.ends_with("-A ISTIO_OUTPUT -j ISTIO_REDIRECT")
            .then_some(packets)
    });
    match counted {
        Some(packets) => packets.parse().context("read a packet counter"),
        None => bail!("the rule that redirects is gone"),
    }
}

/// Pins client and listener to a processor each, the same for all arms: the scheduler's choice
/// would make more of a difference than the arms.
fn pin_workers(client: &Worker, listener: &Worker) -> Result<()> {
    if available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        return Ok(());
    }
    for (worker, cpu) in [(client, 0), (listener, 1)] {
        let pid = i32::try_from(worker.pid()).ok().and_then(Pid::from_raw);
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(pid, &cpus)
            .with_context(|| format!("pin a worker to processor {cpu}"))?;
    }
    Ok(())
}
