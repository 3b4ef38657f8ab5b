//! The decision of a policy about a probe.

use redirect_common::{
    chain::{INBOUND, OUTPUT, RuleId, Verdict},
    decide::{Decision, decide},
    facts::{Flow, InboundFlow, Owner, PolicyView, Transport, gather, gather_inbound},
    net::{BeAddr, BePort},
};

use super::{Direction, Probe, Site};

/// The decision of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyDecision {
    /// The verdict.
    pub verdict: Verdict,
    /// The port that the connection is redirected to; none if it is direct.
    pub port: Option<u16>,
    /// The rule of the table; none for a connection that no hook sees.
    pub rule: Option<RuleId>,
}

/// Decides a probe as the programs do.
///
/// Rules name ids of the user namespace that owns their network namespace. The programs know the ids of the first user
/// namespace.
pub fn policy_decision<V: PolicyView>(view: &V, site: &Site, probe: &Probe) -> PolicyDecision {
    let row = view.row();
    let decision = match probe.direction {
        Direction::Outbound => outbound(view, site, probe),
        Direction::Inbound => inbound(view, site, probe),
    };
    let Some(Decision { verdict, rule }) = decision else {
        return PolicyDecision {
            verdict: Verdict::Direct,
            port: None,
            rule: None,
        };
    };
    let port = match verdict {
        Verdict::Direct => None,
        Verdict::Out => Some(row.out_port),
        Verdict::In => Some(row.in_port),
        Verdict::Dns => Some(BePort::DNS_PROXY),
    };
    PolicyDecision {
        verdict,
        port: port.map(BePort::get),
        rule: Some(rule),
    }
}

fn outbound<V: PolicyView>(view: &V, site: &Site, probe: &Probe) -> Option<Decision> {
    let ids = &site.netns().ids;
    let port = BePort::new(probe.port);
    let is_seen = probe.tcp || view.row().may_capture_datagram(port);
    is_seen.then(|| {
        let transport = if probe.tcp {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        let source = probe.from.map_or(BeAddr::ANY, BeAddr::from);
        let flow = Flow {
            transport,
            dst: BeAddr::from(probe.to).effective_dst(source),
            port,
            source,
            device: site.index(&probe.via),
            owner: probe.owner().and_then(|owner| {
                Some(Owner {
                    uid: ids.uids.outside(owner.uid)?,
                    gid: ids.gids.outside(owner.gid)?,
                })
            }),
        };
        decide(&OUTPUT, gather(view, &flow))
    })
}

fn inbound<V: PolicyView>(view: &V, site: &Site, probe: &Probe) -> Option<Decision> {
    let is_seen = probe.tcp && view.row().flags.inbound();
    is_seen.then(|| {
        let flow = InboundFlow {
            remote: probe.from.map_or(BeAddr::ANY, BeAddr::from),
            local: BeAddr::from(probe.to),
            port: BePort::new(probe.port),
            device: site.index(&probe.via),
        };
        decide(&INBOUND, gather_inbound(view, &flow))
    })
}
