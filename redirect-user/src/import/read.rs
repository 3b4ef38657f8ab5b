//! Both families' chains to one configuration.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

use super::outbound::{Outbound, tcp_port};
use crate::{
    config::{Inbound, InboundPorts, Include, ProxyIds, RedirectConfig},
    netfilter::{Match, Rule, Ruleset, Target},
    rules::Family,
};

/// Why no configuration can be read off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ImportError {
    /// Not Istio's rules.
    #[error(
        "there is no chain ISTIO_OUTPUT with rules in table nat: give the iptables-save of an injected pod"
    )]
    NotIstio,
    /// Rules without an owner to leave alone.
    #[error("chain ISTIO_OUTPUT names no user or group of the proxy: these are no rules of a sidecar")]
    NoProxy,
}

/// The configuration that the rules look like, with ranges of IPv4 before those of IPv6.
pub fn read_config(v4: &Ruleset, v6: Option<&Ruleset>) -> Result<RedirectConfig, ImportError> {
    let output = |rules: &Ruleset| {
        let chain = rules.rules_of("nat", "ISTIO_OUTPUT");
        (!chain.is_empty()).then(|| Outbound::read(chain, rules.family))
    };
    let (of_v4, of_v6) = (output(v4), v6.and_then(output));
    let (main, chain) = match (&of_v4, &of_v6) {
        (Some(chain), _) => (v4, chain),
        (None, Some(chain)) => (v6.unwrap_or(v4), chain),
        (None, None) => return Err(ImportError::NotIstio),
    };
    let ids = |ids: &[u32], others: &[u32]| {
        let ids = if ids.is_empty() { others } else { ids };
        let most = ids.iter().take(redirect_common::abi::PROXY_IDS);
        ProxyIds::new(most.copied().collect()).ok_or(ImportError::NoProxy)
    };
    let default = RedirectConfig::default();
    let chains = || of_v4.iter().chain(&of_v6);
    Ok(RedirectConfig {
        out_port: redirects_to(main, "ISTIO_REDIRECT").unwrap_or(default.out_port),
        in_port: redirects_to(main, "ISTIO_IN_REDIRECT").unwrap_or(default.in_port),
        tunnel_port: tunnel(main).unwrap_or(default.tunnel_port),
        proxy_uids: ids(&chain.uids, &chain.gids)?,
        proxy_gids: ids(&chain.gids, &chain.uids)?,
        owner_groups: chain.owner_groups.clone(),
        owner_groups_exclude: chain.owner_groups_exclude.clone(),
        include: include(of_v4.as_ref(), of_v6.as_ref()),
        exclude: chains().flat_map(|chain| &chain.exclude).copied().collect(),
        include_ports: chain.include_ports.clone(),
        exclude_ports: chain.exclude_ports.clone(),
        inbound: inbound(main),
    })
}

/// The port that a chain redirects to.
fn redirects_to(rules: &Ruleset, chain: &str) -> Option<u16> {
    rules
        .rules_of("nat", chain)
        .iter()
        .find_map(|rule| match rule.target {
            Target::Redirect(port) => port,
            _ => None,
        })
}

/// The tunnel port, whose rule is always the first of the inbound chain.
fn tunnel(rules: &Ruleset) -> Option<u16> {
    let first = rules.rules_of("nat", "ISTIO_INBOUND").first()?;
    let port = tcp_port(&first.tests).filter(|_| first.target == Target::Return)?;
    (port.first == port.last).then_some(port.first)
}

/// What is asked for inbound, if anything is sent through its chain.
fn inbound(rules: &Ruleset) -> Inbound {
    let is_jump = |rule: &Rule| matches!(&rule.target, Target::Jump(to) if to == "ISTIO_INBOUND");
    if !rules.rules_of("nat", "PREROUTING").iter().any(is_jump) {
        return Inbound::default();
    }
    let chain = rules.rules_of("nat", "ISTIO_INBOUND");
    let redirects =
        |rule: &&Rule| matches!(&rule.target, Target::Jump(to) if to == "ISTIO_IN_REDIRECT");
    let ports = |rule: &Rule| tcp_port(&rule.tests);
    let has_port = |rule: &Rule| {
        let mut tests = rule.tests.iter();
        tests.any(|test| matches!(test.matches, Match::DestinationPort(_)))
    };
    let listed = chain.iter().filter(redirects).any(has_port);
    Inbound {
        include_ports: if listed {
            InboundPorts::List(chain.iter().filter(redirects).filter_map(ports).collect())
        } else {
            InboundPorts::Any
        },
        exclude_ports: chain
            .iter()
            .skip(1)
            .filter(|rule| rule.target == Target::Return)
            .filter_map(ports)
            .collect(),
    }
}

/// The included ranges. A rule without a range is `*` if every family has it alone, else all of one
/// family. The text does not show host bits, but whether a loopback address was among the ranges.
fn include(v4: Option<&Outbound>, v6: Option<&Outbound>) -> Include {
    let families = || v4.iter().chain(&v6);
    let everything =
        |chain: &Outbound| matches!(chain.include.as_slice(), [net] if net.prefix_len() == 0);
    let spares_local = families().any(|chain| chain.spares_local);
    if spares_local && families().copied().all(everything) {
        return Include::Any;
    }
    let nets = families().flat_map(|chain| &chain.include).copied();
    let include = Include::Cidrs(nets.collect());
    if spares_local || include.has_loopback() {
        return include;
    }
    let Include::Cidrs(mut nets) = include else {
        return include;
    };
    for net in &mut nets {
        let loopback = match net {
            IpNet::V4(_) => IpNet::V4(Ipv4Net::from(std::net::Ipv4Addr::LOCALHOST)),
            IpNet::V6(_) => IpNet::V6(Ipv6Net::from(std::net::Ipv6Addr::LOCALHOST)),
        };
        if net.contains(&loopback) {
            *net = IpNet::new(loopback.addr(), net.prefix_len()).unwrap_or(*net);
            break;
        }
    }
    Include::Cidrs(nets)
}

impl Family {
    /// All addresses.
    pub(super) fn every(self) -> IpNet {
        match self {
            Self::V4 => Ipv4Net::default().into(),
            Self::V6 => Ipv6Net::default().into(),
        }
    }
}
