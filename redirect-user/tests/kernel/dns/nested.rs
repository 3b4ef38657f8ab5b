//! Queries under two policies, one in a cgroup above the other.

use std::collections::BTreeMap;

use anyhow::ensure;
use redirect_testkit::{
    Dial, Mode, UdpScript,
    UdpStep::{Receive, SendTo},
};
use redirect_user::sys::cgroup::Cgroup;

use super::matrix::{all, listed};
use crate::{
    Tested,
    harness::{ELSEWHERE_V4, FAR_V4, FAR_V6, Redirected, Server, at, dual_stack, moved, netns},
    sockets::check,
    two_policies::hits,
};

/// The inner policy captures queries to the listed resolvers, the outer policy to every resolver.
pub(super) fn the_innermost_policy_that_captures_decides() -> Tested {
    let outer = Redirected::new("dns-nested", &all())?;
    let pod = &outer.scene.pod;
    let inner = Cgroup::open(&pod.cgroup().app())?;
    let settings = dual_stack(&listed());
    let attached = netns(pod)?;
    outer.owner.writer()?.attach(&inner, &attached, &settings)?;
    let rule = |name| BTreeMap::from([(name, 2)]);
    for (ip, of_inner, of_outer) in [
        (FAR_V4, rule("dns"), BTreeMap::new()),
        (FAR_V6, rule("dns"), BTreeMap::new()),
        (ELSEWHERE_V4, rule("default"), rule("dns")),
    ] {
        let to = at(ip, 53);
        let before = [hits(&outer, &inner)?, outer.hits()?];
        let dial = Dial::to(to).mode(Mode::Udp);
        check(Server::Dns, &dial, &outer.scene.dial_as(1000, 1000, &dial)?)?;
        let script = UdpScript::new([SendTo(to), Receive]);
        let seen = outer.scene.dialer(1000, 1000)?.udp_script(&script)?;
        let answered = seen.iter().any(|step| {
            let server = step.banner.as_ref().map(|banner| &banner.server);
            step.from == Some(to) && server.is_some_and(|server| server.starts_with("dns"))
        });
        ensure!(answered, "{seen:?}");
        let after = [hits(&outer, &inner)?, outer.hits()?];
        let counted = [moved(&before[0], &after[0]), moved(&before[1], &after[1])];
        ensure!(
            counted == [of_inner, of_outer],
            "to {to}: inner and outer counted {counted:?}"
        );
    }
    Ok(())
}
