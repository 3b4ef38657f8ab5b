//! A run: policies from a seed, connections under each, every one compared in three ways.
//!
//! What both ends see must be the same behind iptables and behind the programs; the verdict of
//! iptables must be the one that `decide` reaches on model; and the rules that the programs counted
//! must be the rules that `decide` names.

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
use redirect_user::{config::RedirectConfig, sys::netns::Netns};

use super::{
    comparison::{Difference, Judged, Observed},
    generate::Generator,
    model::Model,
    shrink::smallest,
    site_pair::SitePair,
};
use crate::{
    differential::ACCEPTED,
    harness::{moved, netns},
};

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// What everything is drawn from.
    pub(super) seed: u64,
    /// The first policy of the seed's.
    pub(super) first: u64,
    /// How many connections in all.
    pub(super) flows: u64,
    /// How many of them under each policy.
    pub(super) each: u64,
}

/// What came of a run so far.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) policies: u64,
    pub(super) flows: u64,
    /// By their place in the list of accepted differences.
    pub(super) accepted: Vec<u64>,
    /// How often each rule decided, counted by the programs.
    pub(super) hits: Hits,
    /// How long the connections alone took.
    pub(super) connecting: Duration,
    /// How long everything took.
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

/// What came of the connections under one policy.
#[derive(Debug)]
pub(super) struct Compared {
    /// What iptables did with each connection that they saw.
    pub(super) observed: Vec<Observed>,
    /// The first difference.
    pub(super) difference: Option<Difference>,
    accepted: Vec<u64>,
    hits: Hits,
    connecting: Duration,
}

impl Compared {
    fn add(&mut self, accepted: impl Iterator<Item = usize>) {
        for place in accepted {
            if let Some(count) = self.accepted.get_mut(place) {
                *count += 1;
            }
        }
    }
}

/// How often rules decided, by name.
type Counts = BTreeMap<&'static str, u64>;

/// The two pods, and what the table knows about them.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) pair: SitePair,
    netns: Netns,
}

impl Runner {
    pub(super) fn new(name: &str) -> Result<Self> {
        let pair = SitePair::new(name)?;
        let netns = netns(&pair.ebpf.scene.pod)?;
        Ok(Self { pair, netns })
    }

    /// The facts of connections under a policy.
    pub(super) fn model(&self, config: &RedirectConfig) -> Result<Model> {
        Model::new(config, &self.netns)
    }

    /// Runs a plan; `told` hears of every policy. The error is the smallest case of a difference.
    pub(super) fn run(
        &self,
        plan: Plan,
        mut told: impl FnMut(&Tally, Vec<Observed>),
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
            told(&tally, compared.observed);
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
            let judged = self.judge(config, flow, &seen)?;
            if let Some(decision) = decision {
                *expected.entry(decision.rule.name()).or_default() +=
                    judged.decisions(flow, decision);
            }
            let verdict = judged.verdict(config, flow);
            let seen = facts.zip(verdict).map(|(facts, verdict)| Observed {
                inbound: flow.client == Side::World,
                facts,
                verdict,
            });
            compared.observed.extend(seen);
            // A call to the pod itself arrives as well, if nothing else became of it.
            let returned = seen.and_then(|seen| judged.returns(flow, seen));
            let arrival = returned.and_then(|(remote, local)| model.arrival(remote, local));
            compared.observed.extend(arrival.map(|facts| Observed {
                inbound: true,
                facts,
                verdict: Verdict::Direct,
            }));
            let what = judged.difference(verdict, decision);
            compared.add(judged.accepted.into_iter().flatten());
            if let Some(what) = what {
                compared.difference.get_or_insert(Difference {
                    config: config.clone(),
                    flow: *flow,
                    what,
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

    /// Only a difference is worth waiting for; and worth another attempt where iptables timed out,
    /// as they do now and then on a busy machine: a difference of ebpf stands.
    fn judge(
        &self,
        config: &RedirectConfig,
        flow: &Flow,
        seen: &(FlowOutcome, FlowOutcome),
    ) -> Result<Judged> {
        let mut judged = Judged::of(flow, self.pair.views(config, seen));
        for _ in 0..2 {
            let is_tired = judged.dials > 1 && !judged.has_timed_out();
            if judged.is_fine() || is_tired {
                break;
            }
            for again in self.pair.run_patiently(&[*flow])? {
                judged = Judged {
                    dials: judged.dials + 1,
                    ..Judged::of(flow, self.pair.views(config, &again))
                };
            }
        }
        Ok(judged)
    }
}

/// What the programs counted, with no more arrivals than expected: every packet that finds no
/// connection is looked up, and calls to the pod itself are, too.
fn counted(mut counted: Counts, expected: &Counts) -> Counts {
    for rule in arrivals() {
        let enough = expected.get(rule).copied().unwrap_or_default();
        if let Some(count) = counted.get_mut(rule) {
            *count = enough.min(*count);
        }
    }
    counted.retain(|_, count| *count > 0);
    counted
}

/// The names of the rules about what arrives.
fn arrivals() -> impl Iterator<Item = &'static str> {
    let rules = INBOUND.rules.iter().map(|rule| rule.id);
    rules.chain([INBOUND.fallthrough]).map(RuleId::name)
}
