//! The comparison of random connections, and the mutation test on its verdicts.

use std::env;

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::Flow;
use redirect_user::config::{Include, RedirectConfig};

use super::{
    generate::Generator,
    mutation::{Corpus, hunt},
    parity,
    runner::{Plan, Runner},
};
use crate::Tested;

/// The variable that sets another seed.
const SEED: &str = "REDIRECT_FLOWS_SEED";

/// Also checks that the verdicts of iptables distinguish every mutant of the rule table from the table.
pub(super) fn random_connections_look_as_behind_real_iptables() -> Tested {
    let plan = Plan {
        seed: seed()?,
        first: 0,
        flows: 20_000,
        each: 500,
    };
    eprintln!("{SEED}={}", plan.seed);
    let runner = Runner::new("flows")?;
    let mut corpus = Corpus::default();
    let tally = runner.run(plan, |_, observed| corpus.add(observed))?;
    eprintln!("{}", parity::Report(&tally));
    let mutation = hunt(&runner, plan, corpus)?;
    eprintln!("{mutation}");
    let redirected = ["out", "in"].map(|verdict| mutation.cases.get(verdict).copied());
    ensure!(
        redirected.iter().all(|cases| *cases > Some(20)),
        "too few connections are redirected: {mutation:?}"
    );
    Ok(())
}

/// Without the programs the comparison must fail, or it proves nothing.
pub(super) fn without_the_programs_every_redirected_connection_differs() -> Tested {
    let runner = Runner::new("blind")?;
    let seed = seed()?;
    let (mut redirected, mut same) = (0, Vec::<&Flow>::new());
    let config = RedirectConfig {
        include: Include::Any,
        ..Generator::new(seed, 0).policy()
    };
    runner.pair.configure(&config)?;
    runner.pair.ebpf.detach()?;
    let flows = Generator::new(seed, 1).flows(&config, 500);
    for (flow, seen) in flows.iter().zip(runner.pair.run(&flows)?) {
        let (iptables, ebpf) = runner.pair.views(&config, &seen);
        if iptables.is_redirected() {
            redirected += 1;
            same.extend((iptables == ebpf).then_some(flow));
        }
    }
    ensure!(same.is_empty(), "seed {seed}: {same:?} under {config:?}");
    ensure!(
        redirected > 10,
        "seed {seed}: {redirected} are redirected under {config:?}"
    );
    Ok(())
}

fn seed() -> Result<u64> {
    let Some(text) = env::var_os(SEED) else {
        return Ok(1);
    };
    let seed = text.to_str().and_then(|text| text.parse().ok());
    seed.with_context(|| format!("read {SEED}: {} is no number", text.display()))
}
