// SPDX-License-Identifier: MIT OR Apache-2.0
//! Istio's NAT rules, as istio-init writes them and in its order, to compare ours with. DNS capture and TPROXY are
//! left out.

use ipnet::IpNet;

use super::backend::Family;
use crate::identity::PROXY_ID;

/// The destinations to redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Include {
    /// `*`: all destinations.
    All,
    /// These prefixes, of either family. An empty list redirects nothing.
    Only(Vec<IpNet>),
}

/// The owner groups to redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerGroups {
    /// `*`: all groups, except these.
    AllExcept(Vec<u32>),
    /// Only these groups.
    Only(Vec<u32>),
}

/// The settings of Istio's NAT rules. The default is a sidecar's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IstioRules {
    /// The proxy's uids.
    pub uids: Vec<u32>,
    /// The proxy's gids.
    pub gids: Vec<u32>,
    /// The port that outbound connections are redirected to.
    pub outbound_port: u16,
    /// The port that inbound connections are redirected to, and the proxy's own connections to the pod.
    pub inbound_port: u16,
    /// The HBONE port, which the proxy may reach directly.
    pub tunnel_port: u16,
    /// Destination ports not to redirect.
    pub exclude_ports: Vec<u16>,
    /// Destination ports to redirect for any address.
    pub include_ports: Vec<u16>,
    /// Destination prefixes not to redirect.
    pub exclude_cidrs: Vec<IpNet>,
    /// Destination prefixes to redirect.
    pub include: Include,
    /// The owner groups to redirect.
    pub owner_groups: OwnerGroups,
    /// Interfaces whose traffic is left alone.
    pub exclude_interfaces: Vec<String>,
    /// Inbound ports not to redirect; `None` redirects no inbound connections.
    pub inbound_except: Option<Vec<u16>>,
}

impl Default for IstioRules {
    fn default() -> Self {
        Self {
            uids: vec![PROXY_ID],
            gids: vec![PROXY_ID],
            outbound_port: 15001,
            inbound_port: 15006,
            tunnel_port: 15008,
            exclude_ports: Vec::new(),
            include_ports: Vec::new(),
            exclude_cidrs: Vec::new(),
            include: Include::All,
            owner_groups: OwnerGroups::AllExcept(Vec::new()),
            exclude_interfaces: Vec::new(),
            inbound_except: Some(vec![15090, 15021, 15020]),
        }
    }
}

impl IstioRules {
    /// The rules as the input of `iptables-restore` or `ip6tables-restore`.
    pub fn text(&self, family: Family) -> String {
        let mut lines = vec!["*nat".to_owned()];
        for chain in [
            "ISTIO_INBOUND",
            "ISTIO_OUTPUT",
            "ISTIO_REDIRECT",
            "ISTIO_IN_REDIRECT",
        ] {
            lines.push(format!(":{chain} - [0:0]"));
        }
        lines.push(format!(
            "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {}",
            self.outbound_port
        ));
        lines.push(format!(
            "-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {}",
            self.inbound_port
        ));
        self.jumps(&mut lines);
        self.inbound(&mut lines);
        lines.extend(
            self.output(family)
                .into_iter()
                .map(|rule| format!("-A ISTIO_OUTPUT {rule}")),
        );
        lines.push("COMMIT\n".to_owned());
        lines.join("\n")
    }

    fn jumps(&self, lines: &mut Vec<String>) {
        for interface in &self.exclude_interfaces {
            lines.push(format!("-A OUTPUT -o {interface} -j RETURN"));
            lines.push(format!("-A PREROUTING -i {interface} -j RETURN"));
        }
        lines.push("-A OUTPUT -j ISTIO_OUTPUT".to_owned());
        if self.inbound_except.is_some() {
            lines.push("-A PREROUTING -p tcp -j ISTIO_INBOUND".to_owned());
        }
    }

    fn inbound(&self, lines: &mut Vec<String>) {
        let Some(except) = &self.inbound_except else {
            return;
        };
        for port in [self.tunnel_port].iter().chain(except) {
            lines.push(format!("-A ISTIO_INBOUND -p tcp --dport {port} -j RETURN"));
        }
        lines.push("-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT".to_owned());
    }

    /// The rules of `ISTIO_OUTPUT`, of which the first match wins: excluded ports, 127.0.0.6, the proxy by uid, the
    /// proxy by gid, owner groups, loopback, excluded prefixes, included ports, included prefixes.
    fn output(&self, family: Family) -> Vec<String> {
        let (passthrough, loopback) = match family {
            Family::V4 => ("127.0.0.6/32", "127.0.0.1/32"),
            Family::V6 => ("::6/128", "::1/128"),
        };
        let mut rules = Vec::new();
        for port in &self.exclude_ports {
            rules.push(format!("-p tcp --dport {port} -j RETURN"));
            rules.push(format!("-p udp --dport {port} -j RETURN"));
        }
        rules.push(format!("-o lo -s {passthrough} -j RETURN"));
        for uid in &self.uids {
            self.owner(&format!("--uid-owner {uid}"), loopback, &mut rules);
        }
        for gid in &self.gids {
            self.owner(&format!("--gid-owner {gid}"), loopback, &mut rules);
        }
        self.groups(&mut rules);
        rules.push(format!("-d {loopback} -j RETURN"));
        for cidr in of_family(&self.exclude_cidrs, family) {
            rules.push(format!("-d {cidr} -j RETURN"));
        }
        for port in &self.include_ports {
            rules.push(format!("-p tcp --dport {port} -j ISTIO_REDIRECT"));
        }
        match &self.include {
            Include::All => rules.push("-j ISTIO_REDIRECT".to_owned()),
            Include::Only(cidrs) => {
                rules.extend(
                    of_family(cidrs, family).map(|cidr| format!("-d {cidr} -j ISTIO_REDIRECT")),
                );
            }
        }
        rules
    }

    /// The rules of one uid or gid of the proxy: its calls to the pod itself are inbound, its others pass.
    fn owner(&self, owner: &str, loopback: &str, rules: &mut Vec<String>) {
        rules.push(format!(
            "-o lo ! -d {loopback} -p tcp ! --dport {} -m owner {owner} -j ISTIO_IN_REDIRECT",
            self.tunnel_port
        ));
        if !self.includes_loopback() {
            rules.push(format!("-o lo -m owner ! {owner} -j RETURN"));
        }
        rules.push(format!("-m owner {owner} -j RETURN"));
    }

    fn groups(&self, rules: &mut Vec<String>) {
        match &self.owner_groups {
            OwnerGroups::AllExcept(groups) => {
                rules.extend(
                    groups
                        .iter()
                        .map(|gid| format!("-m owner --gid-owner {gid} -j RETURN")),
                );
            }
            OwnerGroups::Only(groups) => {
                let mut words: Vec<String> = groups
                    .iter()
                    .map(|gid| format!("-m owner ! --gid-owner {gid}"))
                    .collect();
                words.push("-j RETURN".to_owned());
                rules.push(words.join(" "));
            }
        }
    }

    /// Whether an included prefix of either family is a loopback address. Istio then drops the rule that lets the
    /// application call itself.
    fn includes_loopback(&self) -> bool {
        match &self.include {
            Include::All => false,
            Include::Only(cidrs) => cidrs.iter().any(|cidr| cidr.addr().is_loopback()),
        }
    }
}

fn of_family(cidrs: &[IpNet], family: Family) -> impl Iterator<Item = &IpNet> {
    cidrs.iter().filter(move |cidr| match cidr {
        IpNet::V4(_) => family == Family::V4,
        IpNet::V6(_) => family == Family::V6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_nine_rules_and_an_excluded_prefix_makes_the_tenth_before_the_last() {
        let mut rules = IstioRules::default();
        assert_eq!(rules.output(Family::V4).len(), 9);
        rules.exclude_cidrs = vec!["36.152.44.0/24".parse().unwrap()];
        let ten = rules.output(Family::V4);
        assert_eq!(
            ten[8..],
            ["-d 36.152.44.0/24 -j RETURN", "-j ISTIO_REDIRECT"]
        );
        assert_eq!(rules.output(Family::V6).len(), 9);
    }

    #[test]
    fn an_included_loopback_prefix_drops_the_rules_that_spare_local_calls() {
        let include = Include::Only(vec!["127.0.0.0/8".parse().unwrap()]);
        let rules = IstioRules {
            include,
            ..IstioRules::default()
        };
        for family in [Family::V4, Family::V6] {
            assert!(!rules.text(family).contains("-m owner ! --uid-owner"));
        }
    }
}
