//! The rule table of a configuration, with its values, comparable to the list of `iptables -vnL`.

use redirect_common::chain::RuleId;
use redirect_user::config::{InboundMode, InboundPorts, PortRange, RedirectConfig};

use super::{Family, interfaces, step::steps};

/// A rule of the table, and its iptables rules for one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRule {
    /// The rule.
    pub id: RuleId,
    /// The iptables rules; none if the configuration has no value for the rule.
    pub lines: Vec<TableLine>,
}

/// An iptables rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLine {
    /// The families that have the rule.
    pub families: Vec<Family>,
    /// The rule in the form of `iptables-save`, or a text in brackets in its place.
    pub text: String,
}

/// The rules of a configuration for these families, in the order of the decision.
pub fn table(config: &RedirectConfig, families: &[Family]) -> Vec<TableRule> {
    let mut rules = vec![
        without_iptables_rule(RuleId::NotUnicast, families),
        interface_rule(RuleId::InterfaceExcluded, config, families),
    ];
    for step in steps(config) {
        let of = |family: Family| -> Vec<String> {
            let lines = step.rules(config, family);
            lines.into_iter().map(|rule| format!("-A {rule}")).collect()
        };
        let of_each: Vec<_> = families.iter().map(|&family| of(family)).collect();
        // Rules that are the same for all families are listed once.
        let lines = match of_each.as_slice() {
            [first, rest @ ..] if rest.iter().all(|other| other == first) => {
                lines_of(first, families)
            }
            of_each => families
                .iter()
                .zip(of_each)
                .flat_map(|(&family, texts)| lines_of(texts, &[family]))
                .collect(),
        };
        rules.push(TableRule { id: step.id, lines });
    }
    rules.push(without_iptables_rule(RuleId::Default, families));
    rules.extend(inbound(config, families));
    rules
}

/// The rules of inbound connections; none without `-b`.
fn inbound(config: &RedirectConfig, families: &[Family]) -> Vec<TableRule> {
    let inbound = &config.inbound;
    if inbound.is_none() {
        return Vec::new();
    }
    let is_tproxy = inbound.mode == InboundMode::Tproxy;
    let of = |id: RuleId, values: &[String]| {
        let text = |value: &String| {
            let words = id.iptables().split(' ').map(|word| match word {
                "P" | "15008" => value,
                "ISTIO_IN_REDIRECT" if is_tproxy => "ISTIO_TPROXY",
                other => other,
            });
            let words: Vec<_> = words.collect();
            format!("-A ISTIO_INBOUND {}", words.join(" "))
        };
        let texts: Vec<_> = values.iter().map(text).collect();
        let lines = lines_of(&texts, families);
        TableRule { id, lines }
    };
    let ports = |ports: &[PortRange]| ports.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut rules = vec![
        without_iptables_rule(RuleId::InLooped, families),
        interface_rule(RuleId::InInterfaceExcluded, config, families),
    ];
    if !is_tproxy {
        rules.push(of(RuleId::InTunnel, &[config.tunnel_port.to_string()]));
    }
    match &inbound.include_ports {
        InboundPorts::Any => {
            rules.push(of(RuleId::InPortExcluded, &ports(&inbound.exclude_ports)));
            rules.push(of(RuleId::InAnyIncluded, &[String::new()]));
        }
        InboundPorts::List(included) => {
            rules.push(of(RuleId::InPortIncluded, &ports(included)));
        }
    }
    rules.push(without_iptables_rule(RuleId::InDefault, families));
    rules
}

/// The one rule of IPv6 in a pod whose IPv6 is left alone.
pub fn ipv6_off() -> TableRule {
    without_iptables_rule(RuleId::Ipv6Off, &[Family::V6])
}

/// One of the two rules of excluded interfaces.
fn interface_rule(id: RuleId, config: &RedirectConfig, families: &[Family]) -> TableRule {
    let rules = interfaces::of_rule(id, config);
    let texts: Vec<_> = rules.iter().map(|rule| format!("-A {rule}")).collect();
    TableRule {
        id,
        lines: lines_of(&texts, families),
    }
}

/// A rule of the table without an iptables rule.
fn without_iptables_rule(id: RuleId, families: &[Family]) -> TableRule {
    TableRule {
        id,
        lines: lines_of(&[id.iptables().to_owned()], families),
    }
}

fn lines_of(texts: &[String], families: &[Family]) -> Vec<TableLine> {
    let line = |text: &String| TableLine {
        families: families.to_vec(),
        text: text.clone(),
    };
    texts.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use redirect_user::config::{Inbound, Include};

    use super::*;

    #[test]
    fn inbound_rules_follow_in_the_order_of_the_decision() {
        let listed = |mode, include_ports| {
            let inbound = Inbound {
                mode,
                include_ports,
                exclude_ports: vec![PortRange::single(15020)],
            };
            let config = RedirectConfig {
                inbound,
                ..RedirectConfig::default()
            };
            let rules = table(&config, &Family::ALL).into_iter();
            let inbound = rules.filter(|rule| rule.id.is_inbound());
            inbound
                .flat_map(|rule| rule.lines)
                .map(|line| line.text)
                .filter(|text| !text.starts_with('('))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            listed(InboundMode::Redirect, InboundPorts::Any),
            [
                "-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN",
                "-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN",
                "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT",
            ]
        );
        let list = InboundPorts::List(vec![PortRange::single(80)]);
        assert_eq!(
            listed(InboundMode::Tproxy, list),
            ["-A ISTIO_INBOUND -p tcp --dport 80 -j ISTIO_TPROXY"]
        );
        assert!(listed(InboundMode::Redirect, InboundPorts::default()).is_empty());
    }

    #[test]
    fn a_rule_of_both_families_is_listed_once() {
        let config = RedirectConfig {
            include: Include::Any,
            exclude: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            ..RedirectConfig::default()
        };
        let listed = table(&config, &Family::ALL);
        let lines = |id| {
            let rule = listed.iter().find(|rule| rule.id == id).unwrap();
            rule.lines
                .iter()
                .map(|line| (line.families.as_slice(), line.text.as_str()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            lines(RuleId::AnyIncluded),
            [(&Family::ALL[..], "-A ISTIO_OUTPUT -j ISTIO_REDIRECT")]
        );
        assert_eq!(
            lines(RuleId::CidrExcluded),
            [
                (&[Family::V4][..], "-A ISTIO_OUTPUT -d 10.0.0.0/8 -j RETURN"),
                (&[Family::V6][..], "-A ISTIO_OUTPUT -d fd00::/8 -j RETURN"),
            ]
        );
        assert_eq!(lines(RuleId::PortExcluded), []);
        assert_eq!(lines(RuleId::Default).len(), 1);
    }
}
