//! Two sites, one behind iptables and one behind the programs, in which the same flows run at once.

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

/// A short time limit: longer than any connection takes on a machine at rest.
const HASTE: Duration = Duration::from_millis(100);
/// A long time limit: longer than a connection takes on any machine.
const PATIENCE: Duration = Duration::from_secs(3);

/// One site behind iptables, and one behind the programs, alike otherwise.
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
        // Rules load conntrack, whose settings exist only then.
        pair.configure(&RedirectConfig::default())?;
        pair.iptables.shorten_conntrack_timeouts()?;
        pair.wait_for_ipv6()?;
        Ok(pair)
    }

    /// Waits for IPv6: new devices check their addresses for duplicates before they use them.
    fn wait_for_ipv6(&self) -> Result<()> {
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
        bail!("wait for IPv6: it does not come up between the pods and the world")
    }

    /// Gives both sites the same configuration: iptables get the rules that are rendered from it, and no IPv6 rules
    /// where IPv6 is off. The first address of the pods is IPv4, so `--dual-stack` decides about IPv6.
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

    /// Runs flows in both sites, with a short limit.
    pub(super) fn run(&self, flows: &[Flow]) -> Result<Vec<(FlowOutcome, FlowOutcome)>> {
        self.run_within(flows, HASTE)
    }

    /// Runs flows in both sites, with a long limit.
    pub(super) fn run_with_long_limit(
        &self,
        flows: &[Flow],
    ) -> Result<Vec<(FlowOutcome, FlowOutcome)>> {
        self.run_within(flows, PATIENCE)
    }

    fn run_within(
        &self,
        flows: &[Flow],
        limit: Duration,
    ) -> Result<Vec<(FlowOutcome, FlowOutcome)>> {
        let (iptables, ebpf) = at_once(
            || self.iptables.runner.flows(flows, limit),
            || self.ebpf.scene.runner.flows(flows, limit),
        );
        let iptables = iptables.context("run flows behind iptables")?;
        let ebpf = ebpf.context("run flows behind the programs")?;
        Ok(iptables.into_iter().zip(ebpf).collect())
    }

    /// The views of a flow in both sites, in comparable form.
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
        let name = listener.map_or_else(|| "unknown listener".to_owned(), ToString::to_string);
        let capture = [config.out_port, config.in_port];
        // Without any IPv6 rule, conntrack does not track IPv6 and has no original destinations of it.
        let is_seen = config.dual_stack || ends.server_local.is_some_and(|local| local.is_ipv4());
        let is_proxy = is_seen && listener.is_some_and(|name| name.takes_from(capture));
        View::of_ends(name, is_proxy, ends)
    }
}

/// Replaces the local address behind iptables with the programs' one. Of several IPv6 addresses of an interface,
/// iptables redirect to the one that was added last, the programs to the one that the pod is known by. And iptables
/// redirect a dial of the proxy's port to that port of another address, where the programs have nothing to do.
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
        (one.join().expect("the other thread panicked"), other)
    })
}
