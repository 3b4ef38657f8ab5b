//! `ISTIO_OUTPUT` for a configuration, step by step.
//!
//! Never sort, merge or drop rules: order and repetition are those of `istio-iptables`.

use std::iter;

use ipnet::IpNet;
use redirect_common::chain::RuleId;
use redirect_user::config::{Include, OwnerGroups, PortRange, RedirectConfig};

use super::{Family, dns};

/// One rule of the table, with the values for which it is repeated.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) id: RuleId,
    values: Values,
}

/// The values of a rule's placeholder `P`, `U`, `G` or `C`.
#[derive(Clone, Debug)]
enum Values {
    /// The rule has no placeholder.
    None,
    /// One rule for each port.
    Ports(Vec<PortRange>),
    /// A user or group.
    Owner(u32),
    /// One rule for each range of its family.
    Nets(Vec<IpNet>),
    /// Complete rules.
    Whole(Vec<String>),
}

/// The rules of the proxy's first user, and of each later one. The rule for other users on `lo` is one rule of the table,
/// because it can match for the first user only; Istio writes it for each user.
const USERS: [[RuleId; 3]; 2] = [
    [RuleId::UidToSelf, RuleId::AppLoUid, RuleId::Uid],
    [RuleId::UidToSelfLater, RuleId::AppLoUid, RuleId::UidLater],
];

/// The rules of the proxy's first group, and of each later one.
const GROUPS: [[RuleId; 3]; 2] = [
    [RuleId::GidToSelf, RuleId::AppLoGid, RuleId::Gid],
    [RuleId::GidToSelfLater, RuleId::AppLoGid, RuleId::GidLater],
];

/// The steps of a configuration, in order.
pub(super) fn steps(config: &RedirectConfig) -> Vec<Step> {
    let mut steps = vec![
        ports(RuleId::PortExcluded, &config.exclude_ports),
        step(RuleId::Passthrough, Values::None),
    ];
    let leaves_local_alone = !config.include.has_loopback();
    let each = |[first, later]: [[RuleId; 3]; 2]| iter::once(first).chain(iter::repeat(later));
    let users = config.proxy_uids.as_slice().iter().zip(each(USERS));
    let groups = config.proxy_gids.as_slice().iter().zip(each(GROUPS));
    for (&owner, [to_self, app_lo, direct]) in users.chain(groups) {
        steps.push(step(to_self, Values::Owner(owner)));
        // Istio leaves this rule out if any range, of either family, was written with a loopback
        // address.
        if leaves_local_alone {
            steps.push(step(app_lo, Values::Owner(owner)));
        }
        steps.push(step(direct, Values::Owner(owner)));
    }
    steps.push(step(
        RuleId::GroupExcluded,
        Values::Whole(owner_groups(config)),
    ));
    if config.dns.is_on() {
        steps.push(step(RuleId::Dns, Values::None));
    }
    steps.push(step(RuleId::Loopback, Values::None));
    steps.push(nets(RuleId::CidrExcluded, &config.exclude));
    steps.push(ports(RuleId::PortIncluded, &config.include_ports));
    steps.push(match &config.include {
        Include::Any => step(RuleId::AnyIncluded, Values::None),
        Include::Cidrs(included) => nets(RuleId::CidrIncluded, included),
    });
    steps
}

/// The rules for owner groups: one rule for each excluded group, or one rule for all groups that are not listed. With
/// an empty list the one rule matches every owner.
fn owner_groups(config: &RedirectConfig) -> Vec<String> {
    match &config.owner_groups {
        OwnerGroups::Any => config
            .owner_groups_exclude
            .iter()
            .map(|group| format!("-m owner --gid-owner {group} -j RETURN"))
            .collect(),
        OwnerGroups::List(groups) => {
            let others = groups
                .iter()
                .map(|group| format!("-m owner ! --gid-owner {group}"));
            let words: Vec<_> = others.chain(["-j RETURN".to_owned()]).collect();
            vec![words.join(" ")]
        }
    }
}

const fn step(id: RuleId, values: Values) -> Step {
    Step { id, values }
}

fn ports(id: RuleId, ports: &[PortRange]) -> Step {
    step(id, Values::Ports(ports.to_vec()))
}

fn nets(id: RuleId, nets: &[IpNet]) -> Step {
    step(id, Values::Nets(nets.to_vec()))
}

impl Step {
    /// The rules of one family, each after its chain.
    pub(super) fn rules(&self, config: &RedirectConfig, family: Family) -> Vec<String> {
        if self.id == RuleId::Dns {
            return dns::nat(config, family);
        }
        let rules = self.in_chain(config, family);
        let chain = self.id.chain();
        rules.iter().map(|rule| format!("{chain} {rule}")).collect()
    }

    fn in_chain(&self, config: &RedirectConfig, family: Family) -> Vec<String> {
        let fill = |value: &str| fill(self.id, config, family, value);
        match &self.values {
            Values::None => vec![fill("")],
            Values::Owner(owner) => vec![fill(&owner.to_string())],
            Values::Whole(rules) => rules.clone(),
            Values::Nets(nets) => nets
                .iter()
                .filter(|net| family.has(net))
                .map(|net| fill(&net.to_string()))
                .collect(),
            Values::Ports(ports) => ports
                .iter()
                .flat_map(|port| {
                    let tcp = fill(&port.to_string());
                    // Only the excluded ports have a second rule, for UDP, because datagrams meet the chain, too.
                    let udp = (self.id == RuleId::PortExcluded)
                        .then(|| tcp.replacen("-p tcp", "-p udp", 1));
                    [tcp].into_iter().chain(udp)
                })
                .collect(),
        }
    }
}

/// The words of a rule, with values in place of placeholders and defaults.
fn fill(id: RuleId, config: &RedirectConfig, family: Family, value: &str) -> String {
    let tunnel = config.tunnel_port.to_string();
    let dns_and_tunnel = format!("53,{tunnel}");
    let loopback = family.loopback(config);
    let words = if config.dns.is_on() {
        id.iptables_with_dns()
    } else {
        id.iptables()
    };
    let words = words.split(' ').map(|word| match word {
        word if is_placeholder(word) => value,
        "15008" => &tunnel,
        "53,15008" => &dns_and_tunnel,
        "127.0.0.1/32" => &loopback,
        "127.0.0.6/32" => family.passthrough(),
        other => other,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a word is a placeholder: `P`, `U`, `G` or `C`, or `U2` or `G2` for a later user or group.
fn is_placeholder(word: &str) -> bool {
    let number = word.strip_prefix(['P', 'U', 'G', 'C']);
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use redirect_user::config::ProxyIds;

    use super::*;

    fn config() -> RedirectConfig {
        RedirectConfig {
            proxy_gids: 1338.into(),
            tunnel_port: 25008,
            include: Include::Cidrs(vec![
                "10.0.0.1/8".parse().unwrap(),
                "fd00::/8".parse().unwrap(),
            ]),
            exclude: vec!["36.152.44.0/24".parse().unwrap()],
            include_ports: vec![PortRange::single(80)],
            exclude_ports: vec![PortRange {
                first: 8000,
                last: 9000,
            }],
            ..RedirectConfig::default()
        }
    }

    fn rules(config: &RedirectConfig, family: Family) -> Vec<String> {
        let steps = steps(config);
        steps
            .iter()
            .flat_map(|step| step.in_chain(config, family))
            .collect()
    }

    #[test]
    fn every_value_is_filled_in() {
        assert_eq!(
            rules(&config(), Family::V6),
            [
                "-p tcp --dport 8000:9000 -j RETURN",
                "-p udp --dport 8000:9000 -j RETURN",
                "-o lo -s ::6/128 -j RETURN",
                "-o lo ! -d ::1/128 -p tcp ! --dport 25008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT",
                "-o lo -m owner ! --uid-owner 1337 -j RETURN",
                "-m owner --uid-owner 1337 -j RETURN",
                "-o lo ! -d ::1/128 -p tcp ! --dport 25008 -m owner --gid-owner 1338 -j ISTIO_IN_REDIRECT",
                "-o lo -m owner ! --gid-owner 1338 -j RETURN",
                "-m owner --gid-owner 1338 -j RETURN",
                "-d ::1/128 -j RETURN",
                "-p tcp --dport 80 -j ISTIO_REDIRECT",
                "-d fd00::/8 -j ISTIO_REDIRECT",
            ]
        );
        let v4 = rules(&config(), Family::V4);
        assert!(
            v4.contains(&"-d 10.0.0.1/8 -j ISTIO_REDIRECT".to_owned()),
            "host bits are kept: {v4:?}"
        );
    }

    #[test]
    fn the_order_is_that_of_the_decision() {
        for include in [Include::Any, config().include] {
            let config = RedirectConfig {
                include,
                ..config()
            };
            let order: Vec<_> = steps(&config).iter().map(|step| step.id.index()).collect();
            assert!(order.is_sorted(), "{order:?}");
        }
    }

    #[test]
    fn every_owner_has_three_rules_in_the_given_order() {
        let config = RedirectConfig {
            proxy_uids: ProxyIds::new(vec![4, 3]).unwrap(),
            proxy_gids: ProxyIds::new(vec![1, 2, 1]).unwrap(),
            ..RedirectConfig::default()
        };
        let all = rules(&config, Family::V4);
        let owners = [
            "uid-owner 4",
            "uid-owner 3",
            "gid-owner 1",
            "gid-owner 2",
            "gid-owner 1",
        ];
        let expected = owners.iter().flat_map(|owner| {
            [
                format!("-o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --{owner} -j ISTIO_IN_REDIRECT"),
                format!("-o lo -m owner ! --{owner} -j RETURN"),
                format!("-m owner --{owner} -j RETURN"),
            ]
        });
        assert_eq!(all[1..16], expected.collect::<Vec<_>>());
    }

    #[test]
    fn owner_groups_are_written_as_in_istio() {
        let with = |owner_groups, owner_groups_exclude| RedirectConfig {
            owner_groups,
            owner_groups_exclude,
            ..RedirectConfig::default()
        };
        let cases = [
            (with(OwnerGroups::Any, vec![]), vec![]),
            (
                with(OwnerGroups::Any, vec![888, 21]),
                vec![
                    "-m owner --gid-owner 888 -j RETURN",
                    "-m owner --gid-owner 21 -j RETURN",
                ],
            ),
            (
                with(OwnerGroups::List(vec![3000, 202]), vec![]),
                vec!["-m owner ! --gid-owner 3000 -m owner ! --gid-owner 202 -j RETURN"],
            ),
            (with(OwnerGroups::List(vec![]), vec![]), vec!["-j RETURN"]),
        ];
        for (config, expected) in cases {
            assert_eq!(owner_groups(&config), expected);
        }
    }

    #[test]
    fn a_loopback_range_of_one_family_changes_both() {
        let config = RedirectConfig {
            include: Include::Cidrs(vec!["::1/128".parse().unwrap()]),
            ..RedirectConfig::default()
        };
        for family in Family::ALL {
            assert!(!rules(&config, family).join("\n").contains("owner ! --"));
        }
    }
}
