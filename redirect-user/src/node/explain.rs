//! Why a connection goes where it goes: the same gathering and the same table, on the live maps.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use redirect_common::{
    chain::{Chain, INBOUND, OUTPUT, RuleId, Verdict},
    decide::{Decision, decide, why},
    facts::{
        Fact, Facts, Flow, InboundFlow, Owner, PolicyView as _, Transport, gather, gather_inbound,
    },
    net::{BeAddr, BePort},
};

use super::{Pod, Reader};
use crate::bpf::LiveView;

/// One rule, looked at.
#[derive(Clone, Debug)]
pub struct Step {
    /// The rule.
    pub rule: RuleId,
    /// What it needs and the flow lacks.
    pub missing: Vec<Fact>,
    /// What it excludes and the flow has.
    pub in_the_way: Vec<Fact>,
}

/// A decision and how it came about.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The connection or datagram, with the ids of the machine.
    pub flow: Flow,
    /// What holds for the flow.
    pub facts: Facts,
    /// The verdict and the rule that matched.
    pub decision: Decision,
    /// The proxy's address for it, if it is redirected. On the wire the loopback address may be another one, which
    /// stands for the destination.
    pub target: Option<SocketAddr>,
    /// The rules before it, in order.
    pub earlier: Vec<Step>,
    /// Whether there is such a connection at all: nothing arrives at an address that is not the
    /// pod's.
    pub can_be: bool,
}

/// What is asked about: a connection that somebody makes, or a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Which of the two.
    pub transport: Transport,
    /// Who made the socket.
    pub owner: Owner,
    /// Where it goes.
    pub dst: SocketAddr,
    /// The address the socket is bound to.
    pub source: Option<IpAddr>,
}

/// Explains what happens to a connection of a pod, or to a datagram. The owner's ids are those of
/// the pod's user namespace.
pub fn explain(reader: &Reader, pod: &Pod, question: &Question) -> Result<Explanation> {
    let Question {
        transport,
        owner,
        dst,
        source,
    } = *question;
    let bound = source.map_or(BeAddr::ANY, BeAddr::from);
    let ids = reader.ids(pod)?;
    let owner = Owner {
        uid: ids.uid(owner.uid)?,
        gid: ids.gid(owner.gid)?,
    };
    let flow = Flow {
        transport,
        dst: BeAddr::from(dst.ip()).effective_dst(bound),
        port: BePort::new(dst.port()),
        source: bound,
        device: 0,
        owner: Some(owner),
    };
    if is_ignored(pod, &flow) {
        return Ok(not_looked_at(flow, Facts::of(Fact::Udp), RuleId::Default));
    }
    let view = LiveView::new(reader.maps(), &pod.row);
    let facts = gather(&view, &flow);
    view.finish()?;
    let (decision, earlier) = walk(&OUTPUT, pod, facts);
    Ok(Explanation {
        flow,
        facts,
        decision,
        target: target(pod, decision.verdict, flow.dst),
        earlier,
        can_be: true,
    })
}

/// Explains what happens to a connection that somebody makes to a pod.
pub fn explain_inbound(
    reader: &Reader,
    pod: &Pod,
    remote: IpAddr,
    dst: SocketAddr,
) -> Result<Explanation> {
    let flow = Flow {
        transport: Transport::Tcp,
        dst: dst.ip().into(),
        port: BePort::new(dst.port()),
        source: remote.into(),
        device: 0,
        owner: None,
    };
    if !pod.row.flags.inbound() {
        return Ok(not_looked_at(flow, Facts::NONE, RuleId::InDefault));
    }
    let arrival = InboundFlow {
        remote: flow.source,
        local: flow.dst,
        port: flow.port,
        device: 0,
    };
    let view = LiveView::new(reader.maps(), &pod.row);
    let facts = gather_inbound(&view, &arrival);
    let can_be =
        flow.dst.is_loopback() || view.local(flow.dst).is_local() || view.cidr(flow.dst).local();
    view.finish()?;
    let (decision, earlier) = walk(&INBOUND, pod, facts);
    let is_redirected = decision.verdict == Verdict::In;
    Ok(Explanation {
        flow,
        facts,
        decision,
        target: is_redirected.then(|| SocketAddr::new(dst.ip(), pod.row.in_port.get())),
        earlier,
        can_be,
    })
}

/// The decision, and the rules that were tried before it.
fn walk<const N: usize>(chain: &Chain<N>, pod: &Pod, facts: Facts) -> (Decision, Vec<Step>) {
    let decision = decide(chain, facts);
    let earlier = chain
        .rules
        .iter()
        .take_while(|rule| rule.id != decision.rule)
        .filter(|rule| pod.row.has_rule(rule.id))
        .map(|rule| {
            let why = why(rule, facts);
            Step {
                rule: rule.id,
                missing: why.missing.iter().collect(),
                in_the_way: why.in_the_way.iter().collect(),
            }
        })
        .collect();
    (decision, earlier)
}

/// Whether it is a datagram that the programs do not look at. The rules are not about it.
const fn is_ignored(pod: &Pod, flow: &Flow) -> bool {
    matches!(flow.transport, Transport::Udp) && !pod.row.may_capture_datagram(flow.port)
}

/// The explanation of a connection or datagram that no program looks at. It is not counted under the rule.
const fn not_looked_at(flow: Flow, facts: Facts, rule: RuleId) -> Explanation {
    Explanation {
        flow,
        facts,
        decision: Decision {
            verdict: Verdict::Direct,
            rule,
        },
        target: None,
        earlier: Vec::new(),
        can_be: true,
    }
}

fn target(pod: &Pod, verdict: Verdict, dst: BeAddr) -> Option<SocketAddr> {
    let port = match verdict {
        Verdict::Direct => return None,
        Verdict::Out => pod.row.out_port,
        Verdict::In => pod.row.in_port,
        Verdict::Dns => BePort::DNS_PROXY,
    };
    let addr = if dst.is_v4() {
        BeAddr::LOOPBACK4
    } else {
        BeAddr::LOOPBACK6
    };
    Some(SocketAddr::new(addr.into(), port.get()))
}
