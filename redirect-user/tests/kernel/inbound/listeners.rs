//! The listening sockets of the proxy that inbound connections go to.

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

/// The servers that answer the world at a port of the pod, by IPv4 and by IPv6.
fn answers(pod: &Redirected, port: u16) -> Result<[String; 2]> {
    let server = |ip: &str| -> Result<String> {
        let dialled = pod.scene.world.dial(&Dial::to(at(ip, port)))?;
        Ok(if dialled.outcome == DialOutcome::Refused {
            "refused".to_owned()
        } else {
            answered(&dialled).to_owned()
        })
    };
    let [v4, v6] = OWN;
    Ok([server(v4)?, server(v6)?])
}

pub(super) fn the_proxy_may_start_before_or_after_the_attach() -> Tested {
    let pod = Redirected::attach("late", Scene::without_proxy("late")?, &every_port())?;
    // While the proxy does not listen, no connection bypasses it.
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
    // The update finds the same sockets once more, and does not keep them twice.
    let attached = pod.pod(&writer)?;
    writer.update(&attached, Some(&netns), &dual_stack(&every_port()))?;
    let kept = writer.maps().inbound().listeners()?;
    ensure!(kept == 2, "{kept} sockets are kept");
    drop(writer);
    let seen = answers(&pod, 8080)?;
    ensure!(seen == ["before4", "before6"], "{seen:?}");
    Ok(())
}

/// Four workers of the proxy start before the attach and two after it. All get connections, and continue to when others
/// end, in any order.
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
        // The kernel chooses a worker by a hash of the addresses: 400 connections reach every worker.
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

/// Behind iptables such a proxy gets no connection from outside.
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
    // A listener of IPv6 alone leaves IPv4 refused.
    pod.scene
        .proxy
        .serve(&Serve::new("six", at("::", IN_PORT)))?;
    ensure!(answers(&pod, 8080)? == ["refused", "six"]);
    Ok(())
}

/// The kernel assigns connections to plain TCP sockets only. No connection bypasses the proxy then, and an attach fails
/// if such a listener exists already.
pub(super) fn a_multipath_listener_gets_nothing() -> Tested {
    let multipath = |name: &str| Serve::new(name, at("0.0.0.0", IN_PORT)).multipath();
    let pod = Redirected::attach("mpin", Scene::without_proxy("mpin")?, &every_port())?;
    pod.scene.proxy.serve(&multipath("after"))?;
    let seen = answers(&pod, 8080)?;
    ensure!(seen == ["refused", "refused"], "{seen:?}");
    let text = format!(
        "{:#}",
        pod.update(&every_port())
            .err()
            .context("the multipath listener was accepted")?
    );
    ensure!(text.contains("MPTCP"), "{text}");
    pod.scene.proxy.stop_server("after")?;
    pod.detach()?;
    pod.scene.proxy.serve(&multipath("before"))?;
    let netns = netns(&pod.scene.pod)?;
    let mut writer = pod.owner.writer()?;
    let refused = writer.attach(&pod.cgroup, &netns, &dual_stack(&every_port()));
    let text = format!(
        "{:#}",
        refused
            .err()
            .context("the multipath listener was accepted")?
    );
    ensure!(text.contains("MPTCP"), "{text}");
    ensure!(writer.pods()?.is_empty(), "the attach was applied in part");
    drop(writer);
    let seen = answers(&pod, 8080)?;
    ensure!(seen == ["app4:8080", "app6:8080"], "{seen:?}");
    Ok(())
}
