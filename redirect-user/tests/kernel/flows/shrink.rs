//! Shrinking: the search for the smallest case that still differs.

use anyhow::Result;
use ipnet::IpNet;
use redirect_testkit::{Flow, FlowKind, Side};
use redirect_user::config::{InboundPorts, Include, OwnerGroups, ProxyIds, RedirectConfig};

use super::{comparison::Difference, generate::has_resolver, runner::Runner};
use crate::harness::{ELSEWHERE_V4, ELSEWHERE_V6, at};

/// The number of smaller cases that are tried.
const TRIES: usize = 300;

/// Removes and simplifies every part of a case, as long as a difference stays.
pub(super) fn smallest(runner: &Runner, mut found: Difference) -> Result<Difference> {
    let mut tries = 0;
    'smaller: loop {
        for (config, flow) in smaller(&found) {
            tries += 1;
            if tries > TRIES {
                return Ok(found);
            }
            if let Some(still) = runner.compare(&config, &[flow])?.difference {
                found = still;
                continue 'smaller;
            }
        }
        return Ok(found);
    }
}

/// Lists the cases that are one step smaller.
fn smaller(of: &Difference) -> Vec<(RedirectConfig, Flow)> {
    let configs = smaller_configs(&of.config)
        .into_iter()
        .map(|config| (config, of.flow));
    let flows = smaller_flows(&of.flow)
        .into_iter()
        .map(|flow| (of.config.clone(), flow));
    configs.chain(flows).collect()
}

fn smaller_configs(config: &RedirectConfig) -> Vec<RedirectConfig> {
    let mut smaller = with_defaults(config);
    let mut add = |change: &dyn Fn(&mut RedirectConfig)| {
        let mut one = config.clone();
        change(&mut one);
        smaller.push(one);
    };
    for exclude in each_left_out(&config.exclude) {
        add(&|one| one.exclude.clone_from(&exclude));
    }
    for ports in each_left_out(&config.include_ports) {
        add(&|one| one.include_ports.clone_from(&ports));
    }
    for ports in each_left_out(&config.exclude_ports) {
        add(&|one| one.exclude_ports.clone_from(&ports));
    }
    for groups in each_left_out(&config.owner_groups_exclude) {
        add(&|one| one.owner_groups_exclude.clone_from(&groups));
    }
    if let OwnerGroups::List(groups) = &config.owner_groups {
        for groups in each_left_out(groups) {
            add(&|one| one.owner_groups = OwnerGroups::List(groups.clone()));
        }
    }
    if let Include::Cidrs(nets) = &config.include {
        for nets in each_left_out::<IpNet>(nets) {
            add(&|one| one.include = Include::Cidrs(nets.clone()));
        }
    }
    for ids in each_left_out(config.proxy_uids.as_slice()) {
        if let Some(ids) = ProxyIds::new(ids) {
            add(&|one| one.proxy_uids = ids.clone());
        }
    }
    for ids in each_left_out(config.proxy_gids.as_slice()) {
        if let Some(ids) = ProxyIds::new(ids) {
            add(&|one| one.proxy_gids = ids.clone());
        }
    }
    for servers in each_left_out(&config.dns.servers) {
        add(&|one| one.dns.servers.clone_from(&servers));
    }
    for ports in each_left_out(&config.inbound.exclude_ports) {
        add(&|one| one.inbound.exclude_ports.clone_from(&ports));
    }
    if let InboundPorts::List(ports) = &config.inbound.include_ports {
        for ports in each_left_out(ports) {
            add(&|one| one.inbound.include_ports = InboundPorts::List(ports.clone()));
        }
    }
    smaller.retain(|one| one != config && has_resolver(one));
    smaller
}

/// Lists the configurations with one setting, which is not a list, at its default.
fn with_defaults(config: &RedirectConfig) -> Vec<RedirectConfig> {
    let default = RedirectConfig::default();
    vec![
        RedirectConfig {
            out_port: default.out_port,
            in_port: default.in_port,
            tunnel_port: default.tunnel_port,
            ..config.clone()
        },
        RedirectConfig {
            loopback4: default.loopback4,
            ..config.clone()
        },
        RedirectConfig {
            inbound: default.inbound,
            ..config.clone()
        },
        RedirectConfig {
            dns: default.dns,
            ..config.clone()
        },
        RedirectConfig {
            dual_stack: true,
            ..config.clone()
        },
        RedirectConfig {
            owner_groups: OwnerGroups::Any,
            ..config.clone()
        },
        RedirectConfig {
            proxy_uids: default.proxy_uids,
            ..config.clone()
        },
        RedirectConfig {
            proxy_gids: default.proxy_gids,
            ..config.clone()
        },
    ]
}

/// Makes the list without its first element, without its second, and so on.
fn each_left_out<T: Clone>(list: &[T]) -> Vec<Vec<T>> {
    (0..list.len())
        .map(|index| {
            let mut rest = list.to_vec();
            rest.remove(index);
            rest
        })
        .collect()
}

fn smaller_flows(flow: &Flow) -> Vec<Flow> {
    let usual = match (flow.client, flow.to.is_ipv4()) {
        (Side::Pod, true) => ELSEWHERE_V4,
        (Side::Pod, false) => ELSEWHERE_V6,
        (Side::World, true) => "10.77.0.2",
        (Side::World, false) => "fd00:77::2",
    };
    let mut smaller = vec![
        Flow {
            from: None,
            ..*flow
        },
        Flow {
            mapped: false,
            ..*flow
        },
        Flow {
            kind: FlowKind::Connection,
            ..*flow
        },
        Flow { uid: 1000, ..*flow },
        Flow { gid: 1000, ..*flow },
        Flow {
            to: at(usual, flow.to.port()),
            ..*flow
        },
    ];
    let mut to = flow.to;
    to.set_port(if flow.kind == FlowKind::Connection {
        80
    } else {
        53
    });
    smaller.push(Flow { to, ..*flow });
    smaller.retain(|one| one != flow);
    smaller
}
