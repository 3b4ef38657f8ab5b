//! Every decision, by a table.

use std::sync::Arc;

use redirect_user::{
    config::{Include, RedirectConfig},
    sys::cgroup::CgroupId,
};

use super::*;
use crate::workload::WorkloadId;

fn wanted(key: &str, stand: Stand) -> Wanted {
    Wanted {
        id: WorkloadId {
            source: "file",
            key: key.to_owned(),
        },
        name: key.to_owned(),
        stand,
    }
}

fn config(port: u16) -> RedirectConfig {
    RedirectConfig {
        out_port: port,
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

fn ready(cgroup: CgroupId, netns: Option<u64>, port: u16) -> Stand {
    Stand::Ready(Box::new(Target {
        cgroup,
        path: format!("/c/{cgroup}").into(),
        netns,
        config: Arc::new(config(port)),
        until_proxy: None,
    }))
}

fn refused(holds: Holds) -> Stand {
    Stand::Refused {
        holds,
        why: "bad".to_owned(),
    }
}

fn waiting(cgroup: Option<CgroupId>) -> Stand {
    Stand::Waiting {
        cgroup,
        why: "not there".to_owned(),
    }
}

fn attached(cgroup: CgroupId, netns: u64, port: u16) -> Attached {
    Attached {
        cgroup,
        netns,
        config: Arc::new(config(port)),
    }
}

/// The steps as `action of key`, or `action of cgroup`.
fn words(wanted: &[Wanted], attached: &[Attached]) -> Vec<String> {
    words_with(wanted, attached, &[])
}

/// The same, where other layouts have cgroups.
fn words_with(wanted: &[Wanted], own: &[Attached], others: &[CgroupId]) -> Vec<String> {
    let attached = Attachments {
        own: own.to_vec(),
        others: others.iter().copied().collect(),
    };
    plan(wanted, &attached)
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

/// What a workload is against each of: nothing attached; the same; in another namespace; with
/// another configuration; another cgroup.
type Row = (Stand, [&'static str; 5]);

fn rows() -> [Row; 7] {
    let (add, keep, other) = ("attach a", "keep a", "detach 8, attach a");
    let (wait, let_go) = ("wait a", "detach 7, wait a");
    let (refuse, drop, hold) = ("refuse a", "detach 7, refuse a", "refuse a, hold 7");
    let other_too = "detach 8, refuse a";
    [
        (
            ready(7, Some(1), 80),
            [add, keep, "move a", "update a", other],
        ),
        // Nothing tells its namespace.
        (ready(7, None, 80), [add, keep, keep, "update a", other]),
        (
            waiting(None),
            [wait, let_go, let_go, let_go, "detach 8, wait a"],
        ),
        (
            waiting(Some(7)),
            [wait, wait, wait, wait, "detach 8, wait a"],
        ),
        (
            refused(Holds::Cgroup(7)),
            [refuse, refuse, refuse, refuse, other_too],
        ),
        (
            refused(Holds::Nothing),
            [refuse, drop, drop, drop, other_too],
        ),
        (
            refused(Holds::Unknown),
            [refuse, hold, hold, hold, "refuse a, hold 8"],
        ),
    ]
}

#[test]
fn one_workload_in_every_stand_against_every_attachment() {
    let worlds = [
        vec![],
        vec![attached(7, 1, 80)],
        vec![attached(7, 2, 80)],
        vec![attached(7, 1, 81)],
        vec![attached(8, 1, 80)],
    ];
    for (stand, expected) in rows() {
        for (there, expected) in worlds.iter().zip(expected) {
            let found = words(&[wanted("a", stand.clone())], there).join(", ");
            assert_eq!(found, expected, "{stand:?} with {there:?}");
        }
    }
}

#[test]
fn nobody_gets_a_cgroup_that_two_want_and_what_it_has_stays() {
    for second in [ready(7, None, 81), refused(Holds::Cgroup(7))] {
        let both = [wanted("a", ready(7, None, 80)), wanted("b", second)];
        for there in [vec![], vec![attached(7, 1, 82)]] {
            assert_eq!(words(&both, &there), ["refuse a", "refuse b"]);
        }
        let steps = plan(&both, &Attachments::default());
        let reason = steps[0].reason.clone().unwrap();
        assert_eq!(
            reason,
            "cgroup \"/c/7\" is also named by file/b: remove all but one"
        );
    }
}

#[test]
fn a_workload_whose_cgroup_is_not_there_claims_nothing() {
    let both = [wanted("a", ready(7, None, 80)), wanted("b", waiting(None))];
    assert_eq!(words(&both, &[]), ["attach a", "wait b"]);
}

#[test]
fn what_ends_makes_room_first() {
    let all = [
        wanted("attached", ready(1, None, 80)),
        wanted("updated", ready(2, None, 80)),
        wanted("moved", ready(3, Some(9), 80)),
    ];
    let there = [attached(2, 1, 81), attached(3, 1, 80), attached(4, 1, 80)];
    assert_eq!(
        words(&all, &there),
        [
            "detach 4",
            "move moved",
            "update updated",
            "attach attached"
        ]
    );
}

#[test]
fn what_was_done_needs_no_second_time() {
    let all = [
        wanted("a", ready(1, Some(5), 80)),
        wanted("b", ready(2, None, 81)),
    ];
    let there = [attached(1, 5, 80), attached(2, 5, 81)];
    assert_eq!(words(&all, &there), ["keep a", "keep b"]);
}

#[test]
fn what_another_layout_has_is_taken_over_and_what_nobody_wants_of_it_ends() {
    let rows = [
        (ready(7, Some(1), 80), "take-over a"),
        (refused(Holds::Cgroup(7)), "refuse a"),
        (refused(Holds::Unknown), "refuse a, hold 7"),
        (refused(Holds::Nothing), "detach 7, refuse a"),
        (waiting(None), "detach 7, wait a"),
        (ready(8, None, 80), "detach 7, attach a"),
    ];
    for (stand, expected) in rows {
        let found = words_with(&[wanted("a", stand.clone())], &[], &[7]);
        assert_eq!(found.join(", "), expected, "{stand:?}");
    }
    // Whoever was about to take it over was killed in between.
    let half = [wanted("a", ready(7, Some(1), 80))];
    let own = [attached(7, 1, 80)];
    assert_eq!(words_with(&half, &own, &[7]), ["take-over a"]);
    assert_eq!(words_with(&[], &own, &[7]), ["detach 7"]);
}

/// What it gets, while its proxy does not listen and then: its port is 80, and 81 before that.
#[test]
fn a_proxy_that_has_listened_once_counts_from_then_on() {
    let stand = |listens: bool| {
        let Stand::Ready(mut target) = ready(7, Some(1), 80) else {
            panic!("ready");
        };
        target.until_proxy = (!listens).then(|| Arc::new(config(81)));
        [wanted("a", Stand::Ready(target))]
    };
    let now = |wanted: &[Wanted], own: &[Attached], others: &[CgroupId]| {
        let attached = Attachments {
            own: own.to_vec(),
            others: others.iter().copied().collect(),
        };
        let [step] = &plan(wanted, &attached)[..] else {
            panic!("one step");
        };
        (step.action, step.target.as_ref().unwrap().config.out_port)
    };
    let (not_yet, listens) = (stand(false), stand(true));
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
fn what_waits_is_not_taken_from_another_layout() {
    let waits = [wanted("a", waiting(Some(7)))];
    assert_eq!(words_with(&waits, &[], &[7]), ["wait a"]);
    let gone = [wanted("a", waiting(None))];
    assert_eq!(words_with(&gone, &[], &[7]), ["detach 7", "wait a"]);
}
