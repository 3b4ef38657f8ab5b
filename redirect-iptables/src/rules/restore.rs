//! The text for `iptables-restore` and `ip6tables-restore`, equal byte for byte to the text of `istio-iptables` for the
//! supported options.

use redirect_user::config::{InboundMode, InboundPorts, RedirectConfig};

use super::{Family, dns, interfaces, step::steps, tproxy};

/// Renders the rules of one family. Ranges of ports are complete: `8000:` is `8000:65535`.
pub fn restore(config: &RedirectConfig, family: Family) -> String {
    let mut text = tproxy::mangle(config, family);
    text.push_str(&table("nat", &nat(config, family)));
    if config.dns.is_on() {
        text.push_str(&table("raw", &dns::raw(config, family)));
    }
    text
}

/// One table: its new chains, in the order of their first rules, and the rules.
fn table(name: &str, rules: &[String]) -> String {
    let mut chains = Vec::new();
    for rule in rules {
        let (chain, _) = rule.split_once(' ').unwrap_or((rule, ""));
        if chain.starts_with("ISTIO_") && !chains.contains(&chain) {
            chains.push(chain);
        }
    }
    let chains = chains.iter().map(|chain| format!("-N {chain}\n"));
    let rules = rules.iter().map(|rule| format!("-A {rule}\n"));
    let lines: String = chains.chain(rules).collect();
    format!("* {name}\n{lines}COMMIT\n")
}

fn nat(config: &RedirectConfig, family: Family) -> Vec<String> {
    let RedirectConfig {
        out_port,
        in_port,
        tunnel_port,
        ..
    } = config;
    let mut rules: Vec<_> = interfaces::of_both_rules(config).collect();
    rules.extend([
        format!("ISTIO_INBOUND -p tcp --dport {tunnel_port} -j RETURN"),
        format!("ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {out_port}"),
        format!("ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {in_port}"),
    ]);
    rules.extend(inbound(config));
    rules.push("OUTPUT -j ISTIO_OUTPUT".to_owned());
    let steps = steps(config);
    rules.extend(steps.iter().flat_map(|step| step.rules(config, family)));
    rules
}

/// The rules of `-b` and `-d`; none without `-b`, or with TPROXY, whose rules are in table mangle.
fn inbound(config: &RedirectConfig) -> Vec<String> {
    let inbound = &config.inbound;
    if inbound.is_none() || inbound.mode == InboundMode::Tproxy {
        return Vec::new();
    }
    let mut rules = vec!["PREROUTING -p tcp -j ISTIO_INBOUND".to_owned()];
    match &inbound.include_ports {
        InboundPorts::Any => {
            let excluded = inbound.exclude_ports.iter();
            rules.extend(
                excluded.map(|port| format!("ISTIO_INBOUND -p tcp --dport {port} -j RETURN")),
            );
            rules.push("ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT".to_owned());
        }
        // The excluded ports count only with `*`.
        InboundPorts::List(ports) => rules.extend(
            ports
                .iter()
                .map(|port| format!("ISTIO_INBOUND -p tcp --dport {port} -j ISTIO_IN_REDIRECT")),
        ),
    }
    rules
}

#[cfg(test)]
mod tests {
    use redirect_user::config::{Inbound, PortRange};

    use super::*;

    #[test]
    fn excluded_inbound_ports_count_only_with_the_wildcard() {
        let text = |include_ports| {
            let inbound = Inbound {
                include_ports,
                exclude_ports: vec![PortRange::single(15020)],
                ..Inbound::default()
            };
            let config = RedirectConfig {
                inbound,
                ..RedirectConfig::default()
            };
            restore(&config, Family::V4)
        };
        assert!(text(InboundPorts::Any).contains("15020"));
        let listed = text(InboundPorts::List(vec![PortRange::single(80)]));
        assert!(!listed.contains("15020") && listed.contains("PREROUTING"));
        assert!(!text(InboundPorts::default()).contains("PREROUTING"));
    }
}
