//! The reverse of parsing: a configuration as the texts of its options, and the options in which
//! two configurations differ.

use std::fmt::Display;

use serde::Serialize;

use super::{
    boolean::bool_text,
    flags::Flags,
    inbound::{InboundMode, InboundPorts},
    option::Opt,
    redirect::{Include, OwnerGroups, RedirectConfig},
};

impl RedirectConfig {
    /// The text of every option that has an effect, including options with their default value.
    /// Resolving the texts again gives the same configuration. `--shadow` is not one of Istio's
    /// options and not among them.
    #[must_use]
    pub fn texts(&self) -> Flags {
        let include = match &self.include {
            Include::Any => "*".to_owned(),
            Include::Cidrs(nets) => list(nets),
        };
        let inbound_ports = match &self.inbound.include_ports {
            InboundPorts::Any => "*".to_owned(),
            InboundPorts::List(ports) => list(ports),
        };
        let owner_groups = match &self.owner_groups {
            OwnerGroups::Any => "*".to_owned(),
            OwnerGroups::List(groups) => list(groups),
        };
        let mode = match self.inbound.mode {
            InboundMode::Redirect => "REDIRECT",
            InboundMode::Tproxy => "TPROXY",
        };
        let switch = |is_on| bool_text(is_on).to_owned();
        Flags::from_iter([
            (Opt::ProxyUid, self.proxy_uids.to_string()),
            (Opt::ProxyGid, self.proxy_gids.to_string()),
            (Opt::Include, include),
            (Opt::Exclude, list(&self.exclude)),
            (Opt::InboundPorts, inbound_ports),
            (Opt::InboundExcludePorts, list(&self.inbound.exclude_ports)),
            (Opt::OutPort, self.out_port.to_string()),
            (Opt::InPort, self.in_port.to_string()),
            (Opt::TunnelPort, self.tunnel_port.to_string()),
            (Opt::Mode, mode.to_owned()),
            (Opt::IncludePorts, list(&self.include_ports)),
            (Opt::ExcludePorts, list(&self.exclude_ports)),
            (Opt::ExcludeInterfaces, list(&self.exclude_interfaces)),
            (Opt::OwnerGroups, owner_groups),
            (Opt::OwnerGroupsExclude, list(&self.owner_groups_exclude)),
            (Opt::LoopbackCidr, self.loopback4.to_string()),
            (Opt::RedirectDns, switch(self.dns.redirect)),
            (Opt::CaptureAllDns, switch(self.dns.capture_all)),
            (Opt::DnsServers, list(&self.dns.servers)),
            (Opt::DualStack, switch(self.dual_stack)),
        ])
    }

    /// The arguments of an init container that give this configuration: all options with a single
    /// number or id, and the lists and switches that differ from the default.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let default = Self::default().texts();
        let texts = self.texts();
        let is_needed = |option: &Opt| {
            let always = [
                Opt::OutPort,
                Opt::InPort,
                Opt::TunnelPort,
                Opt::ProxyUid,
                Opt::ProxyGid,
            ];
            always.contains(option) || texts.get(*option) != default.get(*option)
        };
        ORDER
            .into_iter()
            .filter(is_needed)
            .flat_map(|option| option.words(texts.get(option).unwrap_or_default()))
            .collect()
    }
}

/// The order of an init container's arguments.
const ORDER: [Opt; 20] = [
    Opt::OutPort,
    Opt::InPort,
    Opt::TunnelPort,
    Opt::ProxyUid,
    Opt::ProxyGid,
    Opt::Mode,
    Opt::Include,
    Opt::Exclude,
    Opt::InboundPorts,
    Opt::InboundExcludePorts,
    Opt::ExcludeInterfaces,
    Opt::IncludePorts,
    Opt::ExcludePorts,
    Opt::OwnerGroupsExclude,
    Opt::LoopbackCidr,
    Opt::DnsServers,
    Opt::OwnerGroups,
    Opt::RedirectDns,
    Opt::CaptureAllDns,
    Opt::DualStack,
];

/// An option that has different values in two configurations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OptionChange {
    /// The flag of the option: its letter, or else its long name.
    pub option: String,
    /// The value before the change; empty for none.
    pub before: String,
    /// The value after the change; empty for none.
    pub after: String,
}

/// The options in which two configurations differ, in the order of the help, and shadow mode last.
#[must_use]
pub fn changes(before: &RedirectConfig, after: &RedirectConfig) -> Vec<OptionChange> {
    let (old, new) = (before.texts(), after.texts());
    let changed = Opt::ALL.iter().filter_map(|option| {
        let (before, after) = (old.get(*option)?, new.get(*option)?);
        (before != after).then(|| OptionChange {
            option: option.shortest(),
            before: before.to_owned(),
            after: after.to_owned(),
        })
    });
    let shadow = (before.shadow != after.shadow).then(|| OptionChange {
        option: "--shadow".to_owned(),
        before: bool_text(before.shadow).to_owned(),
        after: bool_text(after.shadow).to_owned(),
    });
    changed.chain(shadow).collect()
}

fn list<T: Display>(elements: &[T]) -> String {
    let texts: Vec<_> = elements.iter().map(ToString::to_string).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_contain_both_values_of_each_option() {
        let before = RedirectConfig {
            include: Include::Any,
            exclude: vec!["10.0.0.0/8".parse().unwrap()],
            ..RedirectConfig::default()
        };
        let after = RedirectConfig {
            include: Include::Any,
            shadow: true,
            ..RedirectConfig::default()
        };
        let found: Vec<_> = changes(&before, &after)
            .into_iter()
            .map(|change| [change.option, change.before, change.after])
            .collect();
        assert_eq!(
            found,
            [["-x", "10.0.0.0/8", ""], ["--shadow", "false", "true"]]
        );
        assert_eq!(changes(&after, &after), []);
    }

    #[test]
    fn only_options_with_an_effect_are_arguments() {
        let config = RedirectConfig {
            include: Include::Any,
            dual_stack: true,
            ..RedirectConfig::default()
        };
        let words = "-p 15001 -z 15006 -e 15008 -u 1337 -g 1337 -i * --dual-stack";
        assert_eq!(config.arguments().join(" "), words);
    }
}
