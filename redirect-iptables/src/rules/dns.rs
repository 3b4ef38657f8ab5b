//! The rules for DNS: `ISTIO_OUTPUT_DNS` of the table nat, and all of the table raw.
//!
//! The zones keep two connections apart in conntrack: the mesh's own queries to a resolver, and the application's
//! queries to the same resolver that were redirected.

use std::net::IpAddr;

use ipnet::IpNet;
use redirect_common::facts::Transport;
use redirect_user::config::RedirectConfig;

use super::Family;

/// The jump, then the rules of its chain, TCP before UDP. No rule if no resolver of this family is captured.
pub(super) fn nat(config: &RedirectConfig, family: Family) -> Vec<String> {
    let servers = servers(config, family);
    if servers.is_empty() {
        return Vec::new();
    }
    let mut rules = vec!["ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS".to_owned()];
    for transport in [Transport::Tcp, Transport::Udp] {
        let redirects = servers
            .iter()
            .map(|server| dns_redirect(transport, *server));
        rules.extend(redirects);
    }
    rules
}

/// The rule that redirects queries to a resolver, or to all resolvers; the chain comes first.
pub(super) fn dns_redirect(transport: Transport, server: Option<IpAddr>) -> String {
    // Istio spells the two options differently.
    let (protocol, to) = match transport {
        Transport::Tcp => ("tcp", "ports"),
        Transport::Udp => ("udp", "port"),
    };
    let server = matching("-d", server);
    format!("ISTIO_OUTPUT_DNS -p {protocol} --dport 53{server} -j REDIRECT --to-{to} 15053")
}

/// The zones of datagrams in conntrack: 2 between the application and the mesh, 1 for the mesh's own.
pub(super) fn raw(config: &RedirectConfig, family: Family) -> Vec<String> {
    let mut rules = vec!["OUTPUT -j ISTIO_OUTPUT_DNS".to_owned()];
    let uids = config.proxy_uids.as_slice().iter();
    let gids = config.proxy_gids.as_slice().iter();
    let owners = uids
        .map(|uid| format!("--uid-owner {uid}"))
        .chain(gids.map(|gid| format!("--gid-owner {gid}")));
    for owner in owners {
        for (ports, zone) in [("--dport 53", 1), ("--sport 15053", 2)] {
            rules.push(format!(
                "ISTIO_OUTPUT_DNS -p udp {ports} -m owner {owner} -j CT --zone {zone}"
            ));
        }
    }
    let servers = servers(config, family);
    if !servers.is_empty() {
        rules.push("PREROUTING -j ISTIO_INBOUND".to_owned());
    }
    for server in servers {
        let (to, from) = (matching("-d", server), matching("-s", server));
        rules.push(format!(
            "ISTIO_OUTPUT_DNS -p udp --dport 53{to} -j CT --zone 2"
        ));
        rules.push(format!(
            "ISTIO_INBOUND -p udp --sport 53{from} -j CT --zone 1"
        ));
    }
    rules
}

/// The captured resolvers of a family; `None` stands for all resolvers.
fn servers(config: &RedirectConfig, family: Family) -> Vec<Option<IpAddr>> {
    if config.dns.capture_all {
        return vec![None];
    }
    let servers = config.dns.listed().iter();
    servers
        .filter(|server| family.has(&IpNet::from(**server)))
        .map(|server| Some(*server))
        .collect()
}

/// The match of an address, with a blank before it; empty for any address.
fn matching(option: &str, address: Option<IpAddr>) -> String {
    address.map_or_else(String::new, |address| {
        format!(" {option} {}", IpNet::from(address))
    })
}

#[cfg(test)]
mod tests {
    use redirect_user::config::Dns;

    use super::*;

    fn config(capture_all: bool, servers: &[&str]) -> RedirectConfig {
        let servers = servers.iter().map(|text| text.parse().unwrap());
        RedirectConfig {
            dns: Dns {
                redirect: true,
                capture_all,
                servers: servers.collect::<Vec<IpAddr>>(),
            },
            ..RedirectConfig::default()
        }
    }

    #[test]
    fn every_resolver_has_rules_in_its_own_family() {
        let config = config(false, &["10.96.0.10", "fd00::a", "10.96.0.11"]);
        assert_eq!(
            nat(&config, Family::V4),
            [
                "ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS",
                "ISTIO_OUTPUT_DNS -p tcp --dport 53 -d 10.96.0.10/32 -j REDIRECT --to-ports 15053",
                "ISTIO_OUTPUT_DNS -p tcp --dport 53 -d 10.96.0.11/32 -j REDIRECT --to-ports 15053",
                "ISTIO_OUTPUT_DNS -p udp --dport 53 -d 10.96.0.10/32 -j REDIRECT --to-port 15053",
                "ISTIO_OUTPUT_DNS -p udp --dport 53 -d 10.96.0.11/32 -j REDIRECT --to-port 15053",
            ]
        );
        assert_eq!(
            raw(&config, Family::V6),
            [
                "OUTPUT -j ISTIO_OUTPUT_DNS",
                "ISTIO_OUTPUT_DNS -p udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1",
                "ISTIO_OUTPUT_DNS -p udp --sport 15053 -m owner --uid-owner 1337 -j CT --zone 2",
                "ISTIO_OUTPUT_DNS -p udp --dport 53 -m owner --gid-owner 1337 -j CT --zone 1",
                "ISTIO_OUTPUT_DNS -p udp --sport 15053 -m owner --gid-owner 1337 -j CT --zone 2",
                "PREROUTING -j ISTIO_INBOUND",
                "ISTIO_OUTPUT_DNS -p udp --dport 53 -d fd00::a/128 -j CT --zone 2",
                "ISTIO_INBOUND -p udp --sport 53 -s fd00::a/128 -j CT --zone 1",
            ]
        );
    }

    #[test]
    fn a_family_without_a_resolver_has_only_the_zones_of_the_mesh() {
        let config = config(false, &["10.96.0.10"]);
        assert!(nat(&config, Family::V6).is_empty());
        assert_eq!(raw(&config, Family::V6).len(), 5);
        assert_eq!(raw(&config, Family::V4).len(), 8);
    }

    #[test]
    fn all_resolvers_are_one_rule() {
        let config = config(true, &["10.96.0.10", "10.96.0.11"]);
        for family in Family::ALL {
            assert_eq!(nat(&config, family).len(), 3);
            assert_eq!(raw(&config, family).len(), 8);
        }
    }
}
