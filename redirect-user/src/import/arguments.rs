//! A configuration as options, in the letters of `istio-iptables`.

use std::fmt::Display;

use crate::config::{
    DEFAULT_LOOPBACK4, InboundMode, InboundPorts, Include, OwnerGroups, RedirectConfig,
};

/// The options, each with its value: all numbers, so that no variable of the environment counts,
/// and what is not the default.
pub fn arguments(config: &RedirectConfig) -> Vec<String> {
    let RedirectConfig {
        out_port,
        in_port,
        tunnel_port,
        proxy_uids,
        proxy_gids,
        owner_groups,
        owner_groups_exclude,
        include,
        exclude,
        include_ports,
        exclude_ports,
        loopback4,
        dns,
        inbound,
    } = config;
    let mut words = Vec::new();
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    option("-p", out_port.to_string());
    option("-z", in_port.to_string());
    option("-e", tunnel_port.to_string());
    option("-u", proxy_uids.to_string());
    option("-g", proxy_gids.to_string());
    match include {
        Include::Any => option("-i", "*".to_owned()),
        Include::Cidrs(nets) => option("-i", list(nets)),
    }
    match &inbound.include_ports {
        InboundPorts::Any => option("-b", "*".to_owned()),
        InboundPorts::List(ports) => option("-b", list(ports)),
    }
    if inbound.mode == InboundMode::Tproxy {
        option("-m", "TPROXY".to_owned());
    }
    if *loopback4 != DEFAULT_LOOPBACK4 {
        option("--host-ipv4-loopback-cidr", loopback4.to_string());
    }
    match owner_groups {
        OwnerGroups::Any => {}
        OwnerGroups::List(groups) => option("--outbound-owner-groups", list(groups)),
    }
    for (name, value) in [
        ("-x", list(exclude)),
        ("-d", list(&inbound.exclude_ports)),
        ("-q", list(include_ports)),
        ("-o", list(exclude_ports)),
        (
            "--outbound-owner-groups-exclude",
            list(owner_groups_exclude),
        ),
        ("--dns-servers", list(&dns.servers)),
    ] {
        if !value.is_empty() {
            option(name, value);
        }
    }
    for (name, is_on) in [
        ("--redirect-dns", dns.redirect),
        ("--capture-all-dns", dns.capture_all),
    ] {
        if is_on {
            words.push(name.to_owned());
        }
    }
    words
}

fn list<T: Display>(elements: &[T]) -> String {
    let texts: Vec<_> = elements.iter().map(ToString::to_string).collect();
    texts.join(",")
}
