//! Another build's programs are replaced while connections are made.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use redirect_common::{abi::Meta, hooks::Hook};
use redirect_testkit::{Dial, Dialled};
use redirect_user::{
    bpf::{Maps, Pins, program_report},
    config::{Inbound, InboundPorts, Include, RedirectConfig},
    node::Upgraded,
    sys::bpf::program_of_link,
};

use crate::{
    Test, Tested,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, Redirected, at},
};

pub(crate) const TESTS: &[Test] = &[(
    "every_program_of_a_pod_is_replaced_and_nothing_else",
    every_program_of_a_pod_is_replaced_and_nothing_else,
)];

/// Has the programs be those of another build, as far as can be known.
fn age(pod: &Redirected) -> Tested {
    let mut maps = Maps::open(&Pins::new(pod.owner.path()))?;
    let meta = maps.meta()?;
    let build = meta.build.wrapping_add(1);
    maps.set_meta(Meta { build, ..meta })
}

/// The kernel's numbers for the programs that a pod's links run.
fn programs(pod: &Redirected) -> Result<BTreeMap<&'static str, u32>> {
    let pins = Pins::new(pod.owner.path());
    Hook::ALL
        .into_iter()
        .chain([Hook::SkLookup])
        .map(|hook| {
            let link = pins.link(pod.cgroup.id(), hook);
            Ok((hook.program(), program_of_link(&link)?))
        })
        .collect()
}

/// Who answers, and which original destination they were told.
fn answered(dialled: &Dialled) -> (Option<&str>, Option<std::net::SocketAddr>) {
    (dialled.server(), dialled.orig_dst())
}

/// Outbound of both families, excluded, and inbound.
fn check(pod: &Redirected) -> Tested {
    let dial = |to| pod.scene.dial_as(1000, 1000, &Dial::to(to));
    let (four, six) = (at(ELSEWHERE_V4, 80), at(ELSEWHERE_V6, 80));
    ensure!(answered(&dial(four)?) == (Some("out4:15001"), Some(four)));
    ensure!(answered(&dial(six)?) == (Some("out6:15001"), Some(six)));
    ensure!(answered(&dial(at(FAR_V4, 80))?) == (Some("world4:80"), None));
    let own = at("10.77.0.2", 8080);
    let arrived = pod.scene.world.dial(&Dial::to(own))?;
    ensure!(
        answered(&arrived) == (Some("in4:15006"), Some(own)),
        "{arrived:?}"
    );
    Ok(())
}

fn every_program_of_a_pod_is_replaced_and_nothing_else() -> Tested {
    let config = RedirectConfig {
        include: Include::Any,
        exclude: vec!["36.152.44.0/24".parse()?],
        inbound: Inbound {
            include_ports: InboundPorts::Any,
            ..Inbound::default()
        },
        ..RedirectConfig::default()
    };
    let pod = Redirected::new("upgrade", &config)?;
    check(&pod)?;
    ensure!(
        pod.owner.writer()?.upgrade()?.is_none(),
        "they are this build's"
    );
    let (before, row) = (programs(&pod)?, pod.pod(&pod.owner.reader()?)?.row);
    let hits = pod.hits()?;

    age(&pod)?;
    ensure!(!pod.owner.reader()?.is_current()?);
    let upgraded = pod.owner.writer()?.upgrade()?;
    let all = Upgraded {
        cgroups: 1,
        links: Hook::ALL.len() + 1,
    };
    ensure!(upgraded == Some(all), "{upgraded:?}");
    ensure!(pod.owner.reader()?.is_current()?);
    let after = programs(&pod)?;
    for (name, program) in &before {
        ensure!(after.get(name) != Some(program), "{name} is the old one");
    }
    ensure!(pod.pod(&pod.owner.reader()?)?.row == row);
    ensure!(pod.hits()? == hits, "counters go on");
    check(&pod)?;
    ensure!(pod.hits()? != hits, "and count");

    // A pod that comes later runs the same ones.
    let pins = Pins::new(pod.owner.path());
    for hook in Hook::ALL {
        program_report(&pins, hook)?;
    }
    pod.detach()?;
    let dialled = pod
        .scene
        .dial_as(1000, 1000, &Dial::to(at(ELSEWHERE_V4, 80)))?;
    ensure!(answered(&dialled) == (Some("world4:80"), None));
    Ok(())
}
