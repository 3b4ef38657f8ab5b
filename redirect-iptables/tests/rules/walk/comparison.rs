//! Calls under a text of rules, compared with walks through it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use redirect_iptables::{
    netfilter::{Answer, DecidedBy, Ruleset, Target, Verdict, inbound, outbound, parse},
    rules::{Family, restore},
};
use redirect_testkit::{
    DialOutcome,
    iptables::{self, Backend},
};

use super::{
    calls::{Call, calls},
    foreign::{FOREIGN, foreign},
    scene::Scene,
};
use crate::{
    Tested,
    golden::resolved,
    kernel::{clear, of_testkit},
};

/// Options with rules for the walks.
const RENDERED: [&str; 5] = [
    "-i * -x 36.152.44.0/24,2001:db8:1::/48 -b * -d 5555",
    "-i 203.0.113.0/24,2001:db8::/48 -o 5555 -b 8080",
    "-q 50:79,80 -x 0.0.0.0/0 -u 1337,1000 -g 2000",
    "-i 127.0.0.0/8,::1/128 -x 203.0.113.10/32 -u 1337 -g 1000",
    "-i * --outbound-owner-groups 2000 -e 8080",
];

pub(super) fn a_walk_ends_where_connections_do_under_rendered_rules() -> Tested {
    let scene = Scene::new("walk-rendered")?;
    for options in RENDERED {
        let config = resolved(options)?.config;
        compare(&scene, |family| restore(&config, family)).with_context(|| options.to_owned())?;
    }
    Ok(())
}

pub(super) fn a_walk_ends_where_connections_do_under_foreign_rules() -> Tested {
    let scene = Scene::new("walk-foreign")?;
    for text in FOREIGN {
        compare(&scene, |family| foreign(text, family)).with_context(|| text.to_owned())?;
    }
    Ok(())
}

/// Applies the texts of both families with each backend, and compares.
fn compare(scene: &Scene, text: impl Fn(Family) -> String) -> Tested {
    for backend in [Backend::Legacy, Backend::Nft] {
        for family in Family::ALL {
            iptables::apply(&scene.pod, backend, of_testkit(family), &text(family))?;
            let seen = Seen::by_calling(scene, backend, family)?;
            ensure!(
                seen.is_enough(),
                "{backend:?}, {family:?}: too few rules decided: {seen:?}"
            );
            clear(&scene.pod, backend, family)?;
        }
    }
    Ok(())
}

/// The verdicts that connections under a text have shown.
#[derive(Debug)]
struct Seen {
    verdicts: BTreeSet<String>,
    /// The lines of the rules that decided.
    decided: BTreeSet<usize>,
    /// The number of rules that can decide.
    deciding: usize,
}

impl Seen {
    /// Makes the calls under the rules of the moment, and walks the packet of each call through them.
    fn by_calling(scene: &Scene, backend: Backend, family: Family) -> Result<Self> {
        let mut before = scene.saved(backend, family)?;
        let rules = parse(family, &before)?;
        let mut seen = Self {
            verdicts: BTreeSet::new(),
            decided: BTreeSet::new(),
            deciding: deciding(&rules),
        };
        for call in calls(scene, family) {
            let Call {
                worker,
                dial,
                packet,
                is_inbound,
            } = call;
            let answer = if is_inbound {
                inbound(&rules, &packet)
            } else {
                outbound(&rules, &packet)
            };
            let expected = expected(&answer)?;
            let dialled = worker.dial(&dial)?;
            let shown = || format!("{packet:?}: by {}\n{before}", answer.decided_by.text());
            let server = match dialled.outcome {
                DialOutcome::Refused => Some("refused"),
                DialOutcome::Connected(_) | DialOutcome::Failed { .. } => {
                    dialled.server().and_then(|name| name.split(' ').next())
                }
            };
            assert_eq!(server, Some(expected.as_str()), "{}", shown());
            let after = scene.saved(backend, family)?;
            if let DecidedBy::Rule(rule) = answer.decided_by {
                let hits = counter(&before, rule.line)..counter(&after, rule.line);
                assert!(!hits.is_empty(), "{hits:?}: {}", shown());
                seen.decided.insert(rule.line);
            }
            seen.verdicts.insert(expected);
            before = after;
        }
        Ok(seen)
    }

    /// Whether there was more than one verdict, by at least half of the rules.
    fn is_enough(&self) -> bool {
        self.verdicts.len() > 1 && self.decided.len() >= self.deciding.div_ceil(2)
    }
}

/// The number of rules that decide the connections which they match.
fn deciding(rules: &Ruleset) -> usize {
    let decides = |target: &Target| {
        !matches!(
            target,
            Target::Jump(_)
                | Target::Goto(_)
                | Target::Aside(_)
                | Target::Mark(_)
                | Target::Connmark(_)
        )
    };
    rules.rules().filter(|rule| decides(&rule.target)).count()
}

/// The name of the server that answers, according to a verdict.
fn expected(answer: &Answer<'_>) -> Result<String> {
    Ok(match answer.verdict {
        Verdict::Direct => "direct".to_owned(),
        Verdict::Redirect(port) => port.to_string(),
        Verdict::Drop => "refused".to_owned(),
        Verdict::Tproxy(_) | Verdict::Unknown => bail!("{answer:?}"),
    })
}

/// The number of packets that a rule has counted.
fn counter(text: &str, line: usize) -> u64 {
    let line = text.lines().nth(line - 1).expect("the line of a rule");
    let counter = line.strip_prefix('[').and_then(|rest| rest.split_once(':'));
    counter.expect("a counter").0.parse().expect("a number")
}
