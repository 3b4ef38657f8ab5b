//! The decision about each flow: the server that answers, the counter that moves, and the rule that `explain` names.

use anyhow::{Result, ensure};
use redirect_common::{
    chain::RuleId,
    facts::{Owner, Transport},
};
use redirect_iptables::rules::live_rule;
use redirect_testkit::{Dial, DialReport, Mode, World};
use redirect_user::node::{Question, explain, explain_inbound};

use super::{
    flows::flows,
    policy::{Ids, Policy, WORLD},
};
use crate::{
    Tested,
    harness::{Expected, Redirected, Server, moved},
};

/// Runs `check` on every flow of every rule, in a pod with the flow's policy.
fn each_flow(
    name: &str,
    mut check: impl FnMut(&Redirected, RuleId, Ids, Server, &Dial) -> Tested,
) -> Tested {
    for policy in [
        Policy::Any,
        Policy::List,
        Policy::Several,
        Policy::Dns,
        Policy::InAny,
        Policy::InList,
    ] {
        let pod = Redirected::new(name, &policy.config())?;
        for rule in RuleId::ALL {
            let (of, owner, by, dials) = flows(rule);
            for dial in dials.iter().filter(|_| of == policy) {
                check(&pod, rule, owner, by, dial)?;
            }
        }
    }
    Ok(())
}

/// Makes a flow's connection. Returns the report and the expected view.
fn make(pod: &Redirected, owner: Ids, by: Server, dial: &Dial) -> Result<(DialReport, Expected)> {
    if owner == WORLD {
        return Ok((pod.scene.world.dial(dial)?, Expected::arrived(by, dial)));
    }
    let dialled = pod.scene.dial_as(owner.0, owner.1, dial)?;
    Ok((dialled, Expected::of(by, dial)))
}

pub(super) fn every_rule_decides_the_flows_that_reach_it() -> Tested {
    let mut wrong = Vec::new();
    each_flow("rules", |pod, rule, owner, by, dial| {
        let before = pod.hits()?;
        let (dialled, expected) = make(pod, owner, by, dial)?;
        let counted = moved(&before, &pod.hits()?);
        let flow = format!("{}: {owner:?} to {dial:?}", rule.name());
        if let Some(difference) = expected.difference(&dialled) {
            wrong.push(format!("{flow}: {difference}"));
        }
        if counted.iter().ne([(&rule.name(), &1)]) {
            wrong.push(format!("{flow}: counted {counted:?}"));
        }
        Ok(())
    })?;
    ensure!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

pub(super) fn explain_names_the_rule_that_the_kernel_counts() -> Tested {
    each_flow("explain", |pod, rule, (uid, gid), by, dial| {
        let reader = pod.owner.reader()?;
        let source = dial.bind.map(|bound| bound.ip());
        let transport = if dial.mode == Mode::Udp {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        let question = Question {
            transport,
            owner: Owner { uid, gid },
            dst: dial.to,
            source,
        };
        let attached = pod.pod(&reader)?;
        let explained = if (uid, gid) == WORLD {
            let world = if dial.to.is_ipv4() {
                World::V4.into()
            } else {
                World::V6.into()
            };
            explain_inbound(&reader, &attached, world, dial.to)?
        } else {
            explain(&reader, &attached, &question)?
        };
        assert_eq!(
            explained.decision.rule, rule,
            "{uid}/{gid} to {dial:?}: {explained:?}"
        );
        for (of, text) in [
            (RuleId::UidLater, &*format!("--uid-owner {uid}")),
            (RuleId::GidLater, &*format!("--gid-owner {gid}")),
            (RuleId::GroupExcluded, "--gid-owner 1500"),
        ] {
            if rule == of {
                let listed = format!("-A ISTIO_OUTPUT -m owner {text} -j RETURN");
                assert_eq!(
                    live_rule(&reader, &attached, explained.decision.rule, &explained.flow)?,
                    listed
                );
            }
        }
        assert_eq!(
            explained.target.is_some(),
            by.is_redirect(),
            "{explained:?}"
        );
        Ok(())
    })
}

/// Without the programs the table must fail, or it proves nothing.
pub(super) fn a_detached_pod_fails_every_redirect_expectation() -> Tested {
    let mut detached = Vec::new();
    let mut redirects = 0;
    each_flow("detached", |pod, rule, owner, by, dial| {
        if !detached.contains(&pod.cgroup.id()) {
            pod.detach()?;
            detached.push(pod.cgroup.id());
        }
        let (dialled, expected) = make(pod, owner, by, dial)?;
        if by.is_redirect() {
            redirects += 1;
            let is_equal = expected.difference(&dialled).is_none();
            ensure!(
                !is_equal,
                "{} holds without the programs: {dialled:?}",
                rule.name()
            );
        }
        Ok(())
    })?;
    ensure!(
        redirects >= 30,
        "only {redirects} flows of the table are redirected"
    );
    Ok(())
}
