//! The explanation of a decision: the programs' own gathering of facts and rule table, applied to
//! the live maps.

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

use super::reader::{Pod, Reader};
use crate::bpf::LiveView;

/// A rule that did not match.
#[derive(Clone, Debug)]
pub struct Step {
    /// The rule.
    pub rule: RuleId,
    /// Facts that the rule requires and the flow lacks.
    pub missing: Vec<Fact>,
    /// Facts that the rule excludes and the flow has.
    pub forbidden: Vec<Fact>,
}

/// A decision and the steps that lead to it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The connection or datagram, with the ids of the machine.
    pub flow: Flow,
    /// The facts that hold for the flow.
    pub facts: Facts,
    /// The verdict and the rule that matched.
    pub decision: Decision,
    /// The proxy's address if the flow is redirected. The real connection may go to another
    /// loopback address, which stands for the destination.
    pub target: Option<SocketAddr>,
    /// The rules before the one that matched, in order.
    pub earlier: Vec<Step>,
    /// Whether such a connection is possible: none arrives at an address that is not local to the
    /// pod.
    pub can_be: bool,
}

/// The connection or datagram to explain.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The transport protocol.
    pub transport: Transport,
    /// The creator of the socket.
    pub owner: Owner,
    /// The destination.
    pub dst: SocketAddr,
    /// The address that the socket is bound to.
    pub source: Option<IpAddr>,
}

/// Explains the decision about a connection or datagram of a pod. The owner's ids are those of the
/// pod's user namespace.
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
        return Ok(not_evaluated(flow, Facts::of(Fact::Udp), RuleId::Default));
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

/// Explains the decision about a connection from a peer to a pod.
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
        return Ok(not_evaluated(flow, Facts::NONE, RuleId::InDefault));
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

/// The decision, and the rules that were evaluated before it.
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
                forbidden: why.forbidden.iter().collect(),
            }
        })
        .collect();
    (decision, earlier)
}

/// Whether the flow is a datagram that the programs do not evaluate, because the rules do not apply
/// to it.
const fn is_ignored(pod: &Pod, flow: &Flow) -> bool {
    matches!(flow.transport, Transport::Udp) && !pod.row.may_capture_datagram(flow.port)
}

/// The explanation of a connection or datagram that no program evaluates. No rule counts it.
const fn not_evaluated(flow: Flow, facts: Facts, rule: RuleId) -> Explanation {
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
