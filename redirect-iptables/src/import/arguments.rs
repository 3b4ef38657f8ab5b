//! A configuration as options, in the letters of `istio-iptables`.

use std::fmt::Display;

use redirect_user::config::{
    DEFAULT_LOOPBACK4, InboundMode, InboundPorts, Include, OwnerGroups, RedirectConfig,
};

/// The options, each followed by its value: all that are single numbers or ids, and those lists and
/// switches that are not the default.
pub fn arguments(config: &RedirectConfig) -> Vec<String> {
    let mut options = vec![
        ("-p", config.out_port.to_string()),
        ("-z", config.in_port.to_string()),
        ("-e", config.tunnel_port.to_string()),
        ("-u", config.proxy_uids.to_string()),
        ("-g", config.proxy_gids.to_string()),
    ];
    let lists = lists(config).into_iter();
    options.extend(lists.filter(|(_, value)| !value.is_empty()));
    if let OwnerGroups::List(groups) = &config.owner_groups {
        // An empty list is a value: nobody is redirected.
        options.push(("--outbound-owner-groups", list(groups)));
    }
    let switches = [
        ("--redirect-dns", config.dns.redirect),
        ("--capture-all-dns", config.dns.capture_all),
        ("--dual-stack", config.dual_stack),
    ];
    let switches = switches.into_iter().filter(|(_, is_on)| *is_on);
    options
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .chain(switches.map(|(name, _)| name.to_owned()))
        .collect()
}

/// The options that are left out if their value is empty.
fn lists(config: &RedirectConfig) -> [(&'static str, String); 11] {
    let include = match &config.include {
        Include::Any => "*".to_owned(),
        Include::Cidrs(nets) => list(nets),
    };
    let inbound = &config.inbound;
    let inbound_ports = match &inbound.include_ports {
        InboundPorts::Any => "*".to_owned(),
        InboundPorts::List(ports) => list(ports),
    };
    let is_tproxy = inbound.mode == InboundMode::Tproxy;
    let loopback = config.loopback4;
    [
        ("-m", given(is_tproxy, &"TPROXY")),
        ("-i", include),
        ("-x", list(&config.exclude)),
        ("-b", inbound_ports),
        ("-d", list(&inbound.exclude_ports)),
        ("-c", list(&config.exclude_interfaces)),
        ("-q", list(&config.include_ports)),
        ("-o", list(&config.exclude_ports)),
        (
            "--outbound-owner-groups-exclude",
            list(&config.owner_groups_exclude),
        ),
        (
            "--host-ipv4-loopback-cidr",
            given(loopback != DEFAULT_LOOPBACK4, &loopback),
        ),
        ("--dns-servers", list(&config.dns.servers)),
    ]
}

/// A value, if the option is needed.
fn given(is_needed: bool, value: &impl Display) -> String {
    if is_needed {
        value.to_string()
    } else {
        String::new()
    }
}

fn list<T: Display>(elements: &[T]) -> String {
    let texts: Vec<_> = elements.iter().map(ToString::to_string).collect();
    texts.join(",")
}
