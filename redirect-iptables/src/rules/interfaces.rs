//! The rules of excluded interfaces, which stand before Istio's own chains.

use redirect_common::chain::RuleId;
use redirect_user::config::RedirectConfig;

/// The iptables rules of one of the two interface rules of the table, one for each interface.
pub(super) fn of_rule(id: RuleId, config: &RedirectConfig) -> Vec<String> {
    let interfaces = config.exclude_interfaces.iter();
    interfaces
        .map(|name| format!("{} {}", id.chain(), id.iptables().replace("NIC", &name.0)))
        .collect()
}

/// The iptables rules of both, interface by interface, as `istio-iptables` writes them.
pub(super) fn of_both_rules(config: &RedirectConfig) -> impl Iterator<Item = String> {
    let inbound = of_rule(RuleId::InInterfaceExcluded, config);
    let outbound = of_rule(RuleId::InterfaceExcluded, config);
    inbound
        .into_iter()
        .zip(outbound)
        .flat_map(|(inbound, outbound)| [inbound, outbound])
}

#[cfg(test)]
mod tests {
    use redirect_user::config::Interface;

    use super::*;

    #[test]
    fn each_interface_has_a_rule_in_each_direction() {
        let config = RedirectConfig {
            exclude_interfaces: ["net1", "veth+"]
                .map(|name| Interface(name.to_owned()))
                .to_vec(),
            ..RedirectConfig::default()
        };
        assert_eq!(
            of_both_rules(&config).collect::<Vec<_>>(),
            [
                "PREROUTING -i net1 -j RETURN",
                "OUTPUT -o net1 -j RETURN",
                "PREROUTING -i veth+ -j RETURN",
                "OUTPUT -o veth+ -j RETURN",
            ]
        );
    }
}
