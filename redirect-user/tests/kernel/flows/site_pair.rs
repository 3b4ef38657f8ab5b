//! The two pods, and the same connections in both at once.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use redirect_iptables::rules::{Family, restore};
use redirect_testkit::{Flow, FlowKind, FlowOutcome, Pod, Side, iptables};
use redirect_user::config::RedirectConfig;

use super::site::{Name, Site, names};
use crate::{
    differential::{View, replace},
    harness::{ELSEWHERE_V6, Redirected, SECOND_V6, at},
};

/// Longer than any connection takes on a machine at rest.
const HASTE: Duration = Duration::from_millis(100);
/// Longer than one takes on any machine.
const PATIENCE: Duration = Duration::from_secs(3);

/// One pod behind iptables, one behind the programs; alike otherwise.
#[derive(Debug)]
pub(super) struct SitePair {
    pub(super) iptables: Site,
    pub(super) ebpf: Redirected<Site>,
    listeners: Vec<Name>,
}

impl SitePair {
    pub(super) fn new(name: &str) -> Result<Self> {
        let iptables = Site::new(&format!("{name}-iptables"))?;
        let ebpf = Site::new(&format!("{name}-ebpf"))?;
        let pair = Self {
            iptables,
            ebpf: Redirected::attach(name, ebpf, &RedirectConfig::default())?,
            listeners: names(),
        };
        // Loads conntrack, whose settings are there only then.
        pair.configure(&RedirectConfig::default())?;
        pair.iptables.forget_soon()?;
        pair.await_ipv6()?;
        Ok(pair)
    }

    /// New devices look for other owners of their addresses before they use IPv6.
    fn await_ipv6(&self) -> Result<()> {
        let flow = Flow {
            client: Side::Pod,
            uid: 0,
            gid: 0,
            kind: FlowKind::Connection,
            to: at(ELSEWHERE_V6, 80),
            mapped: false,
            from: None,
        };
        for _ in 0..100 {
            let seen = self.run(&[flow])?;
            if let [(FlowOutcome::Reached(_), FlowOutcome::Reached(_))] = seen.as_slice() {
                return Ok(());
            }
        }
        bail!("IPv6 does not come up between the pods and the world")
    }

    /// Gives both the same settings: iptables the rules that we render, and IPv6 none where it is
    /// off. The first address of the pods is IPv4, so `--dual-stack` decides.
    pub(super) fn configure(&self, config: &RedirectConfig) -> Result<()> {
        let pod = &self.iptables.pod;
        let rules = || {
            replace(pod, iptables::Family::V4, &restore(config, Family::V4))?;
            let v6 = config.dual_stack.then(|| restore(config, Family::V6));
            replace(pod, iptables::Family::V6, &v6.unwrap_or_default())
        };
        let (rules, programs) = at_once(rules, || self.ebpf.update_exactly(config));
        rules.and(programs)
    }

    /// Makes the connections in both. What does not connect at once is given up.
    pub(super) fn run(&self, flows: &[Flow]) -> Result<Vec<(FlowOutcome, FlowOutcome)>> {
        self.run_within(flows, HASTE)
    }

    /// The same, waiting as long as it takes.
    pub(super) fn run_patiently(&self, flows: &[Flow]) -> Result<Vec<(FlowOutcome, FlowOutcome)>> {
        self.run_within(flows, PATIENCE)
    }

    fn run_within(
        &self,
        flows: &[Flow],
        limit: Duration,
    ) -> Result<Vec<(FlowOutcome, FlowOutcome)>> {
        let (iptables, ebpf) = at_once(
            || self.iptables.board.flows(flows, limit),
            || self.ebpf.scene.board.flows(flows, limit),
        );
        let iptables = iptables.context("behind iptables")?;
        let ebpf = ebpf.context("behind the programs")?;
        Ok(iptables.into_iter().zip(ebpf).collect())
    }

    /// What both saw, in comparable form.
    pub(super) fn views(
        &self,
        config: &RedirectConfig,
        seen: &(FlowOutcome, FlowOutcome),
    ) -> (View, View) {
        let (iptables, ebpf) = (self.view(config, &seen.0), self.view(config, &seen.1));
        (with_first_address(iptables.with_one_port()), ebpf)
    }

    fn view(&self, config: &RedirectConfig, seen: &FlowOutcome) -> View {
        let ends = match seen {
            FlowOutcome::Reached(ends) => ends,
            FlowOutcome::Failed(_) => return View::of_nothing(seen.error().unwrap_or_default()),
            FlowOutcome::Lost => return View::of_nothing("nowhere".to_owned()),
        };
        let listener = self.listeners.get(usize::from(ends.listener));
        let name = listener.map_or_else(|| "nobody".to_owned(), ToString::to_string);
        let capture = [config.out_port, config.in_port];
        // Without any rule for IPv6 conntrack does not look at it, and answers nobody.
        let is_seen = config.dual_stack || ends.server_local.is_some_and(|local| local.is_ipv4());
        let is_proxy = is_seen && listener.is_some_and(|name| name.takes_from(capture));
        View::of_ends(name, is_proxy, ends)
    }
}

/// Of several IPv6 addresses of an interface iptables redirect to the one that was added last, the
/// programs to the one that the pod is known by; and who dials the proxy's very port is redirected to
/// that port of another address, where the programs have nothing to do.
fn with_first_address(mut iptables: View) -> View {
    let told = iptables.orig_dst.filter(|_| iptables.is_redirected());
    if let (Some(told), Some((_, local))) = (told, &mut iptables.server) {
        if told.port() == local.port() && !local.ip().is_loopback() {
            *local = told;
        } else if local.ip().to_string() == SECOND_V6 {
            local.set_ip(Pod::V6.into());
        }
    }
    iptables
}

fn at_once<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().expect("the other thread's panic"), other)
    })
}
