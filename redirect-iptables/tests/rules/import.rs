//! Rules, turned into the options that they were made of.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use redirect_iptables::{
    import::{DifferenceKind, differences, read_config},
    netfilter::{Ruleset, parse},
    rules::{Family, restore},
};
use redirect_testkit::{
    Identity, Pod, cases,
    iptables::{self, Backend},
};
use redirect_user::config::{Dns, InboundPorts, Include, OwnerGroups, PortRange, RedirectConfig};

use crate::{
    Cases, Needs, Tested,
    configs::random,
    golden::{SAME, resolved_words},
    kernel::{clear, of_testkit, saved},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Golden => [istios_texts_become_the_options_they_were_made_of],
    Needs::Nothing => [
        rendered_rules_become_the_same_configuration,
        a_rule_that_no_option_expresses_is_named,
    ],
    Needs::Iptables => [saved_rules_become_the_same_configuration],
};

/// The number of configurations that are rendered and read.
const RENDERED: usize = 2000;
/// The number of configurations that also go through the kernel.
const SAVED: usize = 6;

/// The configuration, reduced to the facts that rules can show.
fn canonical(mut config: RedirectConfig) -> RedirectConfig {
    if let Include::Cidrs(nets) = &config.include {
        // Rules do not show host bits, but they show whether there is a loopback address.
        let had_loopback = config.include.has_loopback();
        let mut nets = canonical_nets(nets);
        if had_loopback && !Include::Cidrs(nets.clone()).has_loopback() {
            let loopback = |net: &IpNet| {
                ["127.0.0.1/32", "::1/128"].into_iter().find_map(|text| {
                    let loopback: IpNet = text.parse().ok()?;
                    net.contains(&loopback).then(|| loopback.addr())
                })
            };
            let found = nets.iter_mut().find_map(|net| Some((loopback(net)?, net)));
            if let Some((addr, net)) = found {
                *net = IpNet::new(addr, net.prefix_len()).expect("a length");
            }
        }
        let lengths: Vec<_> = nets.iter().map(IpNet::prefix_len).collect();
        let families: Vec<_> = nets.iter().map(IpNet::max_prefix_len).collect();
        config.include = if !had_loopback && lengths == [0, 0] && families == [32, 128] {
            Include::Any
        } else {
            Include::Cidrs(nets)
        };
    }
    config.exclude = canonical_nets(&config.exclude);
    if matches!(config.owner_groups, OwnerGroups::List(_)) {
        config.owner_groups_exclude.clear();
    }
    let dns = &mut config.dns;
    if !dns.is_on() {
        *dns = Dns::default();
    } else if dns.capture_all {
        dns.servers.clear();
    }
    dns.servers.sort_by_key(IpAddr::is_ipv6);
    let inbound = &mut config.inbound;
    if inbound.include_ports
        == InboundPorts::List(vec![PortRange {
            first: 0,
            last: u16::MAX,
        }])
    {
        inbound.include_ports = InboundPorts::Any;
        inbound.exclude_ports.clear();
    }
    if inbound.include_ports != InboundPorts::Any {
        inbound.exclude_ports.clear();
    }
    config
}

/// IPv4 before IPv6, without host bits.
fn canonical_nets(nets: &[IpNet]) -> Vec<IpNet> {
    let is_v4 = |net: &&IpNet| matches!(net, IpNet::V4(_));
    let v6 = nets.iter().filter(|net| !is_v4(net));
    nets.iter()
        .filter(is_v4)
        .chain(v6)
        .map(IpNet::trunc)
        .collect()
}

/// Reads texts of both families, and asserts that the result is the configuration.
fn assert_read(config: &RedirectConfig, texts: &[String; 2]) -> Tested {
    let [v4, v6] = texts;
    let v4 = parse(Family::V4, v4)?;
    let v6 = parse(Family::V6, v6)?;
    let read = read_config(&v4, Some(&v6)).with_context(|| format!("{config:?}"))?;
    let config = RedirectConfig {
        dual_stack: true,
        ..canonical(config.clone())
    };
    assert_eq!(read, config);
    for rules in [&v4, &v6] {
        let found = differences(rules, &read)?;
        ensure!(found.is_empty(), "{config:?}: {found:?}");
    }
    // The printed options resolve to the same configuration.
    let words = read.arguments();
    let again = resolved_words(&words.iter().map(String::as_str).collect::<Vec<_>>())?.config;
    assert_eq!(again, read, "{words:?}");
    Ok(())
}

fn istios_texts_become_the_options_they_were_made_of() -> Tested {
    for same in SAME {
        let config = same.config()?;
        let (v4, v6) = same.texts()?;
        let v4 = parse(Family::V4, &v4)?;
        let v6 = v6.map(|text| parse(Family::V6, &text)).transpose()?;
        let read = read_config(&v4, v6.as_ref())?;
        let config = RedirectConfig {
            dual_stack: v6.is_some(),
            ..canonical(config)
        };
        assert_eq!(read, config);
        for rules in [&v4].into_iter().chain(&v6) {
            let found = differences(rules, &read)?;
            ensure!(found.is_empty(), "{found:?}");
        }
    }
    Ok(())
}

fn rendered_rules_become_the_same_configuration() -> Tested {
    for config in random(RENDERED)? {
        let texts = Family::ALL.map(|family| restore(&config, family));
        assert_read(&config, &texts)?;
    }
    Ok(())
}

fn saved_rules_become_the_same_configuration() -> Tested {
    let pod = Pod::new("rules-saved")?;
    let root = pod.worker(&Identity::root())?;
    for config in random(SAVED)? {
        for backend in [Backend::Legacy, Backend::Nft] {
            let read = |family| {
                let text = restore(&config, family);
                iptables::apply(&pod, backend, of_testkit(family), &text)?;
                saved(&root, backend, family)
            };
            let texts = [read(Family::V4)?, read(Family::V6)?];
            assert_read(&config, &texts).with_context(|| format!("{backend:?}: {texts:?}"))?;
            for family in Family::ALL {
                clear(&pod, backend, family)?;
            }
        }
    }
    Ok(())
}

/// The rules of a sidecar after a change of the text.
fn changed(change: impl Fn(&str) -> String) -> Result<Ruleset> {
    let config = crate::golden::resolved("-i * -x 10.0.0.0/8,11.0.0.0/8 -o 22 -b *")?.config;
    Ok(parse(Family::V4, &change(&restore(&config, Family::V4)))?)
}

fn a_rule_that_no_option_expresses_is_named() -> Tested {
    let found = |change: &dyn Fn(&str) -> String| -> Result<Vec<(DifferenceKind, String)>> {
        let rules = changed(change)?;
        let config = read_config(&rules, None)?;
        let found = differences(&rules, &config)?.into_iter();
        Ok(found
            .map(|difference| (difference.kind, difference.rule))
            .collect())
    };
    let end = "COMMIT\n";
    let add = |rule: &'static str| move |text: &str| text.replace(end, &format!("{rule}\n{end}"));
    assert_eq!(found(&str::to_owned)?, []);
    for rule in [
        "-A ISTIO_OUTPUT -d 9.9.9.9/32 -p tcp --dport 99 -j RETURN",
        "-A OUTPUT -m addrtype --dst-type LOCAL -j RETURN",
        "-A PREROUTING -i eth0 -j RETURN",
        "-A POSTROUTING -j MASQUERADE",
        "-A ISTIO_OUTPUT -j LOG",
    ] {
        let expected = [(DifferenceKind::Unexpressed, rule.to_owned())];
        assert_eq!(found(&add(rule))?, expected, "{rule}");
    }
    // The rule of an older Istio does not exempt the tunnel port.
    let uid = "-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT";
    let older = uid.replace("-p tcp ! --dport 15008 ", "");
    assert_eq!(
        found(&|text: &str| text.replace(uid, &older))?,
        [
            (DifferenceKind::Unexpressed, older.clone()),
            (DifferenceKind::Added, uid.to_owned())
        ]
    );
    // The rule for an excluded port stands among those for ranges.
    let port = "-A ISTIO_OUTPUT -p tcp --dport 22 -j RETURN\n";
    let late = |text: &str| {
        let without = text.replace(port, "");
        without.replace(
            "-A ISTIO_OUTPUT -j ISTIO_REDIRECT\n",
            &format!("{port}-A ISTIO_OUTPUT -j ISTIO_REDIRECT\n"),
        )
    };
    let moved = found(&late)?;
    assert!(
        matches!(moved.as_slice(), [(DifferenceKind::Moved, _)]),
        "{moved:?}"
    );
    let policy = found(&|text: &str| text.replace("* nat\n", "* nat\n:OUTPUT DROP [0:0]\n"))?;
    assert_eq!(
        policy,
        [(DifferenceKind::Unexpressed, "-P OUTPUT DROP".to_owned())]
    );
    let other = found(&|text: &str| format!("{text}*filter\n-A OUTPUT -j DROP\nCOMMIT\n"))?;
    assert_eq!(
        other,
        [(DifferenceKind::Unexpressed, "-A OUTPUT -j DROP".to_owned())]
    );
    assert!(read_config(&Ruleset::empty(Family::V4), None).is_err());
    Ok(())
}
