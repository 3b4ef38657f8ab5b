//! The rules about DNS: `ISTIO_OUTPUT_DNS` of the table nat, and all of the table raw.
//!
//! Without conntrack zones the mesh's own queries to a resolver, and those of the application to
//! it that were sent elsewhere, would be one connection to conntrack.

use std::net::IpAddr;

use ipnet::IpNet;
use redirect_common::facts::Transport;
use redirect_user::config::RedirectConfig;

use super::Family;

/// The jump, then the rules it is to: those of TCP before those of UDP. Nothing if nothing of this
/// family is captured.
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

/// The rule that redirects queries to a resolver, or to any, after its chain.
pub(super) fn dns_redirect(transport: Transport, server: Option<IpAddr>) -> String {
    // That the two are spelled differently is Istio's way.
    let (protocol, to) = match transport {
        Transport::Tcp => ("tcp", "ports"),
        Transport::Udp => ("udp", "port"),
    };
    let server = matching("-d", server);
    format!("ISTIO_OUTPUT_DNS -p {protocol} --dport 53{server} -j REDIRECT --to-{to} 15053")
}

/// Which zone a datagram's connection is kept in: 2 for those between the application and the mesh,
/// 1 for those of the mesh.
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

/// The captured resolvers of a family; one that is none stands for all.
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

/// The match of an address, with the blank before it; nothing for any.
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
    fn every_resolver_has_its_rules_in_its_family() {
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
