//! The mutation test: the verdicts of iptables in a run must distinguish every mutant from the right table.

use std::{collections::BTreeMap, fmt};

use anyhow::{Result, ensure};
use redirect_common::chain::{INBOUND, OUTPUT, Verdict};
use redirect_testkit::Side;

use super::{
    comparison::Observed,
    generate::Generator,
    mutants::{Mutant, bits, every_arrival, every_possible, mutants},
    runner::{Plan, Runner},
};

/// The first number of the directed policies of a seed, far above those of any run.
const DIRECTED: u64 = 1 << 40;
/// The number of policies that are searched, in the model, for a connection that kills a mutant.
const POLICIES: u64 = 20_000;
/// The number of connections under each policy.
const FLOWS: usize = 100;

/// The verdicts of iptables, each set of facts once, for outbound and inbound connections.
#[derive(Debug, Default)]
pub(super) struct Corpus {
    outbound: Cases,
    inbound: Cases,
}

#[derive(Debug, Default)]
struct Cases(BTreeMap<u32, Verdict>);

impl Corpus {
    /// Adds observations. The same facts always have the same verdict: the runner has compared it with the table's.
    pub(super) fn add(&mut self, observed: impl IntoIterator<Item = Observed>) {
        for one in observed {
            let cases = if one.inbound {
                &mut self.inbound
            } else {
                &mut self.outbound
            };
            cases.0.insert(bits(one.facts), one.verdict);
        }
    }
}

impl Cases {
    fn kills<const ROWS: usize>(&self, mutant: &Mutant<ROWS>) -> bool {
        self.0
            .iter()
            .any(|(bits, verdict)| mutant.is_killed_by(*bits, *verdict))
    }

    /// Splits the mutants that survive into those that are no mistake and the others.
    fn survivors<const ROWS: usize>(
        &self,
        all: Vec<Mutant<ROWS>>,
        possible: &[u32],
    ) -> (Vec<String>, Vec<Mutant<ROWS>>) {
        let (equivalent, alive): (Vec<_>, Vec<_>) = all
            .into_iter()
            .filter(|mutant| !self.kills(mutant))
            .partition(|mutant| mutant.is_equivalent(possible));
        let equivalent = equivalent.into_iter().map(|mutant| mutant.mistake);
        (equivalent.collect(), alive)
    }

    fn by_verdict(&self) -> BTreeMap<&'static str, usize> {
        let mut cases = BTreeMap::new();
        for verdict in self.0.values() {
            *cases.entry(verdict.name()).or_default() += 1;
        }
        cases
    }
}

/// The results of the mutation test.
#[derive(Debug)]
pub(super) struct Mutation {
    /// The number of mutants.
    pub(super) mutants: usize,
    /// The mutants that are no mistake.
    pub(super) equivalent: Vec<String>,
    /// The number of connections that had to be searched for.
    pub(super) directed: usize,
    /// The number of different sets of facts of outbound connections, by the verdict of iptables.
    pub(super) cases: BTreeMap<&'static str, usize>,
    /// The number of different sets of facts of inbound connections, by the verdict of iptables.
    pub(super) arrived: BTreeMap<&'static str, usize>,
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mutants,
            equivalent,
            directed,
            cases,
            arrived,
        } = self;
        writeln!(
            f,
            "{mutants} mutants of the rule tables: {} decide every possible flow as the right table does, the verdicts of iptables kill the others",
            equivalent.len()
        )?;
        writeln!(
            f,
            "by {cases:?} sets of facts outbound, {arrived:?} inbound, {directed} connections searched for"
        )?;
        write!(f, "no mistakes: {}", equivalent.join(", "))
    }
}

/// Compares every mutant with the corpus. For mutants that survive it, connections are searched for in the model and
/// then really made. A mutant that survives those is an error.
pub(super) fn hunt(runner: &Runner, plan: Plan, mut corpus: Corpus) -> Result<Mutation> {
    let (outbound, inbound) = (mutants(&OUTPUT), mutants(&INBOUND));
    let count = outbound.len() + inbound.len();
    let (mut equivalent, mut alive) = corpus.outbound.survivors(outbound, &every_possible());
    let (harmless, mut arriving) = corpus.inbound.survivors(inbound, &every_arrival());
    equivalent.extend(harmless);
    let (mut directed, mut number) = (0, DIRECTED);
    while !(alive.is_empty() && arriving.is_empty()) && number < DIRECTED + POLICIES {
        let mut generator = Generator::new(plan.seed, number);
        let config = generator.policy();
        number += 1;
        // Wide port ranges take long to compile, and make no case that single ports do not make.
        let ports = config.include_ports.iter().chain(&config.exclude_ports);
        if ports.clone().any(|range| range.last - range.first > 100) {
            continue;
        }
        let model = runner.model(&config)?;
        let mut flows = generator.flows(&config, FLOWS);
        flows.retain(|flow| {
            let facts = model.facts(flow).map(bits);
            facts.is_some_and(|facts| match flow.client {
                Side::Pod => alive.iter().any(|mutant| mutant.errs(facts)),
                Side::World => arriving.iter().any(|mutant| mutant.errs(facts)),
            })
        });
        if !flows.is_empty() {
            directed += flows.len();
            let compared = runner.compare(&config, &flows)?;
            ensure!(
                compared.difference.is_none(),
                "seed {}, the policy before {number}: {compared:?}",
                plan.seed
            );
            corpus.add(compared.observed);
            alive.retain(|mutant| !corpus.outbound.kills(mutant));
            arriving.retain(|mutant| !corpus.inbound.kills(mutant));
        }
    }
    let outbound = alive.iter().map(|mutant| mutant.mistake.as_str());
    let inbound = arriving.iter().map(|mutant| mutant.mistake.as_str());
    let survivors: Vec<_> = outbound.chain(inbound).collect();
    ensure!(
        survivors.is_empty(),
        "seed {}: no verdict of iptables kills these mutants: {survivors:#?}",
        plan.seed
    );
    Ok(Mutation {
        mutants: count,
        equivalent,
        directed,
        cases: corpus.outbound.by_verdict(),
        arrived: corpus.inbound.by_verdict(),
    })
}
