//! The comparison of decisions: a configuration equals its rendered rules, and a changed rule is found if any
//! connection can tell.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context as _, Result, ensure};
use proptest::{
    sample::select,
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use redirect_iptables::{
    netfilter::{Ruleset, Via, outbound, parse},
    parity::{Comparison, Direction, Probe, Site, compare, policy_decision, probes},
    rules::{Family, restore},
};
use redirect_testkit::cases;
use redirect_user::{
    config::RedirectConfig,
    policy::{CompiledView, PodNetwork, compile},
};

use crate::{Cases, Needs, Tested, configs::random, golden::resolved};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Nothing => [
        every_configuration_equals_its_rendered_rules,
        a_changed_rule_is_found_if_a_connection_can_tell,
    ],
};

/// The number of configurations that are compared.
const CONFIGS: usize = 12;
/// The number of random connections that are tried on a mutant which the probes did not tell from the original.
const CONNECTIONS: usize = 500;

fn rendered(config: &RedirectConfig) -> Result<[Ruleset; 2]> {
    let [v4, v6] = Family::ALL.map(|family| parse(family, &restore(config, family)));
    Ok([v4?, v6?])
}

/// Compares a configuration with rules.
fn compared(config: &RedirectConfig, rules: &[Ruleset; 2]) -> Result<Comparison> {
    let [v4, v6] = rules;
    let [own4, own6] = rendered(config)?;
    let all = [&own4, &own6, v4, v6];
    let site = Site::imagined(&all);
    let probes = probes(&all, &site)?;
    // IPv6 is on.
    let network = PodNetwork::new(site.netns(), true, &config.exclude_interfaces)?;
    let view = CompiledView::new(&compile(config, &network)?, site.netns());
    Ok(compare([v4, v6], &site, &probes, |probe| {
        policy_decision(&view, &site, probe)
    }))
}

fn every_configuration_equals_its_rendered_rules() -> Tested {
    for config in random(CONFIGS)? {
        let compared = compared(&config, &rendered(&config)?)?;
        let is_equal = compared.differences.is_empty() && compared.undecided.is_empty();
        ensure!(is_equal, "{config:?}: {:#?}", compared.differences);
        ensure!(
            compared.probes > 500,
            "{} probes: {config:?}",
            compared.probes
        );
    }
    Ok(())
}

/// A configuration with every kind of rule.
const RICH: &str = "-u 1337,4711 -g 1337 -i 10.0.0.0/8,fd00::/8,192.0.2.0/25 -x 10.1.0.0/16,fd00:1::/32 \
                    -q 80,8000:8010 -o 22,9000:9010 -c net1,veth+ --outbound-owner-groups-exclude 2000,2001";

/// Every text with one rule left out, or exchanged with the next one.
fn mutants(text: &str) -> Vec<String> {
    let (rules, frame): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("-A"));
    let end = "COMMIT";
    let head: Vec<_> = frame.into_iter().filter(|line| *line != end).collect();
    let whole = |rules: &[&str]| [&head, rules, &[end]].concat().join("\n");
    let mut mutants = Vec::new();
    for at in 0..rules.len() {
        let mut without = rules.clone();
        without.remove(at);
        mutants.push(whole(&without));
        let mut swapped = rules.clone();
        if at + 1 < rules.len() {
            swapped.swap(at, at + 1);
            mutants.push(whole(&swapped));
        }
    }
    mutants
}

fn a_changed_rule_is_found_if_a_connection_can_tell() -> Tested {
    let config = resolved(RICH)?.config;
    let [own4, own6] = rendered(&config)?;
    let site = Site::imagined(&[&own4, &own6]);
    let pool = Pool::of(&probes(&[&own4, &own6], &site)?);
    let mut runner = TestRunner::deterministic();
    let (mut found, mut same) = (0, 0);
    for (family, own) in Family::ALL.into_iter().zip([&own4, &own6]) {
        for text in mutants(&restore(&config, family)) {
            let mutant = parse(family, &text).with_context(|| text.clone())?;
            let rules = match family {
                Family::V4 => [mutant.clone(), own6.clone()],
                Family::V6 => [own4.clone(), mutant.clone()],
            };
            if !compared(&config, &rules)?.differences.is_empty() {
                found += 1;
                continue;
            }
            same += 1;
            for _ in 0..CONNECTIONS {
                let packet = pool.random(&mut runner)?.packet(&site);
                if packet.destination.is_ipv4() != (family == Family::V4) {
                    continue;
                }
                let [before, after] = [own, &mutant].map(|rules| outbound(rules, &packet).verdict);
                ensure!(
                    before == after,
                    "not found: {packet:?}: {before:?}, {after:?}\n{text}"
                );
            }
        }
    }
    ensure!(
        found > 30 && same > 10,
        "{found} mutants found, {same} the same"
    );
    Ok(())
}

/// The values of all probes, for new combinations.
struct Pool {
    to: Vec<IpAddr>,
    ports: Vec<u16>,
    ids: Vec<u32>,
    from: Vec<Option<IpAddr>>,
}

impl Pool {
    fn of(probes: &[Probe]) -> Self {
        fn all<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
            values.collect::<BTreeSet<_>>().into_iter().collect()
        }
        let owners = probes.iter().filter_map(|probe| probe.owner);
        Self {
            to: all(probes.iter().map(|probe| probe.to)),
            ports: all(probes.iter().map(|probe| probe.port)),
            ids: all(owners.flat_map(|(uid, gid)| [uid, gid])),
            from: all(probes
                .iter()
                .filter(|probe| probe.direction == Direction::Outbound)
                .map(|probe| probe.from)),
        }
    }

    fn random(&self, runner: &mut TestRunner) -> Result<Probe> {
        let values = (
            proptest::bool::ANY,
            select(self.to.clone()),
            select(self.ports.clone()),
            (select(self.ids.clone()), select(self.ids.clone())),
            select(self.from.clone()),
        );
        let tree = values
            .new_tree(runner)
            .map_err(|reason| anyhow::anyhow!("choosing a connection: {reason}"))?;
        let (tcp, to, port, owner, from) = tree.current();
        let fits = |from: &IpAddr| from.is_ipv4() == to.to_canonical().is_ipv4();
        Ok(Probe {
            direction: Direction::Outbound,
            tcp,
            to,
            port,
            from: from.filter(fits),
            owner: Some(owner),
            via: Via::Unnamed,
        })
    }
}
