//! Failures below the agent: of file systems, maps and memory. Attachments stay, and the agent recovers.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    net::Ipv4Addr,
};

use anyhow::ensure;
use redirect_testkit::{AttachFlags, MemoryLimit, Mount, SocketLb, cases};
use redirect_user::bpf::Pins;
use rustix::process::Signal;

use crate::{
    Cases, Needs, Tested,
    node::Node,
    scene::{NEW, OLD, Scene, proxy_of_round},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        a_read_only_bpf_file_system_is_reported_and_nothing_is_lost,
        a_full_disk_under_the_log_stops_nothing,
        a_workload_without_a_link_is_repaired_and_reported,
        a_workload_that_the_kernel_refuses_fails_alone,
    ],
    Needs::MemoryLimit => [
        an_agent_without_memory_ends_and_the_next_one_continues,
    ],
};

fn a_read_only_bpf_file_system_is_reported_and_nothing_is_lost() -> Tested {
    let (bpffs, shop) = (Mount::new("ro", "bpf", "rw")?, Scene::new("ro")?);
    let node = Node::on(bpffs.path(), "ro");
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start();
    ensure!(shop.reached()? == "old");
    bpffs.remount("ro")?;
    node.describe("shop", &shop.description(NEW, ""));
    let failures = || agent.metric("redirect_agent_reconcile_errors_total", &[]);
    agent.until("counted", || failures() > 1);
    ensure!(
        agent.log().contains("Read-only file system"),
        "{}",
        agent.log()
    );
    let try_metric = agent.log().matches("reconcile failed: ").count();
    ensure!(try_metric == 1, "once: {}", agent.log());
    ensure!(agent.metric("redirect_agent_maps_readable", &[]) == 0);
    ensure!(agent.get("/healthz").starts_with("HTTP/1.1 200"));
    ensure!(shop.reached()? == "old");
    bpffs.remount("rw")?;
    agent.until("the edit", || shop.reaches("new"));
    ensure!(agent.metric("redirect_agent_maps_readable", &[]) == 1);
    Ok(())
}

fn a_full_disk_under_the_log_stops_nothing() -> Tested {
    let (disk, shop) = (
        Mount::new("full", "tmpfs", "size=16k")?,
        Scene::new("full")?,
    );
    let node = Node::new("full");
    node.describe("shop", &shop.description(OLD, ""));
    let log = disk.path().join("log");
    let agent = node.start_logging_to(&log, &[], &["--log-level", "debug"]);
    agent.until_ready();
    let mut filler = File::create(disk.path().join("filler"))?;
    // A larger piece might leave some room.
    while filler.write_all(b"0").is_ok() {}
    // The last page of the log has some room left.
    let mut sizes = vec![agent.log().len()];
    let is_full =
        |sizes: &[usize]| sizes.len() > 4 && sizes[sizes.len() - 4] == sizes[sizes.len() - 1];
    while !is_full(&sizes) {
        ensure!(sizes.len() < 100, "the disk does not get full");
        let (port, name) = proxy_of_round(sizes.len() - 1);
        node.describe("shop", &shop.description(port, ""));
        agent.until("an edit", || shop.reaches(name));
        let updates = || agent.metric("redirect_agent_actions_total", &["update", "ok"]);
        let count = u64::try_from(sizes.len())?;
        agent.until("counted", || updates() == count);
        sizes.push(agent.log().len());
    }
    drop(filler);
    fs::remove_file(disk.path().join("filler"))?;
    let full = agent.log().len();
    node.describe("shop", &shop.description(OLD, ", -x, 10.0.0.0/8"));
    agent.until("there is room again", || agent.log().len() > full);
    ensure!(agent.end(Signal::TERM) == Some(0));
    Ok(())
}

/// The numbers from 1 on, as a list.
fn numbers(up_to: u32) -> String {
    let mut list = String::from("1");
    for number in 2..=up_to {
        write!(list, ",{number}").unwrap();
    }
    list
}

fn a_workload_that_the_kernel_refuses_fails_alone() -> Tested {
    let node = Node::new("limit");
    let (first, last) = (Scene::new("limit-a")?, Scene::new("limit-b")?);
    let ports = format!(", -o, '{}'", numbers(65_535));
    node.describe("first", &first.description(OLD, &ports));
    let agent = node.start();
    // The kernel allows no link on the cgroup of such a program. It changes no connection of this test.
    let (service, backend) = ("198.51.100.99:9".parse()?, "198.51.100.98:9".parse()?);
    let foreign = SocketLb::attach_with(&last.pod, service, backend, AttachFlags::None)?;
    node.describe("last", &last.description(OLD, ""));
    let in_state = |state| agent.metric("redirect_agent_workloads", &[state]);
    agent.until("it fails", || in_state("failed") == 1);
    ensure!(in_state("attached") == 1, "{}", agent.log());
    ensure!(
        agent.log().contains("\\\"socket_lb\\\" (id "),
        "{}",
        agent.log()
    );
    ensure!(agent.metric("redirect_agent_workload_error", &["workload=\"last\""]) == 1);
    let level = |name, map| agent.metric(name, &[map]);
    let ports = "map=\"PORTS\"";
    ensure!(level("redirect_map_entries", ports) == 65_535);
    ensure!(level("redirect_map_capacity", ports) == 131_072);
    ensure!(agent.is_ready(), "the others are as described");
    // Port 80 is among the excluded ports; the pod that could not be attached connects directly.
    ensure!(first.reached()? == "world" && last.reached()? == "world");
    node.describe("first", &first.description(NEW, ""));
    agent.until("others can be changed", || first.reaches("new"));
    drop(foreign);
    agent.until("a retry succeeds once the program is gone", || {
        in_state("attached") == 2
    });
    ensure!(node.pods().len() == 2);
    Ok(())
}

fn an_agent_without_memory_ends_and_the_next_one_continues() -> Tested {
    let limited = MemoryLimit::new("agent")?;
    let (node, shop) = (Node::new("memory"), Scene::new("memory")?);
    node.describe("shop", &shop.description(OLD, ""));
    let inside = limited.wrapper();
    let inside = inside.each_ref().map(String::as_str);
    let mut agent = node.start_by(&inside, &[]);
    agent.until_ready();
    ensure!(shop.reached()? == "old");
    // The memory of the maps is charged to the agent that made them. The descriptions grow until it exceeds
    // the limit.
    limited.set(48 << 20)?;
    let ranges: Vec<_> = (0..50_000_u32)
        .map(|number| Ipv4Addr::from_bits(0x0b00_0000 + number * 16))
        .map(|first| format!("{first}/28"))
        .collect();
    for number in 0..40 {
        let text = shop.description(OLD, &format!(", -x, '{}'", ranges.join(",")));
        node.describe(&format!("large-{number}"), &text);
    }
    let status = agent.status();
    ensure!(
        status.is_none(),
        "a signal ends it: {status:?}, {}",
        agent.log()
    );
    drop(agent);
    ensure!(shop.reached()? == "old", "no agent runs");
    for number in 0..40 {
        node.forget(&format!("large-{number}"));
    }
    node.describe("shop", &shop.description(NEW, ""));
    let agent = node.start_by(&inside, &[]);
    agent.until("the next agent updates", || shop.reaches("new"));
    Ok(())
}

fn a_workload_without_a_link_is_repaired_and_reported() -> Tested {
    let (node, shop) = (Node::new("mend"), Scene::new("mend")?);
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start();
    ensure!(shop.reached()? == "old");
    let pods = Pins::new(node.state_dir()).pod(node.pods()[0].id);
    let repaired = || agent.metric("redirect_agent_actions_total", &["repair", "ok"]);
    ensure!(repaired() == 0);
    for (hook, count) in [("connect4", 1), ("sock_ops", 2)] {
        fs::remove_file(pods.join(hook))?;
        let labels = [&*format!("hook=\"{hook}\""), "workload=\"shop\""];
        let missing = || agent.metric("redirect_program_missing", &labels);
        agent.until("the metrics name the program", || missing() == 1);
        agent.until("the program is attached again", || repaired() == count);
        ensure!(pods.join(hook).exists() && shop.reached()? == "old");
        agent.until("the metrics name it no more", || missing() == 0);
        let said = format!("repaired: {hook}: its link is gone");
        ensure!(agent.log().contains(&said), "{}", agent.log());
    }
    ensure!(agent.end(Signal::TERM) == Some(0));
    Ok(())
}
