//! The mutation test: what iptables did in a run must tell every wrong table from the right one.

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

/// Where the directed policies of a seed begin: far behind those of any run.
const DIRECTED: u64 = 1 << 40;
/// How many policies are looked at, on model, for a connection that tells a mutant.
const POLICIES: u64 = 20_000;
/// How many connections under each.
const FLOWS: usize = 100;

/// What iptables were seen to do, each case once: with what the pod asks for, and what arrives.
#[derive(Debug, Default)]
pub(super) struct Corpus {
    outbound: Cases,
    inbound: Cases,
}

#[derive(Debug, Default)]
struct Cases(BTreeMap<u32, Verdict>);

impl Corpus {
    /// Adds what was seen. That the same facts always got the same verdict was checked already: it
    /// is the table's.
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
    fn tell<const ROWS: usize>(&self, mutant: &Mutant<ROWS>) -> bool {
        self.0
            .iter()
            .any(|(bits, verdict)| mutant.is_told_by(*bits, *verdict))
    }

    /// Of these mutants those that are no mistake, and those that are not told.
    fn untold<const ROWS: usize>(
        &self,
        all: Vec<Mutant<ROWS>>,
        possible: &[u32],
    ) -> (Vec<String>, Vec<Mutant<ROWS>>) {
        let (equivalent, alive): (Vec<_>, Vec<_>) = all
            .into_iter()
            .filter(|mutant| !self.tell(mutant))
            .partition(|mutant| mutant.is_equivalent(possible));
        let equivalent = equivalent.into_iter().map(|mutant| mutant.what);
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

/// How the mutants fared.
#[derive(Debug)]
pub(super) struct Mutation {
    /// How many there were.
    pub(super) mutants: usize,
    /// Those that are no mistake.
    pub(super) equivalent: Vec<String>,
    /// How many connections had to be looked for.
    pub(super) directed: usize,
    /// Different sets of facts that iptables were seen with, by verdict, outbound.
    pub(super) cases: BTreeMap<&'static str, usize>,
    /// The same of what arrives.
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
            "{mutants} mutations of the rule tables: {} decide every flow of these runs as it does, iptables tell the others from it",
            equivalent.len()
        )?;
        writeln!(
            f,
            "by {cases:?} sets of facts outbound, {arrived:?} inbound, {directed} connections looked for"
        )?;
        write!(f, "no mistakes: {}", equivalent.join(", "))
    }
}

/// Puts every mutant to the corpus. For those that the run did not tell, connections are looked for
/// on model and then really made; a mutant that survives those is an error.
pub(super) fn hunt(runner: &Runner, plan: Plan, mut corpus: Corpus) -> Result<Mutation> {
    let (outbound, inbound) = (mutants(&OUTPUT), mutants(&INBOUND));
    let count = outbound.len() + inbound.len();
    let (mut equivalent, mut alive) = corpus.outbound.untold(outbound, &every_possible());
    let (harmless, mut arriving) = corpus.inbound.untold(inbound, &every_arrival());
    equivalent.extend(harmless);
    let (mut directed, mut number) = (0, DIRECTED);
    while !(alive.is_empty() && arriving.is_empty()) && number < DIRECTED + POLICIES {
        let mut generator = Generator::new(plan.seed, number);
        let config = generator.policy();
        number += 1;
        // Ranges of ports take long to compile and make no case that single ports do not make.
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
            alive.retain(|mutant| !corpus.outbound.tell(mutant));
            arriving.retain(|mutant| !corpus.inbound.tell(mutant));
        }
    }
    let outbound = alive.iter().map(|mutant| mutant.what.as_str());
    let inbound = arriving.iter().map(|mutant| mutant.what.as_str());
    let survivors: Vec<_> = outbound.chain(inbound).collect();
    ensure!(
        survivors.is_empty(),
        "seed {}: nothing that iptables did tells these tables from the right one: {survivors:#?}",
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
