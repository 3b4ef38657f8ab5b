//! As many pods as a node has: all are attached correctly, at a measured cost.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::{
    Fleet, FleetPod, Identity, Serve, Worker, cases, processor_time, resident_memory, wait_until,
};
use redirect_user::node::{Pod, Reader};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    Cases, Needs, Tested,
    agent_process::Agent,
    kube::{EXCLUDED, KubeNode},
    node::Node,
    scene::{NEW, OLD, proxy_of_round, reached, reaches},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        fifty_pods_of_files_are_attached_as_described,
        fifty_pods_of_a_kubelet_are_attached_as_described,
    ],
};

pub(crate) const SOAKS: &[Cases] = cases! {
    Needs::Pods => [
        soak_fleet_of_100_is_attached,
        soak_fleet_of_250_is_attached,
        soak_fleet_of_500_is_attached,
    ],
};

/// Longer than any wait of these tests, with a whole node.
const LIMIT: Duration = Duration::from_mins(5);

/// Number of pods, and size of their policies.
#[derive(Clone, Copy, Debug)]
struct Scale {
    pods: usize,
    ranges: usize,
    /// Whether each pod has ranges of its own.
    distinct: bool,
}

impl Scale {
    /// The ranges of a pod: neighbours, so that a missing one shows.
    fn ranges(self, pod: usize) -> String {
        let first = if self.distinct { pod * self.ranges } else { 0 };
        let range = |number: usize| {
            let offset = u32::try_from(number * 16).unwrap();
            format!("{}/28", Ipv4Addr::from_bits(0x0b00_0000 + offset))
        };
        let all: Vec<_> = (first..first + self.ranges).map(range).collect();
        all.join(",")
    }
}

/// The pods, with a process in each: application and proxy in one.
struct Pods {
    fleet: Fleet,
    processes: Vec<Worker>,
}

impl Pods {
    fn new(name: &str, count: usize) -> Result<Self> {
        let fleet = Fleet::new(name, count)?;
        let processes = fleet.pods().iter().map(process);
        Ok(Self {
            processes: processes.collect::<Result<_>>()?,
            fleet,
        })
    }

    /// Checks that every application reaches this server, with the right original destination.
    fn check(&self, expected: &str) -> Tested {
        for (member, process) in self.fleet.pods().iter().zip(&self.processes) {
            let found = reached(process)?;
            ensure!(found == expected, "pod {}: {found}", member.uid());
        }
        Ok(())
    }
}

fn process(member: &FleetPod) -> Result<Worker> {
    let process = member.worker(&Identity::app())?;
    for (name, port) in [("old", OLD), ("new", NEW)] {
        process.serve(&Serve::new(name, SocketAddr::from(([0, 0, 0, 0], port))))?;
    }
    Ok(process)
}

fn text(member: &FleetPod, port: u16, ranges: &str) -> String {
    let cgroup = member.cgroup().display();
    format!("cgroup: {cgroup}\nargs: [-p, {port}, -i, '*', -x, '{ranges}']\n")
}

fn attached(agent: &Agent) -> u64 {
    agent.metric("redirect_agent_workloads", &["state=\"attached\""])
}

fn actions(agent: &Agent) -> u64 {
    agent.metric("redirect_agent_actions_total", &[])
}

fn fifty_pods_of_files_are_attached_as_described() -> Tested {
    let scale = Scale {
        pods: 50,
        ranges: 100,
        distinct: true,
    };
    let (node, pods) = (Node::new("fleet"), Pods::new("fleet", scale.pods)?);
    let members = pods.fleet.pods();
    let describe = |number: usize, port| {
        let text = text(&members[number], port, &scale.ranges(number));
        node.describe(&format!("{number}"), &text);
    };
    // Some are named by their network namespace.
    for (number, member) in members.iter().enumerate() {
        describe(number, OLD);
        if number.is_multiple_of(2) {
            let text = text(member, OLD, &scale.ranges(number));
            let netns = member.namespace();
            let named = format!("{text}netns: {}\n", netns.display());
            node.describe(&format!("{number}"), &named);
        }
    }
    // The soft limit is below the number of descriptors that the agent opens: the agent raises it.
    let agent = node.start_limited(100, 4096);
    agent.until_ready();
    ensure!(attached(&agent) == 50, "{}", agent.log());
    pods.check("old")?;
    // Editing one workload changes no other.
    let before = node.pods();
    describe(7, NEW);
    agent.until("the edited one", || reaches(&pods.processes[7], "new"));
    let id = redirect_user::sys::cgroup::Cgroup::open(members[7].cgroup())?.id();
    let but = |pods: Vec<Pod>| pods.into_iter().filter(move |pod| pod.id != id);
    ensure!(but(node.pods()).eq(but(before)), "others were changed");
    agent.until("counted", || actions(&agent) == 51);
    // A new agent finds everything attached.
    agent.end(Signal::KILL);
    let agent = node.start();
    ensure!(attached(&agent) == 50 && actions(&agent) == 0);
    ensure!(node.pods().len() == 50);
    describe(7, OLD);
    for number in 25..50 {
        node.forget(&number.to_string());
    }
    agent.until("half of them are detached", || node.pods().len() == 25);
    agent.until("counted", || attached(&agent) == 25);
    for (number, process) in pods.processes.iter().enumerate() {
        let expected = if number < 25 { "old" } else { "ENETUNREACH" };
        let found = reached(process)?;
        ensure!(found.contains(expected), "{number}: {found}");
    }
    Ok(())
}

fn fifty_pods_of_a_kubelet_are_attached_as_described() -> Tested {
    let scale = Scale {
        pods: 50,
        ranges: 20,
        distinct: false,
    };
    let (kube, pods) = (
        KubeNode::new("fleet-kube")?,
        Pods::new("crowdk", scale.pods)?,
    );
    for (number, member) in pods.fleet.pods().iter().enumerate() {
        kube.put(member.uid(), &json!({(EXCLUDED): scale.ranges(number)}));
    }
    let agent = kube.start();
    ensure!(attached(&agent) == 50, "{}", agent.log());
    pods.check("old")?;
    agent.end(Signal::KILL);
    let agent = kube.start();
    ensure!(attached(&agent) == 50 && actions(&agent) == 0);
    pods.check("old")
}

/// Measured figures, one line each.
#[derive(Debug, Default)]
struct Figures(Vec<String>);

impl Figures {
    #[expect(clippy::print_stderr, reason = "a long test says how far it is")]
    fn note(&mut self, scale: Scale, what: &str, value: f64, unit: &str) {
        let Scale {
            pods,
            ranges,
            distinct,
        } = scale;
        let line = format!("{pods},{ranges},{distinct},{what},{value:.3},{unit}");
        eprintln!("{line}");
        self.0.push(line);
    }

    fn write(&self, pods: usize) -> Result<PathBuf> {
        let name = format!("fleet-of-{pods}.csv");
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let text = format!(
            "pods,ranges,distinct,what,value,unit\n{}\n",
            self.0.join("\n")
        );
        fs::write(&path, text).with_context(|| format!("write \"{}\"", path.display()))?;
        Ok(path)
    }
}

fn soak_fleet_of_100_is_attached() -> Tested {
    measure_fleet(100)
}

fn soak_fleet_of_250_is_attached() -> Tested {
    measure_fleet(250)
}

fn soak_fleet_of_500_is_attached() -> Tested {
    measure_fleet(500)
}

/// Measures whole nodes: a table for a plot.
#[expect(clippy::print_stderr, reason = "a long test says how far it is")]
fn measure_fleet(pods: usize) -> Tested {
    let mut figures = Figures::default();
    let fleet = Pods::new("soak", pods)?;
    for (ranges, distinct) in [(0, false), (1000, false), (1000, true)] {
        let scale = Scale {
            pods,
            ranges,
            distinct,
        };
        measure(scale, &fleet, &mut figures)?;
    }
    eprintln!("the figures are in {}", figures.write(pods)?.display());
    Ok(())
}

fn measure(scale: Scale, pods: &Pods, figures: &mut Figures) -> Tested {
    let node = Node::new("soak-fleet");
    let mut note = |what: &str, value: f64, unit: &str| figures.note(scale, what, value, unit);
    let members = pods.fleet.pods();
    for (number, member) in members.iter().enumerate() {
        let text = text(member, OLD, &scale.ranges(number));
        node.describe(&number.to_string(), &text);
    }
    let (agent, taken) = timed_start(&node);
    let count = u32::try_from(scale.pods)?;
    note("attach all", taken.as_secs_f64(), "s");
    note(
        "attach one of them",
        (taken / count).as_secs_f64() * 1e3,
        "ms",
    );
    ensure!(attached(&agent) == u64::from(count), "{}", agent.log());
    pods.check("old")?;

    let reader = Reader::open(node.state_dir())?.context("nothing is attached")?;
    let bytes: u64 = reader.memory()?.iter().map(|map| map.bytes).sum();
    drop(reader);
    note("maps", mebibytes(bytes), "MiB");
    note("agent", mebibytes(resident_memory(agent.pid())?), "MiB");

    let begun = Instant::now();
    ensure!(attached(&agent) == u64::from(count));
    note("scrape", begun.elapsed().as_secs_f64() * 1e3, "ms");

    note("idle", idle(&agent)? * 100.0, "% of a core");

    let mut edits = Vec::new();
    for round in 0..5 {
        let (port, name) = proxy_of_round(round);
        let begun = Instant::now();
        node.describe("1", &text(&members[1], port, &scale.ranges(1)));
        let is_so = || reaches(&pods.processes[1], name);
        ensure!(wait_until(LIMIT, is_so), "{}", agent.log());
        edits.push(begun.elapsed());
    }
    edits.sort_unstable();
    note("edit one, median of 5", edits[2].as_secs_f64() * 1e3, "ms");

    agent.end(Signal::KILL);
    node.describe("1", &text(&members[1], OLD, &scale.ranges(1)));
    let (agent, taken) = timed_start(&node);
    note("restart", taken.as_secs_f64(), "s");
    ensure!(actions(&agent) == 1, "more than an edit: {}", agent.log());
    // One pod stays.
    let begun = Instant::now();
    for number in 1..scale.pods {
        node.forget(&number.to_string());
    }
    ensure!(
        wait_until(LIMIT, || node.pods().len() == 1),
        "{}",
        agent.log()
    );
    note("detached", begun.elapsed().as_secs_f64(), "s");
    agent.end(Signal::TERM);

    let begun = Instant::now();
    ensure!(node.run(&["cleanup"]).status == Some(0));
    note("cleanup", begun.elapsed().as_secs_f64(), "s");
    Ok(())
}

/// Part of a core that an idle agent uses.
fn idle(agent: &Agent) -> Result<f64> {
    // The first seconds are those in which it begins to follow the pods.
    wait_until(Duration::from_secs(10), || false);
    let (before, begun) = (processor_time(agent.pid())?, Instant::now());
    wait_until(Duration::from_secs(30), || false);
    let taken = processor_time(agent.pid())?.saturating_sub(before);
    Ok(taken.as_secs_f64() / begun.elapsed().as_secs_f64())
}

fn timed_start(node: &Node) -> (Agent, Duration) {
    let begun = Instant::now();
    let agent = node.start_with(&[]);
    assert!(wait_until(LIMIT, || agent.is_ready()), "{}", agent.log());
    (agent, begun.elapsed())
}

fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0
}
