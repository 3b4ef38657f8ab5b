//! The comparison of one flow: behind iptables, behind the programs, and with the model.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use redirect_common::{
    chain::Verdict,
    decide::Decision,
    facts::{Fact, Facts},
};
use redirect_testkit::{Flow, FlowKind, Side};
use redirect_user::config::RedirectConfig;

use crate::differential::{View, accepted};

/// The facts of a connection, and the verdict of iptables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// Whether the inbound table decided the connection, not the outbound one.
    pub(super) inbound: bool,
    pub(super) facts: Facts,
    pub(super) verdict: Verdict,
}

/// A difference that is not accepted.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    pub(super) config: RedirectConfig,
    pub(super) flow: Flow,
    pub(super) differing: Differing,
}

/// The two things that differ.
#[derive(Clone, Debug)]
pub(super) enum Differing {
    /// The views behind iptables and behind the programs.
    Views(Box<(View, View)>),
    /// The view behind iptables, and the decision of the model, if it makes one.
    Decided(Box<View>, Option<Decision>),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            config,
            flow,
            differing,
        } = self;
        writeln!(f, "{flow:?}")?;
        match differing {
            Differing::Views(views) => {
                writeln!(f, "  iptables: {:?}\n  ebpf:     {:?}", views.0, views.1)?;
            }
            Differing::Decided(view, decision) => {
                writeln!(f, "  iptables: {view:?}\n  model:    {decision:?}")?;
            }
        }
        let config = serde_json::to_string(config).map_err(|_unprintable| fmt::Error)?;
        write!(f, "  under:    {config}")
    }
}

/// The comparison of one flow in both pods.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) views: (View, View),
    /// The accepted differences in it, by their index in the list; none if a difference is not accepted.
    pub(super) accepted: Option<Vec<usize>>,
    /// The number of times that the flow was made.
    pub(super) dials: u64,
}

impl Comparison {
    pub(super) fn of(flow: &Flow, views: (View, View)) -> Self {
        Self {
            accepted: accepted(flow, &views.0, &views.1),
            views,
            dials: 1,
        }
    }

    pub(super) const fn is_fine(&self) -> bool {
        self.accepted.is_some()
    }

    /// Whether the flow timed out behind iptables.
    pub(super) fn has_timed_out(&self) -> bool {
        ["ETIMEDOUT", "EAGAIN"].contains(&self.views.0.outcome.as_str())
    }

    /// The number of decisions about the flow. A connected IPv6 socket that sends to IPv4 is decided about twice,
    /// because the kernel passes such a datagram's destination to the hook of `sendto` as well; after a redirect the
    /// datagram is no query any more.
    pub(super) fn decisions(&self, flow: &Flow, decision: Decision) -> u64 {
        let outcome = self.views.1.outcome.as_str();
        let is_sent =
            self.views.1.server.is_some() || ["EAGAIN", "ECONNREFUSED"].contains(&outcome);
        let is_twice = flow.mapped
            && flow.kind == FlowKind::ConnectedDatagram
            && decision.verdict != Verdict::Dns
            && is_sent;
        self.dials * if is_twice { 2 } else { 1 }
    }

    /// Both ends of a connection of the pod to itself that was not redirected.
    pub(super) fn returns(&self, flow: &Flow, seen: Observed) -> Option<(IpAddr, SocketAddr)> {
        let is_own = flow.client == Side::Pod
            && flow.kind == FlowKind::Connection
            && seen.facts.has(Fact::ViaLo)
            && seen.verdict == Verdict::Direct;
        self.views.0.server.filter(|_| is_own)
    }

    /// The difference that fails the run, if there is one.
    pub(super) fn difference(
        &self,
        verdict: Option<Verdict>,
        decision: Option<Decision>,
    ) -> Option<Differing> {
        let right = decision.map_or(Verdict::Direct, |decision| decision.verdict);
        if !self.is_fine() {
            return Some(Differing::Views(self.views.clone().into()));
        }
        let is_right = verdict.is_none_or(|verdict| verdict == right);
        (!is_right).then(|| Differing::Decided(self.views.0.clone().into(), decision))
    }

    /// The verdict of iptables, if the view tells it. The view of a datagram without an answer does not, unless the
    /// datagram was refused.
    pub(super) fn verdict(&self, config: &RedirectConfig, flow: &Flow) -> Option<Verdict> {
        let view = &self.views.0;
        if flow.kind != FlowKind::Connection
            && view.server.is_none()
            && view.outcome != "ECONNREFUSED"
        {
            return None;
        }
        view.verdict(config)
    }
}
