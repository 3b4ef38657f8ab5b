//! The runner: generates policies from a seed and connections under each, and compares every connection in three ways.
//!
//! The views behind iptables and behind the programs must be equal. The verdict of iptables must be the model's. The
//! rules that the programs count must be the rules that the model names.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use redirect_common::{
    abi::Hits,
    chain::{INBOUND, RuleId, Verdict},
};
use redirect_testkit::{Flow, FlowOutcome, Side};
use redirect_user::{config::RedirectConfig, sys::netns::NetnsSnapshot};

use super::{
    comparison::{Comparison, Difference, Observed},
    generate::Generator,
    model::Model,
    shrink::smallest,
    site_pair::SitePair,
};
use crate::{
    differential::ACCEPTED,
    harness::{moved, netns},
};

/// The plan of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The seed that everything is generated from.
    pub(super) seed: u64,
    /// The number of the first policy of the seed.
    pub(super) first: u64,
    /// The number of connections in all.
    pub(super) flows: u64,
    /// The number of connections under each policy.
    pub(super) each: u64,
}

/// The results of a run so far.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) policies: u64,
    pub(super) flows: u64,
    /// The number of each accepted difference, by its index in the list.
    pub(super) accepted: Vec<u64>,
    /// The counters of the programs: the number of decisions of each rule.
    pub(super) hits: Hits,
    /// The duration of the connections alone.
    pub(super) connecting: Duration,
    /// The duration of everything.
    pub(super) took: Duration,
}

impl Tally {
    fn add(&mut self, compared: &Compared, flows: u64) {
        self.policies += 1;
        self.flows += flows;
        for (sum, more) in self.accepted.iter_mut().zip(&compared.accepted) {
            *sum += more;
        }
        self.hits = compared.hits;
        self.connecting += compared.connecting;
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            policies: 0,
            flows: 0,
            accepted: vec![0; ACCEPTED.len()],
            hits: Hits::ZERO,
            connecting: Duration::ZERO,
            took: Duration::ZERO,
        }
    }
}

/// The results of the connections under one policy.
#[derive(Debug)]
pub(super) struct Compared {
    /// The facts and the verdict of iptables of each connection that iptables see.
    pub(super) observed: Vec<Observed>,
    /// The first difference that is not accepted.
    pub(super) difference: Option<Difference>,
    accepted: Vec<u64>,
    hits: Hits,
    connecting: Duration,
}

impl Compared {
    fn add(&mut self, accepted: impl Iterator<Item = usize>) {
        for index in accepted {
            if let Some(count) = self.accepted.get_mut(index) {
                *count += 1;
            }
        }
    }
}

/// The number of decisions of rules, by name.
type Counts = BTreeMap<&'static str, u64>;

/// The two pods, and the network namespace that the model reads.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) pair: SitePair,
    netns: NetnsSnapshot,
}

impl Runner {
    pub(super) fn new(name: &str) -> Result<Self> {
        let pair = SitePair::new(name)?;
        let netns = netns(&pair.ebpf.scene.pod)?;
        Ok(Self { pair, netns })
    }

    /// Makes the model of a policy.
    pub(super) fn model(&self, config: &RedirectConfig) -> Result<Model> {
        Model::new(config, &self.netns)
    }

    /// Runs a plan, and reports to `report` after every policy. The error shows the smallest case of a difference.
    pub(super) fn run(
        &self,
        plan: Plan,
        mut report: impl FnMut(&Tally, Vec<Observed>),
    ) -> Result<Tally> {
        let begun = Instant::now();
        let mut tally = Tally::default();
        while tally.flows < plan.flows {
            let number = plan.first + tally.policies;
            let mut generator = Generator::new(plan.seed, number);
            let config = generator.policy();
            let count = plan.each.min(plan.flows - tally.flows);
            let flows = generator.flows(&config, usize::try_from(count)?);
            let compared = self
                .compare(&config, &flows)
                .with_context(|| format!("seed {}, policy {number}", plan.seed))?;
            if let Some(difference) = compared.difference {
                bail!(
                    "seed {}, policy {number}: {}",
                    plan.seed,
                    smallest(self, difference)?
                );
            }
            tally.add(&compared, count);
            tally.took = begun.elapsed();
            report(&tally, compared.observed);
        }
        Ok(tally)
    }

    /// Compares connections under a policy.
    pub(super) fn compare(&self, config: &RedirectConfig, flows: &[Flow]) -> Result<Compared> {
        self.pair.configure(config)?;
        let model = self.model(config)?;
        let before = self.pair.ebpf.hits()?;
        let begun = Instant::now();
        let seen = self.pair.run(flows)?;
        let mut compared = Compared {
            observed: Vec::with_capacity(flows.len()),
            difference: None,
            accepted: vec![0; ACCEPTED.len()],
            hits: Hits::ZERO,
            connecting: begun.elapsed(),
        };
        let mut expected = Counts::new();
        for (flow, seen) in flows.iter().zip(seen) {
            let facts = model.facts(flow);
            let decision = facts.map(|facts| Model::decide(flow, facts));
            let comparison = self.compare_flow(config, flow, &seen)?;
            if let Some(decision) = decision {
                *expected.entry(decision.rule.name()).or_default() +=
                    comparison.decisions(flow, decision);
            }
            let verdict = comparison.verdict(config, flow);
            let seen = facts.zip(verdict).map(|(facts, verdict)| Observed {
                inbound: flow.client == Side::World,
                facts,
                verdict,
            });
            compared.observed.extend(seen);
            // A call to the pod itself is an inbound connection as well, unless it was redirected.
            let returned = seen.and_then(|seen| comparison.returns(flow, seen));
            let arrival = returned.and_then(|(remote, local)| model.arrival(remote, local));
            compared.observed.extend(arrival.map(|facts| Observed {
                inbound: true,
                facts,
                verdict: Verdict::Direct,
            }));
            let differing = comparison.difference(verdict, decision);
            compared.add(comparison.accepted.into_iter().flatten());
            if let Some(differing) = differing {
                compared.difference.get_or_insert(Difference {
                    config: config.clone(),
                    flow: *flow,
                    differing,
                });
            }
        }
        compared.hits = self.pair.ebpf.hits()?;
        let counted = counted(moved(&before, &compared.hits), &expected);
        ensure!(
            compared.difference.is_some() || counted == expected,
            "the programs counted other rules than the table names:\n  {counted:?}\n  {expected:?}"
        );
        ensure!(
            (compared.hits.flow_lost, compared.hits.record_failed) == (0, 0),
            "original destinations were lost: {:?}",
            compared.hits
        );
        Ok(compared)
    }

    /// Compares one flow. Repeats it with a longer limit only if the views differ, and a second time only if it timed
    /// out behind iptables, which happens now and then on a busy machine: a difference of the programs stands.
    fn compare_flow(
        &self,
        config: &RedirectConfig,
        flow: &Flow,
        seen: &(FlowOutcome, FlowOutcome),
    ) -> Result<Comparison> {
        let mut comparison = Comparison::of(flow, self.pair.views(config, seen));
        for _ in 0..2 {
            let is_final = comparison.dials > 1 && !comparison.has_timed_out();
            if comparison.is_fine() || is_final {
                break;
            }
            for again in self.pair.run_with_long_limit(&[*flow])? {
                comparison = Comparison {
                    dials: comparison.dials + 1,
                    ..Comparison::of(flow, self.pair.views(config, &again))
                };
            }
        }
        Ok(comparison)
    }
}

/// The counters of the programs, with those of inbound rules cut to the expected number: every packet without a
/// connection is looked up, and so are calls to the pod itself.
fn counted(mut counted: Counts, expected: &Counts) -> Counts {
    for rule in inbound_rules() {
        let enough = expected.get(rule).copied().unwrap_or_default();
        if let Some(count) = counted.get_mut(rule) {
            *count = enough.min(*count);
        }
    }
    counted.retain(|_, count| *count > 0);
    counted
}

/// The names of the inbound rules.
fn inbound_rules() -> impl Iterator<Item = &'static str> {
    let rules = INBOUND.rules.iter().map(|rule| rule.id);
    rules.chain([INBOUND.fallthrough]).map(RuleId::name)
}
