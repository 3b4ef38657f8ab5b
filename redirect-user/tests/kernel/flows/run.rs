//! A run: policies from a seed, connections under each, every one compared in three ways.
//!
//! What both ends see must be the same behind iptables and behind the programs; the verdict of
//! iptables must be the one that `decide` reaches on paper; and the rules that the programs counted
//! must be the rules that `decide` names.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use redirect_common::{
    abi::Hits,
    chain::{INBOUND, OUTPUT, RuleId, Verdict},
    decide::{Decision, decide},
    facts::{Fact, Facts},
};
use redirect_testkit::{Flow, Seen, Side, Way};
use redirect_user::{config::RedirectConfig, sys::netns::Netns};

use super::{draw::Draw, pair::Pair, paper::Paper, shrink::smallest, site::visitor};
use crate::{
    differential::{ACCEPTED, View, accepted},
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

/// A connection's facts, and what iptables really did with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// The table it was decided by: the inbound one, or the outbound one.
    pub(super) inbound: bool,
    pub(super) facts: Facts,
    pub(super) verdict: Verdict,
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

/// A difference that nobody accepts.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    pub(super) config: RedirectConfig,
    pub(super) flow: Flow,
    pub(super) what: What,
}

/// What differs.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// What can be seen behind iptables and behind the programs.
    Seen(Box<(View, View)>),
    /// What can be seen behind iptables, and what the table says on paper, if it is asked.
    Decided(Box<View>, Option<Decision>),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, flow, what } = self;
        writeln!(f, "{flow:?}")?;
        match what {
            What::Seen(views) => {
                writeln!(f, "  iptables: {:?}\n  ours:     {:?}", views.0, views.1)?;
            }
            What::Decided(view, decision) => {
                writeln!(f, "  iptables: {view:?}\n  on paper: {decision:?}")?;
            }
        }
        let config = serde_json::to_string(config).map_err(|_unprintable| fmt::Error)?;
        write!(f, "  under:    {config}")
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

/// The two pods, and what the table knows about them.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) pair: Pair,
    netns: Netns,
}

impl Runner {
    pub(super) fn new(name: &str) -> Result<Self> {
        let pair = Pair::new(name)?;
        let netns = netns(&pair.ours.scene.pod)?;
        Ok(Self { pair, netns })
    }

    /// The facts of connections under a policy.
    pub(super) fn paper(&self, config: &RedirectConfig) -> Result<Paper> {
        Paper::new(config, &self.netns)
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
            let mut draw = Draw::new(plan.seed, number);
            let config = draw.policy();
            let count = plan.each.min(plan.flows - tally.flows);
            let flows = draw.flows(&config, usize::try_from(count)?);
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
        let paper = self.paper(config)?;
        let before = self.pair.ours.hits()?;
        let begun = Instant::now();
        let seen = self.pair.run(flows)?;
        let mut compared = Compared {
            observed: Vec::with_capacity(flows.len()),
            difference: None,
            accepted: vec![0; ACCEPTED.len()],
            hits: Hits::ZERO,
            connecting: begun.elapsed(),
        };
        let mut expected = BTreeMap::<_, u64>::new();
        for (flow, seen) in flows.iter().zip(seen) {
            let inbound = flow.client == Side::World;
            let facts = if inbound {
                paper.arrival(visitor(flow.to), flow.to)
            } else {
                paper.facts(flow)
            };
            let decision = facts.map(|facts| {
                if inbound {
                    decide(&INBOUND, facts)
                } else {
                    decide(&OUTPUT, facts)
                }
            });
            let judged = self.judge(config, flow, &seen)?;
            if let Some(decision) = decision {
                let times = if judged.is_decided_again(flow, decision) {
                    2
                } else {
                    1
                };
                *expected.entry(decision.rule.name()).or_default() += times * judged.dials;
            }
            let verdict = judged.verdict(config, flow);
            let right = decision.map_or(Verdict::Direct, |decision| decision.verdict);
            let via_lo = facts.is_some_and(|facts| facts.has(Fact::ViaLo));
            let loops_back = judged.views.0.server;
            let loops_back =
                loops_back.filter(|_| via_lo && !inbound && flow.way == Way::Connection);
            let is_decided = verdict.is_none_or(|verdict| verdict == right);
            let what = match &judged.accepted {
                None => Some(What::Seen(judged.views.into())),
                Some(_) if !is_decided => Some(What::Decided(judged.views.0.into(), decision)),
                Some(_) => None,
            };
            if let Some(what) = what {
                compared.difference.get_or_insert(Difference {
                    config: config.clone(),
                    flow: *flow,
                    what,
                });
            }
            for place in judged.accepted.into_iter().flatten() {
                if let Some(count) = compared.accepted.get_mut(place) {
                    *count += 1;
                }
            }
            let observed = |inbound| {
                move |(facts, verdict)| Observed {
                    inbound,
                    facts,
                    verdict,
                }
            };
            compared
                .observed
                .extend(facts.zip(verdict).map(observed(inbound)));
            // A call to the pod itself arrives as well, if nothing else became of it.
            let arrived = loops_back
                .and_then(|(remote, local)| paper.arrival(remote, local))
                .zip(verdict.filter(|verdict| *verdict == Verdict::Direct));
            compared.observed.extend(arrived.map(observed(true)));
        }
        compared.hits = self.pair.ours.hits()?;
        let mut counted = moved(&before, &compared.hits);
        // Every packet that finds no connection is looked up, and calls to the pod itself are too.
        for rule in arrivals() {
            let at_least = expected.get(rule).copied().unwrap_or_default();
            if let Some(count) = counted.get_mut(rule).filter(|count| **count > at_least) {
                *count = at_least;
            }
        }
        counted.retain(|_, count| *count > 0);
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
    /// as they do now and then on a busy machine: a difference of ours stands.
    fn judge(&self, config: &RedirectConfig, flow: &Flow, seen: &(Seen, Seen)) -> Result<Judged> {
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

/// The names of the rules about what arrives.
fn arrivals() -> impl Iterator<Item = &'static str> {
    let rules = INBOUND.rules.iter().map(|rule| rule.id);
    rules.chain([INBOUND.fallthrough]).map(RuleId::name)
}

/// A connection seen in both pods.
#[derive(Debug)]
struct Judged {
    views: (View, View),
    /// The places of the accepted differences that it shows; none if there is one that is not
    /// accepted.
    accepted: Option<Vec<usize>>,
    /// How often it was made.
    dials: u64,
}

impl Judged {
    fn of(flow: &Flow, views: (View, View)) -> Self {
        Self {
            accepted: accepted(flow, &views.0, &views.1),
            views,
            dials: 1,
        }
    }

    const fn is_fine(&self) -> bool {
        self.accepted.is_some()
    }

    /// Whether nothing came behind iptables.
    fn has_timed_out(&self) -> bool {
        ["ETIMEDOUT", "EAGAIN"].contains(&self.views.0.outcome.as_str())
    }

    /// Whether sending is decided about like connecting: to the kernel a datagram to IPv4 from a
    /// connected socket of IPv6 has a destination of its own. After a redirect it is no query.
    fn is_decided_again(&self, flow: &Flow, decision: Decision) -> bool {
        let outcome = self.views.1.outcome.as_str();
        let is_sent =
            self.views.1.server.is_some() || ["EAGAIN", "ECONNREFUSED"].contains(&outcome);
        flow.mapped
            && flow.way == Way::ConnectedDatagram
            && decision.verdict != Verdict::Dns
            && is_sent
    }

    /// What iptables did, as far as it can be told: who a datagram went to that was not answered
    /// cannot, unless nobody was there.
    fn verdict(&self, config: &RedirectConfig, flow: &Flow) -> Option<Verdict> {
        let view = &self.views.0;
        if flow.way != Way::Connection && view.server.is_none() && view.outcome != "ECONNREFUSED" {
            return None;
        }
        view.verdict(config)
    }
}
