//! Inbound redirection during the life of a pod: updates, second pods, and removed namespaces.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use redirect_common::hooks::Hook;
use redirect_testkit::{Dial, Identity, Serve, WorkerCgroup, wait_until};
use redirect_user::{
    config::RedirectConfig,
    sys::{
        attached::netns_of_link,
        cgroup::Cgroup,
        netns::{NetnsFile, NetnsRef, NetnsSnapshot},
    },
};

use super::{
    answered,
    configs::{every_port, some_ports},
};
use crate::{
    Tested,
    harness::{Redirected, at, dual_stack, netns},
};

/// The servers that answer the world at two ports, of which only the first is in every list.
fn answers(pod: &Redirected) -> Result<[String; 2]> {
    let server = |port| -> Result<String> {
        let dialled = pod.scene.world.dial(&Dial::to(at("10.77.0.2", port)))?;
        Ok(answered(&dialled).to_owned())
    };
    Ok([server(8080)?, server(15001)?])
}

fn check_no_leftovers(pod: &Redirected) -> Tested {
    let reader = pod.owner.reader()?;
    let inbound = reader.maps().inbound();
    let link = reader.pins().link(pod.cgroup.id(), Hook::SkLookup);
    let (rows, listeners) = (inbound.pods()?, inbound.listeners()?);
    ensure!(
        rows.is_empty() && listeners == 0 && !link.exists(),
        "rows of {rows:?}, {listeners} sockets, link: {}",
        link.exists()
    );
    Ok(())
}

pub(super) fn inbound_is_switched_on_and_off_by_an_update() -> Tested {
    let pod = Redirected::new("switch", &RedirectConfig::default())?;
    let other_port = RedirectConfig {
        in_port: 15106,
        ..every_port()
    };
    pod.scene
        .proxy
        .serve(&Serve::new("other", at("0.0.0.0", 15106)))?;
    for _ in 0..2 {
        ensure!(answers(&pod)? == ["app4:8080", "out4:15001"]);
        check_no_leftovers(&pod)?;
        pod.update(&every_port())?;
        ensure!(answers(&pod)? == ["in4:15006", "in4:15006"]);
        pod.update(&some_ports())?;
        ensure!(answers(&pod)? == ["in4:15006", "out4:15001"]);
        pod.update(&other_port)?;
        ensure!(answers(&pod)? == ["other", "other"]);
        pod.update(&RedirectConfig::default())?;
    }
    pod.update(&every_port())?;
    // The namespace is known by now, so the update needs no process in it.
    let mut writer = pod.owner.writer()?;
    let attached = pod.pod(&writer)?;
    writer.update(&attached, None, &dual_stack(&some_ports()))?;
    drop(writer);
    ensure!(answers(&pod)? == ["in4:15006", "out4:15001"]);
    pod.detach()?;
    ensure!(answers(&pod)? == ["app4:8080", "out4:15001"]);
    check_no_leftovers(&pod)
}

pub(super) fn one_pod_of_a_namespace_has_its_inbound() -> Tested {
    let pod = Redirected::new("first", &every_port())?;
    let second = pod.scene.pod.second_cgroup("second")?;
    let cgroup = Cgroup::open(second.path())?;
    let netns = netns(&pod.scene.pod)?;
    let mut writer = pod.owner.writer()?;
    let refused = writer
        .attach(&cgroup, &netns, &every_port())
        .err()
        .context("a second pod's inbound was accepted")?;
    let (text, first) = (format!("{refused:#}"), pod.cgroup.path().display());
    ensure!(text.contains(&first.to_string()), "{text}");
    ensure!(writer.pods()?.len() == 1, "the attach was applied in part");

    // Without inbound redirection a second pod is accepted, and its listening sockets get no connections.
    writer.attach(&cgroup, &netns, &RedirectConfig::default())?;
    let theirs = writer.pod(cgroup.id(), cgroup.path())?;
    let refused = writer.update(&theirs, Some(&netns), &every_port());
    ensure!(refused.is_err(), "a second pod's inbound was accepted");
    drop(writer);
    pod.scene.proxy.stop_server("in4:15006")?;
    let impostor = pod
        .scene
        .pod
        .worker(&Identity::proxy().cgroup(WorkerCgroup::Folder(second.app())))?;
    impostor.serve(&Serve::new("impostor", at("0.0.0.0", 15006)))?;
    let dialled = pod.scene.world.dial(&Dial::to(at("10.77.0.2", 8080)))?;
    ensure!(answered(&dialled) == "none", "{dialled:?}");
    Ok(())
}

/// Otherwise every connection to the machine would go to the pod's proxy.
pub(super) fn the_machines_own_namespace_is_refused() -> Tested {
    // If the tests run in a container, their namespace is not the machine's.
    if !Path::new("/proc/sys/net/core/netdev_max_backlog").exists() {
        return Ok(());
    }
    let pod = Redirected::new("machine", &RedirectConfig::default())?;
    let machine = NetnsSnapshot::read(&NetnsRef::Own)?;
    let mut writer = pod.owner.writer()?;
    let attached = pod.pod(&writer)?;
    let refused = writer.update(&attached, Some(&machine), &every_port());
    let text = format!(
        "{:#}",
        refused
            .err()
            .context("the machine's namespace was accepted")?
    );
    ensure!(text.contains("the machine's own"), "{text}");
    drop(writer);
    check_no_leftovers(&pod)
}

/// The cgroup stays, but its network namespace ends.
pub(super) fn leftovers_of_a_removed_namespace_are_collected() -> Tested {
    let pod = Redirected::new("outlives", &every_port())?;
    let doomed = crate::harness::Scene::new("ends")?;
    let second = Cgroup::open(doomed.pod.cgroup().path())?;
    // The cgroup is in the first pod, and its namespace is the second pod's.
    let own = pod.scene.pod.second_cgroup("elsewhere")?;
    let cgroup = Cgroup::open(own.path())?;
    let namespace = netns(&doomed.pod)?;
    let mut writer = pod.owner.writer()?;
    writer.attach(&cgroup, &namespace, &every_port())?;
    let link = writer.pins().link(cgroup.id(), Hook::SkLookup);
    ensure!(netns_of_link(&link)? == namespace.file.as_ref().map(NetnsFile::inode));
    drop((writer, namespace, second, doomed));
    // The kernel removes a namespace some time after its last user.
    let ended = wait_until(Duration::from_secs(20), || {
        netns_of_link(&link).is_ok_and(|inode| inode.is_none())
    });
    ensure!(ended, "the namespace is still there");
    drop(pod.owner.writer()?);
    let reader = pod.owner.reader()?;
    let rows = reader.maps().inbound().pods()?;
    ensure!(
        rows.iter().eq([&pod.cgroup.id()]) && fs::metadata(&link).is_err(),
        "{rows:?}"
    );
    // Outbound redirection of the cgroup continues, and so does the other pod.
    ensure!(reader.pods()?.len() == 2);
    ensure!(answers(&pod)? == ["in4:15006", "in4:15006"]);
    Ok(())
}
