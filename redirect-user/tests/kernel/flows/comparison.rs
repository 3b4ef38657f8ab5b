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

/// A connection's facts, and what iptables really did with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// The table it was decided by: the inbound one, or the outbound one.
    pub(super) inbound: bool,
    pub(super) facts: Facts,
    pub(super) verdict: Verdict,
}

/// A difference that nobody accepts.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    pub(super) config: RedirectConfig,
    pub(super) flow: Flow,
    pub(super) what: What,
}

/// What differs.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// What can be seen behind iptables and behind the programs.
    Views(Box<(View, View)>),
    /// What can be seen behind iptables, and what the table says on model, if it is asked.
    Decided(Box<View>, Option<Decision>),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, flow, what } = self;
        writeln!(f, "{flow:?}")?;
        match what {
            What::Views(views) => {
                writeln!(f, "  iptables: {:?}\n  ebpf:     {:?}", views.0, views.1)?;
            }
            What::Decided(view, decision) => {
                writeln!(f, "  iptables: {view:?}\n  on model: {decision:?}")?;
            }
        }
        let config = serde_json::to_string(config).map_err(|_unprintable| fmt::Error)?;
        write!(f, "  under:    {config}")
    }
}

/// A connection seen in both pods.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) views: (View, View),
    /// The places of the accepted differences that it shows; none if there is one that is not
    /// accepted.
    pub(super) accepted: Option<Vec<usize>>,
    /// How often it was made.
    pub(super) dials: u64,
}

impl Judged {
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

    /// Whether nothing came behind iptables.
    pub(super) fn has_timed_out(&self) -> bool {
        ["ETIMEDOUT", "EAGAIN"].contains(&self.views.0.outcome.as_str())
    }

    /// How often it was decided about. Sending is like connecting where to the kernel a datagram to
    /// IPv4 from a connected socket of IPv6 has a destination of its own; after a redirect it is no
    /// query.
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

    /// Both ends of a connection of the pod to itself that nobody redirected.
    pub(super) fn returns(&self, flow: &Flow, seen: Observed) -> Option<(IpAddr, SocketAddr)> {
        let is_own = flow.client == Side::Pod
            && flow.kind == FlowKind::Connection
            && seen.facts.has(Fact::ViaLo)
            && seen.verdict == Verdict::Direct;
        self.views.0.server.filter(|_| is_own)
    }

    /// What is not as it should be.
    pub(super) fn difference(
        &self,
        verdict: Option<Verdict>,
        decision: Option<Decision>,
    ) -> Option<What> {
        let right = decision.map_or(Verdict::Direct, |decision| decision.verdict);
        if !self.is_fine() {
            return Some(What::Views(self.views.clone().into()));
        }
        let is_right = verdict.is_none_or(|verdict| verdict == right);
        (!is_right).then(|| What::Decided(self.views.0.clone().into(), decision))
    }

    /// What iptables did, as far as it can be told: who a datagram went to that was not answered
    /// cannot, unless nobody was there.
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
