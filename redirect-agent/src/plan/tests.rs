//! Tables of every decision.

use std::sync::Arc;

use redirect_user::{
    config::{Include, RedirectConfig},
    sys::cgroup::CgroupId,
};

use super::*;
use crate::workload::WorkloadId;

fn workload(key: &str, resolution: Resolution) -> ResolvedWorkload {
    ResolvedWorkload {
        id: WorkloadId {
            source: "file",
            key: key.to_owned(),
        },
        name: key.to_owned(),
        resolution,
    }
}

fn config(port: u16) -> RedirectConfig {
    RedirectConfig {
        out_port: port,
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

fn ready(cgroup: CgroupId, netns: Option<u64>, port: u16) -> Resolution {
    Resolution::Ready(Box::new(Target {
        cgroup,
        path: format!("/c/{cgroup}").into(),
        netns,
        config: Arc::new(config(port)),
        until_proxy: None,
    }))
}

fn refused(claim: Claim) -> Resolution {
    Resolution::Refused {
        claim,
        reason: "bad".to_owned(),
    }
}

fn waiting(cgroup: Option<CgroupId>) -> Resolution {
    Resolution::Waiting {
        cgroup,
        reason: "not there".to_owned(),
    }
}

fn attached(cgroup: CgroupId, netns: u64, port: u16) -> Attached {
    Attached {
        cgroup,
        netns,
        config: Arc::new(config(port)),
        missing: None,
    }
}

/// The planned steps as `action key`, or `action cgroup`.
fn steps(workloads: &[ResolvedWorkload], attached: &[Attached]) -> Vec<String> {
    steps_across_layouts(workloads, attached, &[])
}

/// The planned steps, with attachments in other layouts.
fn steps_across_layouts(
    workloads: &[ResolvedWorkload],
    current: &[Attached],
    others: &[CgroupId],
) -> Vec<String> {
    let attached = Attachments {
        current_layout: current.to_vec(),
        other_layouts: others.iter().copied().collect(),
    };
    plan(workloads, &attached)
        .iter()
        .map(|step| {
            let of = step.id.as_ref().map_or_else(
                || step.cgroup.unwrap_or_default().to_string(),
                |id| id.key.clone(),
            );
            format!("{} {of}", step.action.name())
        })
        .collect()
}

/// A resolution, and its plan with each of: no attachment; the same; another namespace; another
/// configuration; another cgroup.
type Row = (Resolution, [&'static str; 5]);

fn rows() -> [Row; 7] {
    let (add, keep, other) = ("attach a", "keep a", "detach 8, attach a");
    let (wait, detach) = ("wait a", "detach 7, wait a");
    let (refuse, drop, hold) = ("refuse a", "detach 7, refuse a", "refuse a, hold 7");
    let other_too = "detach 8, refuse a";
    [
        (
            ready(7, Some(1), 80),
            [add, keep, "move a", "update a", other],
        ),
        // The network namespace is unknown.
        (ready(7, None, 80), [add, keep, keep, "update a", other]),
        (
            waiting(None),
            [wait, detach, detach, detach, "detach 8, wait a"],
        ),
        (
            waiting(Some(7)),
            [wait, wait, wait, wait, "detach 8, wait a"],
        ),
        (
            refused(Claim::Cgroup(7)),
            [refuse, refuse, refuse, refuse, other_too],
        ),
        (refused(Claim::None), [refuse, drop, drop, drop, other_too]),
        (
            refused(Claim::Unknown),
            [refuse, hold, hold, hold, "refuse a, hold 8"],
        ),
    ]
}

#[test]
fn every_resolution_is_planned_against_every_attachment() {
    let cases = [
        vec![],
        vec![attached(7, 1, 80)],
        vec![attached(7, 2, 80)],
        vec![attached(7, 1, 81)],
        vec![attached(8, 1, 80)],
    ];
    for (resolution, expected) in rows() {
        for (attachments, expected) in cases.iter().zip(expected) {
            let found = steps(&[workload("a", resolution.clone())], attachments).join(", ");
            assert_eq!(found, expected, "{resolution:?} with {attachments:?}");
        }
    }
}

#[test]
fn two_workloads_for_one_cgroup_are_both_refused_and_the_attachment_stays() {
    for second in [ready(7, None, 81), refused(Claim::Cgroup(7))] {
        let both = [workload("a", ready(7, None, 80)), workload("b", second)];
        for attachments in [vec![], vec![attached(7, 1, 82)]] {
            assert_eq!(steps(&both, &attachments), ["refuse a", "refuse b"]);
        }
        let planned = plan(&both, &Attachments::default());
        let reason = planned[0].reason.clone().unwrap();
        assert_eq!(
            reason,
            "cgroup \"/c/7\" is also named by file/b: remove all but one"
        );
    }
}

#[test]
fn a_workload_without_a_cgroup_claims_nothing() {
    let both = [
        workload("a", ready(7, None, 80)),
        workload("b", waiting(None)),
    ];
    assert_eq!(steps(&both, &[]), ["attach a", "wait b"]);
}

#[test]
fn detaching_comes_first_to_make_room() {
    let all = [
        workload("attached", ready(1, None, 80)),
        workload("updated", ready(2, None, 80)),
        workload("moved", ready(3, Some(9), 80)),
    ];
    let attachments = [attached(2, 1, 81), attached(3, 1, 80), attached(4, 1, 80)];
    assert_eq!(
        steps(&all, &attachments),
        [
            "detach 4",
            "move moved",
            "update updated",
            "attach attached"
        ]
    );
}

#[test]
fn a_finished_step_is_not_planned_again() {
    let all = [
        workload("a", ready(1, Some(5), 80)),
        workload("b", ready(2, None, 81)),
    ];
    let attachments = [attached(1, 5, 80), attached(2, 5, 81)];
    assert_eq!(steps(&all, &attachments), ["keep a", "keep b"]);
}

#[test]
fn wanted_cgroups_of_another_layout_are_taken_over_and_unwanted_ones_detached() {
    let rows = [
        (ready(7, Some(1), 80), "take-over a"),
        (refused(Claim::Cgroup(7)), "refuse a"),
        (refused(Claim::Unknown), "refuse a, hold 7"),
        (refused(Claim::None), "detach 7, refuse a"),
        (waiting(None), "detach 7, wait a"),
        (ready(8, None, 80), "detach 7, attach a"),
    ];
    for (resolution, expected) in rows {
        let found = steps_across_layouts(&[workload("a", resolution.clone())], &[], &[7]);
        assert_eq!(found.join(", "), expected, "{resolution:?}");
    }
    // An agent was killed in the middle of a take-over.
    let half = [workload("a", ready(7, Some(1), 80))];
    let current = [attached(7, 1, 80)];
    assert_eq!(steps_across_layouts(&half, &current, &[7]), ["take-over a"]);
    assert_eq!(steps_across_layouts(&[], &current, &[7]), ["detach 7"]);
}

/// The due port is 80 once the proxy has listened, and 81 before.
#[test]
fn a_pod_gets_its_whole_policy_once_its_proxy_has_listened() {
    let resolution = |listens: bool| {
        let Resolution::Ready(mut target) = ready(7, Some(1), 80) else {
            panic!("ready");
        };
        target.until_proxy = (!listens).then(|| Arc::new(config(81)));
        [workload("a", Resolution::Ready(target))]
    };
    let now = |workloads: &[ResolvedWorkload], current: &[Attached], others: &[CgroupId]| {
        let attached = Attachments {
            current_layout: current.to_vec(),
            other_layouts: others.iter().copied().collect(),
        };
        let [step] = &plan(workloads, &attached)[..] else {
            panic!("one step");
        };
        (step.action, step.target.as_ref().unwrap().config.out_port)
    };
    let (not_yet, listens) = (resolution(false), resolution(true));
    let (before, whole) = (attached(7, 1, 81), attached(7, 1, 80));
    assert_eq!(now(&not_yet, &[], &[]), (Action::Attach, 81));
    let kept = now(&not_yet, std::slice::from_ref(&before), &[]);
    assert_eq!(kept, (Action::Keep, 81));
    assert_eq!(now(&listens, &[before], &[]), (Action::Update, 80));
    assert_eq!(now(&listens, &[], &[]), (Action::Attach, 80));
    let kept = now(&not_yet, &[whole], &[]);
    assert_eq!(kept, (Action::Keep, 80), "it has listened before");
    assert_eq!(now(&not_yet, &[], &[7]), (Action::TakeOver, 80));
}

#[test]
fn a_waiting_workload_is_not_taken_over_from_another_layout() {
    let waits = [workload("a", waiting(Some(7)))];
    assert_eq!(steps_across_layouts(&waits, &[], &[7]), ["wait a"]);
    let gone = [workload("a", waiting(None))];
    assert_eq!(
        steps_across_layouts(&gone, &[], &[7]),
        ["detach 7", "wait a"]
    );
}

#[test]
fn a_damaged_attachment_is_repaired_by_the_step_that_is_due() {
    let missing = "connect4: its link is gone";
    let damaged = |port| Attached {
        missing: Some(missing.to_owned()),
        ..attached(1, 7, port)
    };
    let shop = |netns| [workload("shop", ready(1, netns, 1))];
    assert_eq!(steps(&shop(Some(7)), &[damaged(1)]), ["repair shop"]);
    assert_eq!(steps(&shop(None), &[damaged(1)]), ["repair shop"]);
    assert_eq!(steps(&shop(Some(7)), &[damaged(2)]), ["update shop"]);
    assert_eq!(steps(&shop(Some(8)), &[damaged(1)]), ["move shop"]);
    assert_eq!(steps(&[], &[damaged(1)]), ["detach 1"]);
    let attached = Attachments {
        current_layout: vec![damaged(1)],
        ..Attachments::default()
    };
    let step = plan(&shop(Some(7)), &attached).remove(0);
    assert_eq!(step.reason.as_deref(), Some(missing));
}
