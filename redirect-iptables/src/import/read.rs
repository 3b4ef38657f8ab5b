//! One configuration from the chains of both families.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use redirect_user::config::{
    Dns, Inbound, InboundMode, InboundPorts, Include, Interface, ProxyIds, RedirectConfig,
};
use thiserror::Error;

use super::outbound::{Outbound, tcp_port};
use crate::netfilter::{Match, Protocol, Rule, Ruleset, Target, Test};

/// The reason why the rules are not a sidecar's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ImportError {
    /// Not Istio's rules.
    #[error(
        "table nat has no chain ISTIO_OUTPUT with rules: give the output of iptables-save in an injected pod"
    )]
    NotIstio,
    /// Rules that leave no owner alone.
    #[error("chain ISTIO_OUTPUT names no user or group of the proxy: give the rules of a sidecar")]
    NoProxy,
}

/// Guesses the configuration, with ranges of IPv4 before those of IPv6.
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
        exclude_interfaces: excluded_interfaces(main),
        loopback4: match of_v4.as_ref().and_then(|chain| chain.loopback) {
            Some(IpNet::V4(net)) => net,
            Some(IpNet::V6(_)) | None => default.loopback4,
        },
        // Rules of IPv6 mean that IPv6 is on. With this option it is on for every order of the pod's addresses.
        dual_stack: of_v6.is_some(),
        dns: dns(chains().any(|chain| chain.captures_dns), [Some(v4), v6]),
        inbound: inbound(main),
        shadow: false,
    })
}

/// The capture of DNS queries, with the resolvers of both families.
fn dns(is_on: bool, families: [Option<&Ruleset>; 2]) -> Dns {
    let mut dns = Dns {
        redirect: is_on,
        ..Dns::default()
    };
    let families = families.into_iter().flatten();
    for rule in families.flat_map(|rules| rules.rules_of("nat", "ISTIO_OUTPUT_DNS")) {
        let is = |wanted: &Match| rule.tests.iter().any(|test| test.matches == *wanted);
        if !is(&Match::Protocol(Protocol::Tcp)) {
            continue;
        }
        let server = rule.tests.iter().find_map(|test| {
            if let Match::Destination(net) = &test.matches {
                Some(net.addr())
            } else {
                None
            }
        });
        dns.capture_all |= server.is_none();
        dns.servers.extend(server);
    }
    dns
}

/// The port that a chain redirects to.
fn redirects_to(rules: &Ruleset, chain: &str) -> Option<u16> {
    rules.rules_of("nat", chain).iter().find_map(|rule| {
        if let Target::Redirect(port) = rule.target {
            port
        } else {
            None
        }
    })
}

/// The interfaces whose outbound packets are left alone.
fn excluded_interfaces(rules: &Ruleset) -> Vec<Interface> {
    let chain = rules.rules_of("nat", "OUTPUT").iter();
    chain
        .filter(|rule| rule.target == Target::Return)
        .filter_map(|rule| match rule.tests.as_slice() {
            [
                Test {
                    negated: false,
                    matches: Match::Out(name),
                },
            ] => Some(name.clone()),
            _ => None,
        })
        .collect()
}

/// The tunnel port: its rule is always the first of the inbound chain.
fn tunnel(rules: &Ruleset) -> Option<u16> {
    let first = rules.rules_of("nat", "ISTIO_INBOUND").first()?;
    let port = tcp_port(&first.tests).filter(|_| first.target == Target::Return)?;
    (port.first == port.last).then_some(port.first)
}

/// The inbound options: none if no packet is sent through the inbound chain. With TPROXY that is the chain of table
/// mangle, else the one of table nat, whose first rule is the tunnel port's.
fn inbound(rules: &Ruleset) -> Inbound {
    let jumps = |rule: &Rule, to: &str| matches!(&rule.target, Target::Jump(name) if name == to);
    let is_used = |table| {
        let chain = rules.rules_of(table, "PREROUTING");
        chain.iter().any(|rule| jumps(rule, "ISTIO_INBOUND"))
    };
    let (mode, table, first, capture) = if is_used("mangle") {
        (InboundMode::Tproxy, "mangle", 0, "ISTIO_TPROXY")
    } else if is_used("nat") {
        (InboundMode::Redirect, "nat", 1, "ISTIO_IN_REDIRECT")
    } else {
        return Inbound::default();
    };
    let chain = rules.rules_of(table, "ISTIO_INBOUND");
    let ports = |rule: &Rule| tcp_port(&rule.tests);
    let has_port = |rule: &Rule| {
        let mut tests = rule.tests.iter();
        tests.any(|test| matches!(test.matches, Match::DestinationPort(_)))
    };
    let captured = || chain.iter().filter(|rule| jumps(rule, capture));
    Inbound {
        mode,
        include_ports: if captured().any(has_port) {
            InboundPorts::List(captured().filter_map(ports).collect())
        } else {
            InboundPorts::Any
        },
        exclude_ports: chain
            .iter()
            .skip(first)
            .filter(|rule| rule.target == Target::Return)
            .filter_map(ports)
            .collect(),
    }
}

/// The included ranges. A rule without a range is `*` if it is the only rule of every family, else all addresses of one
/// family. The text does not show host bits, but it shows whether a loopback address was among the ranges.
fn include(v4: Option<&Outbound>, v6: Option<&Outbound>) -> Include {
    let families = || v4.iter().chain(&v6);
    let everything =
        |chain: &Outbound| matches!(chain.include.as_slice(), [net] if net.prefix_len() == 0);
    let leaves_local_alone = families().any(|chain| chain.leaves_local_alone);
    if leaves_local_alone && families().copied().all(everything) {
        return Include::Any;
    }
    let nets = families().flat_map(|chain| &chain.include).copied();
    let include = Include::Cidrs(nets.collect());
    if leaves_local_alone || include.has_loopback() {
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
