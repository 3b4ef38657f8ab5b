//! Pods with a user namespace of their own: ids are those inside, for iptables' owner match and for the programs.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use redirect_common::{
    chain::RuleId,
    facts::{Owner, Transport},
};
use redirect_iptables::rules::live_rule;
use redirect_testkit::{Dial, Identity, PROXY_ID, Pod, cases, wait_until};
use redirect_user::{
    config::{Include, OwnerGroups, ProxyIds, RedirectConfig},
    node::{AttachError, Question, explain},
    policy::NoSuchId,
    sys::{
        cgroup::Cgroup,
        userns::{IdMap, IdMaps},
    },
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Cases, Needs, Tested,
    differential::{Backends, View},
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, Redirected, Scene, at, dual_stack, moved, netns},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::UserNamespaces => [
        ids_are_those_inside_the_pod_as_behind_iptables,
        ids_of_the_initial_namespace_mean_nothing_in_the_pod,
        ids_are_shown_as_they_were_given,
        an_id_outside_the_namespace_is_refused,
        a_namespace_is_read_without_a_process,
    ],
};

/// The time that a process may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

fn everything() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

/// Configurations that name ids, in each of the options that take them.
fn settings() -> Vec<RedirectConfig> {
    let ids = |ids: &[u32]| ProxyIds::new(ids.to_vec()).expect("a few");
    vec![
        everything(),
        RedirectConfig {
            proxy_uids: ids(&[3, 1000]),
            proxy_gids: ids(&[1, 0]),
            ..everything()
        },
        RedirectConfig {
            owner_groups: OwnerGroups::List(vec![1000, 0]),
            ..everything()
        },
        RedirectConfig {
            owner_groups_exclude: vec![1000],
            ..everything()
        },
    ]
}

fn ids_are_those_inside_the_pod_as_behind_iptables() -> Tested {
    let backends = Backends::of("userns", Pod::with_user_namespace)?;
    let own = "10.77.0.2";
    let (mut redirected, mut spared) = (0, 0);
    for settings in settings() {
        backends.configure(&settings)?;
        for (uid, gid) in [
            (0, 0),
            (1337, 1337),
            (1337, 0),
            (0, 1337),
            (1000, 1000),
            (3, 7),
        ] {
            for to in [at(ELSEWHERE_V4, 80), at(ELSEWHERE_V6, 80), at(own, 8080)] {
                let (iptables, ebpf) = backends.dial(uid, gid, &Dial::to(to))?;
                ensure!(
                    iptables == ebpf,
                    "{uid}/{gid} to {to} with {settings:?}\n  iptables: {iptables:?}\n  ebpf:     {ebpf:?}"
                );
                if ebpf.is_redirected() {
                    redirected += 1;
                } else {
                    spared += 1;
                }
            }
        }
    }
    ensure!(
        redirected > 20 && spared > 20,
        "{redirected} redirected, {spared} not"
    );
    Ok(())
}

/// A process with the proxy's id in the initial user namespace has another id in the pod's.
fn ids_of_the_initial_namespace_mean_nothing_in_the_pod() -> Tested {
    let pod = Redirected::attach(
        "userns-ids",
        Scene::of(Pod::with_user_namespace("userns-ids")?)?,
        &everything(),
    )?;
    let dial = Dial::to(at(ELSEWHERE_V4, 80));
    // The ids of root are not translated by the kit, so the script can set ids as they are outside.
    let outsider = pod.scene.pod.worker(&Identity::root())?;
    let cgroup = pod.scene.pod.cgroup().app().join("cgroup.procs");
    for (id, server, rule) in [
        (PROXY_ID, "out4:15001", RuleId::AnyIncluded),
        (Pod::FIRST_ID + PROXY_ID, "world4:80", RuleId::Uid),
    ] {
        let before = pod.hits()?;
        let script = format!(
            "echo 0 > {} && exec setpriv --reuid {id} --regid {id} --clear-groups \
             bash -c 'exec 3<>/dev/tcp/{ELSEWHERE_V4}/80 && head -n 1 <&3'",
            cgroup.display()
        );
        let done = outsider.run(&["sh", "-c", &script])?;
        ensure!(done.stdout.contains(server), "{id}: {done:?}");
        let moved = moved(&before, &pod.hits()?);
        ensure!(
            moved.get(rule.name()) == Some(&1),
            "{id}: expected {rule:?}, not {moved:?}"
        );
    }
    let redirected = View::of(&pod.scene.dial_as(1000, 1000, &dial)?);
    ensure!(redirected.is_redirected(), "{redirected:?}");
    pod.detach()?;
    let detached = View::of(&pod.scene.dial_as(1000, 1000, &dial)?);
    ensure!(!detached.is_redirected(), "{detached:?}");
    Ok(())
}

fn ids_are_shown_as_they_were_given() -> Tested {
    for given in settings() {
        let pod = Redirected::attach(
            "userns-show",
            Scene::of(Pod::with_user_namespace("userns-show")?)?,
            &given,
        )?;
        let reader = pod.owner.reader()?;
        let attached = pod.pod(&reader)?;
        let config = reader.config(&attached)?;
        let mut expected = dual_stack(&given);
        if let OwnerGroups::List(groups) = &mut expected.owner_groups {
            groups.sort_unstable();
        }
        ensure!(config == expected, "{config:?}, not {expected:?}");
        ensure!(
            attached.row.proxy_uids[0] == Pod::FIRST_ID + given.proxy_uids.first(),
            "{:?}",
            attached.row
        );
        // `explain` takes an id inside, and answers with one.
        let uid = given.proxy_uids.first();
        let owner = Owner { uid, gid: 7 };
        let question = Question {
            transport: Transport::Tcp,
            owner,
            dst: at(ELSEWHERE_V4, 80),
            source: None,
        };
        let explained = explain(&reader, &attached, &question)?;
        ensure!(
            live_rule(&reader, &attached, explained.decision.rule, &explained.flow)?
                == format!("-A ISTIO_OUTPUT -m owner --uid-owner {uid} -j RETURN"),
            "{explained:?}"
        );
        drop(reader);
        // An update without the namespace still knows the ids.
        pod.update(&given)?;
        let reader = pod.owner.reader()?;
        ensure!(reader.config(&pod.pod(&reader)?)? == expected);
    }
    Ok(())
}

fn an_id_outside_the_namespace_is_refused() -> Tested {
    let pod = Redirected::attach(
        "userns-refuse",
        Scene::of(Pod::with_user_namespace("userns-refuse")?)?,
        &everything(),
    )?;
    let refused = [
        (
            "uid",
            RedirectConfig {
                proxy_uids: 65_536.into(),
                ..everything()
            },
        ),
        (
            "gid",
            RedirectConfig {
                owner_groups_exclude: vec![1000, 65_536],
                ..everything()
            },
        ),
    ];
    for (kind, config) in refused {
        let error = pod
            .update(&config)
            .expect_err("an update with an unknown id");
        let Some(AttachError::NoSuchId(NoSuchId {
            kind: named,
            id,
            existing,
        })) = error.downcast_ref()
        else {
            anyhow::bail!("{error:#}");
        };
        ensure!((*named, *id) == (kind, 65_536), "{error:#}");
        ensure!(matches!(existing, IdMap::Extents(_)) && existing.to_string() == "0-65535");
        // The earlier configuration stays in effect.
        let dialled = View::of(
            &pod.scene
                .dial_as(1000, 1000, &Dial::to(at(ELSEWHERE_V4, 80)))?,
        );
        ensure!(dialled.is_redirected(), "{dialled:?}");
    }
    Ok(())
}

/// A container runtime sets up the network before the pod's first process exists.
fn a_namespace_is_read_without_a_process() -> Tested {
    let pod = Pod::with_user_namespace("userns-empty")?;
    let cgroup = Cgroup::open(pod.cgroup().path())?;
    for pid in cgroup.processes() {
        let pid = Pid::from_raw(i32::try_from(pid)?).context("convert the process id")?;
        kill_process(pid, Signal::KILL)?;
    }
    ensure!(wait_until(PATIENCE, || cgroup.processes().is_empty()));
    let ids = netns(&pod)?.ids;
    for (inside, outside) in [(0, 100_000), (1337, 101_337), (65_535, 165_535)] {
        ensure!(ids.uid(inside)? == outside && ids.gid(inside)? == outside);
    }
    ensure!(ids.uid(65_536).is_err() && ids.gid(65_536).is_err());
    // A network namespace that the initial user namespace owns has the initial ids.
    let plain = Pod::new("userns-none")?;
    ensure!(netns(&plain)?.ids == IdMaps::default());
    Ok(())
}
