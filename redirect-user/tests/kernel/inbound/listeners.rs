//! Which sockets of the proxy inbound connections go to.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::{Dial, DialOutcome, Serve, wait_until};

use super::{answered, every_port};
use crate::{
    Tested,
    harness::{IN_PORT, Redirected, Scene, at, dual_stack, netns},
};

const OWN: [&str; 2] = ["10.77.0.2", "fd00:77::2"];
const ANY: [&str; 2] = ["0.0.0.0", "::"];

/// Server answers the world at a port of the pod, in both families.
fn answers(pod: &Redirected, port: u16) -> Result<[String; 2]> {
    let who = |ip: &str| -> Result<String> {
        let dialled = pod.scene.world.dial(&Dial::to(at(ip, port)))?;
        Ok(if dialled.outcome == DialOutcome::Refused {
            "refused".to_owned()
        } else {
            answered(&dialled).to_owned()
        })
    };
    let [v4, v6] = OWN;
    Ok([who(v4)?, who(v6)?])
}

pub(super) fn the_proxy_may_start_before_or_after_the_attach() -> Tested {
    let pod = Redirected::attach("late", Scene::without_proxy("late")?, &every_port())?;
    // With the proxy down nobody gets to the application past it.
    ensure!(answers(&pod, 8080)? == ["refused", "refused"]);
    for round in 0..2 {
        for (name, any) in ["after4", "after6"].into_iter().zip(ANY) {
            pod.scene.proxy.serve(&Serve::new(name, at(any, IN_PORT)))?;
        }
        let seen = answers(&pod, 9999)?;
        ensure!(seen == ["after4", "after6"], "{round}: {seen:?}");
        for name in ["after4", "after6"] {
            pod.scene.proxy.stop_server(name)?;
        }
        let seen = answers(&pod, 8080)?;
        ensure!(seen == ["refused", "refused"], "{round}: {seen:?}");
    }
    for (name, any) in ["before4", "before6"].into_iter().zip(ANY) {
        pod.scene.proxy.serve(&Serve::new(name, at(any, IN_PORT)))?;
    }
    pod.detach()?;
    ensure!(answers(&pod, 8080)? == ["app4:8080", "app6:8080"]);
    let mut writer = pod.owner.writer()?;
    let netns = netns(&pod.scene.pod)?;
    writer.attach(&pod.cgroup, &netns, &dual_stack(&every_port()))?;
    // Found once more, and not kept twice.
    let attached = pod.pod(&writer)?;
    writer.update(&attached, Some(&netns), &dual_stack(&every_port()))?;
    let kept = writer.maps().inbound().listeners()?;
    ensure!(kept == 2, "{kept} sockets are kept");
    drop(writer);
    let seen = answers(&pod, 8080)?;
    ensure!(seen == ["before4", "before6"], "{seen:?}");
    Ok(())
}

/// Four workers before the attach and two after it. All get connections, and go on to when others
/// end, whichever they are.
pub(super) fn workers_that_share_a_port_replace_each_other() -> Tested {
    let scene = Scene::without_proxy("workers")?;
    let serve = |name: &str| Serve::new(name, at("0.0.0.0", IN_PORT)).reuse_port();
    for name in ["w0", "w1", "w2", "w3"] {
        scene.proxy.serve(&serve(name))?;
    }
    let pod = Redirected::attach("workers", scene, &every_port())?;
    for name in ["w4", "w5"] {
        pod.scene.proxy.serve(&serve(name))?;
    }
    let heard = |expected: &[&str]| -> Tested {
        let mut seen = BTreeSet::new();
        // The kernel chooses by a hash of the addresses: after so many, all had their turn.
        for _ in 0..400 {
            let dialled = pod.scene.world.dial(&Dial::to(at("10.77.0.2", 8080)))?;
            seen.insert(answered(&dialled).to_owned());
            if seen.len() == expected.len() {
                break;
            }
        }
        let expected: BTreeSet<_> = expected.iter().map(|name| (*name).to_owned()).collect();
        ensure!(seen == expected, "{seen:?} instead of {expected:?}");
        Ok(())
    };
    heard(&["w0", "w1", "w2", "w3", "w4", "w5"])?;
    for (gone, left) in [
        ("w0", &["w1", "w2", "w3", "w4", "w5"][..]),
        ("w5", &["w1", "w2", "w3", "w4"]),
        ("w2", &["w1", "w3", "w4"]),
        ("w1", &["w3", "w4"]),
        ("w3", &["w4"]),
    ] {
        pod.scene.proxy.stop_server(gone)?;
        heard(left)?;
    }
    pod.scene.proxy.stop_server("w4")?;
    ensure!(answers(&pod, 8080)? == ["refused", "refused"]);
    let forgotten = wait_until(std::time::Duration::from_secs(5), || {
        pod.owner
            .reader()
            .is_ok_and(|reader| reader.maps().inbound().listeners().is_ok_and(|n| n == 0))
    });
    ensure!(forgotten, "closed sockets are kept");
    Ok(())
}

/// Behind iptables such a proxy gets nothing from outside.
pub(super) fn a_proxy_that_listens_on_loopback_is_enough() -> Tested {
    let pod = Redirected::attach("onlo", Scene::without_proxy("onlo")?, &every_port())?;
    for (name, loopback) in [("lo4", "127.0.0.1"), ("lo6", "::1")] {
        pod.scene
            .proxy
            .serve(&Serve::new(name, at(loopback, IN_PORT)))?;
    }
    let seen = answers(&pod, 8080)?;
    ensure!(seen == ["lo4", "lo6"], "{seen:?}");
    Ok(())
}

pub(super) fn one_socket_may_serve_both_families() -> Tested {
    let both = Serve::new("both", at("::", IN_PORT)).dual_stack();
    let scene = Scene::without_proxy("dual")?;
    scene.proxy.serve(&both)?;
    let pod = Redirected::attach("dual", scene, &every_port())?;
    ensure!(answers(&pod, 8080)? == ["both", "both"]);
    pod.scene.proxy.stop_server("both")?;
    ensure!(answers(&pod, 8080)? == ["refused", "refused"]);
    pod.scene.proxy.serve(&both)?;
    ensure!(answers(&pod, 8080)? == ["both", "both"]);
    pod.scene.proxy.stop_server("both")?;
    // Of IPv6 alone, it leaves IPv4 to nobody.
    pod.scene
        .proxy
        .serve(&Serve::new("six", at("::", IN_PORT)))?;
    ensure!(answers(&pod, 8080)? == ["refused", "six"]);
    Ok(())
}

/// The kernel gives connections only to sockets of plain TCP. Nobody gets past the proxy then; and
/// where it listens already, the attach says so.
pub(super) fn a_multipath_listener_gets_nothing() -> Tested {
    let multipath = |name: &str| Serve::new(name, at("0.0.0.0", IN_PORT)).multipath();
    let pod = Redirected::attach("mpin", Scene::without_proxy("mpin")?, &every_port())?;
    pod.scene.proxy.serve(&multipath("after"))?;
    let seen = answers(&pod, 8080)?;
    ensure!(seen == ["refused", "refused"], "{seen:?}");
    let text = format!(
        "{:#}",
        pod.update(&every_port()).err().context("it was taken")?
    );
    ensure!(text.contains("MPTCP"), "{text}");
    pod.scene.proxy.stop_server("after")?;
    pod.detach()?;
    pod.scene.proxy.serve(&multipath("before"))?;
    let netns = netns(&pod.scene.pod)?;
    let mut writer = pod.owner.writer()?;
    let refused = writer.attach(&pod.cgroup, &netns, &dual_stack(&every_port()));
    let text = format!("{:#}", refused.err().context("it was taken")?);
    ensure!(text.contains("MPTCP"), "{text}");
    ensure!(writer.pods()?.is_empty(), "half applied");
    drop(writer);
    let seen = answers(&pod, 8080)?;
    ensure!(seen == ["app4:8080", "app6:8080"], "{seen:?}");
    Ok(())
}
