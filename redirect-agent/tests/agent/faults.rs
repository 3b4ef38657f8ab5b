//! What the agent says and does while what it stands on fails; what is attached goes on, and it recovers.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use redirect_testkit::{Identity, Mount, Place, Pod, skip_or_fail, unified_mount, wait_until};
use redirect_user::{node::Reader, sys::cgroup::Cgroup};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    Test, Tested,
    kube::{EXCLUDED, Kubelet},
    node::{Agent, Node},
    scene::{NEW, OLD, Scene},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_read_only_bpf_file_system_is_named_and_nothing_is_lost",
        a_read_only_bpf_file_system_is_named_and_nothing_is_lost,
    ),
    (
        "a_full_disk_below_the_log_does_not_matter",
        a_full_disk_below_the_log_does_not_matter,
    ),
    (
        "a_full_map_is_one_workloads_trouble",
        a_full_map_is_one_workloads_trouble,
    ),
    (
        "an_agent_that_starts_without_its_api_server_changes_nothing",
        an_agent_that_starts_without_its_api_server_changes_nothing,
    ),
    (
        "a_cgroup_that_is_made_anew_again_and_again_is_attached_in_the_end",
        a_cgroup_that_is_made_anew_again_and_again_is_attached_in_the_end,
    ),
    (
        "an_agent_that_was_stopped_goes_on",
        an_agent_that_was_stopped_goes_on,
    ),
    (
        "a_process_in_another_namespace_is_noticed",
        a_process_in_another_namespace_is_noticed,
    ),
    (
        "a_clock_that_jumps_changes_nothing",
        a_clock_that_jumps_changes_nothing,
    ),
    (
        "an_agent_without_memory_ends_and_the_next_goes_on",
        an_agent_without_memory_ends_and_the_next_goes_on,
    ),
];

fn is_ready(agent: &Agent) -> bool {
    agent.get("/readyz").starts_with("HTTP/1.1 200")
}

fn a_read_only_bpf_file_system_is_named_and_nothing_is_lost() -> Tested {
    let (bpffs, shop) = (Mount::new("ro", "bpf", "rw")?, Scene::new("ro")?);
    let node = Node::on(bpffs.path(), "ro");
    node.describe("shop", &shop.to(OLD, ""));
    let agent = node.start();
    ensure!(shop.who()? == "old");
    bpffs.remount("ro")?;
    node.describe("shop", &shop.to(NEW, ""));
    let failures = || agent.metric("redirect_agent_reconcile_errors_total", &[]);
    agent.until("counted", || failures() > 1);
    ensure!(
        agent.log().contains("Read-only file system"),
        "{}",
        agent.log()
    );
    let told = agent.log().matches("reconcile: ").count();
    ensure!(told == 1, "once: {}", agent.log());
    ensure!(agent.metric("redirect_agent_maps_readable", &[]) == 0);
    ensure!(agent.get("/healthz").starts_with("HTTP/1.1 200"));
    ensure!(shop.who()? == "old");
    bpffs.remount("rw")?;
    agent.until("the edit", || shop.is("new"));
    ensure!(agent.metric("redirect_agent_maps_readable", &[]) == 1);
    Ok(())
}

fn a_full_disk_below_the_log_does_not_matter() -> Tested {
    let (disk, shop) = (
        Mount::new("full", "tmpfs", "size=16k")?,
        Scene::new("full")?,
    );
    let node = Node::new("full");
    node.describe("shop", &shop.to(OLD, ""));
    let log = disk.path().join("log");
    let agent = node.start_logging_to(&log, &[], &["--log-level", "debug"]);
    agent.until_ready();
    let mut filler = File::create(disk.path().join("filler"))?;
    // Byte by byte: a larger piece might leave some room.
    while filler.write_all(b"0").is_ok() {}
    // Its last page has some room left.
    let mut sizes = vec![agent.log().len()];
    let is_full =
        |sizes: &[usize]| sizes.len() > 4 && sizes[sizes.len() - 4] == sizes[sizes.len() - 1];
    while !is_full(&sizes) {
        ensure!(sizes.len() < 100, "it does not get full");
        let (port, name) = if sizes.len() % 2 == 0 {
            (OLD, "old")
        } else {
            (NEW, "new")
        };
        node.describe("shop", &shop.to(port, ""));
        agent.until("an edit", || shop.is(name));
        let updates = || agent.metric("redirect_agent_actions_total", &["update", "ok"]);
        let count = u64::try_from(sizes.len())?;
        agent.until("counted", || updates() == count);
        sizes.push(agent.log().len());
    }
    drop(filler);
    fs::remove_file(disk.path().join("filler"))?;
    let full = agent.log().len();
    node.describe("shop", &shop.to(OLD, ", -x, 10.0.0.0/8"));
    agent.until("there is room again", || agent.log().len() > full);
    ensure!(agent.end(Signal::TERM) == Some(0));
    Ok(())
}

/// Arguments with as many single ports as there are.
fn all_ports(scene: &Scene, up_to: u32) -> String {
    let mut ports = String::from("1");
    for port in 2..=up_to {
        write!(ports, ",{port}").unwrap();
    }
    scene.to(OLD, &format!(", -o, '{ports}'"))
}

fn a_full_map_is_one_workloads_trouble() -> Tested {
    let node = Node::new("brim");
    // Room for 4 times 65,536 ports.
    let scenes: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| Scene::new(&format!("brim-{name}")))
        .collect::<Result<_, _>>()?;
    let last = Scene::new("brim-e")?;
    for (number, scene) in scenes.iter().enumerate() {
        node.describe(&format!("{number}"), &all_ports(scene, 65_535));
    }
    let agent = node.start();
    node.describe("last", &all_ports(&last, 100));
    let in_state = |state| agent.metric("redirect_agent_workloads", &[state]);
    agent.until("it fails", || in_state("failed") == 1);
    ensure!(in_state("attached") == 4, "{}", agent.log());
    ensure!(agent.log().contains("is the map full?"), "{}", agent.log());
    ensure!(agent.metric("redirect_agent_workload_error", &["workload=\"last\""]) == 1);
    let level = |name| agent.metric(name, &["map=\"PORTS\""]);
    ensure!(level("redirect_map_entries") + 100 > level("redirect_map_capacity"));
    ensure!(is_ready(&agent), "the others are as described");
    // Port 80 is among those excluded; whoever could not be attached is left alone.
    ensure!(scenes[0].who()? == "world" && last.who()? == "world");
    node.describe("0", &scenes[0].to(NEW, ""));
    agent.until("others can be changed", || scenes[0].is("new"));
    agent.until("there is room, and it is tried again", || {
        in_state("attached") == 5
    });
    ensure!(node.pods().len() == 5);
    Ok(())
}

fn an_agent_that_starts_without_its_api_server_changes_nothing() -> Tested {
    let kubelet = Kubelet::new("without")?;
    let shop = Scene::of(Pod::of_kubelet("without", "without-1")?)?;
    kubelet.put("without-1", &json!({}));
    let agent = kubelet.start();
    ensure!(shop.who()? == "old");
    let attached = kubelet.node.pods();
    kubelet.server.down();
    kubelet.put("without-1", &json!({(EXCLUDED): "36.152.44.0/24"}));
    agent.until("it is known", || {
        agent.metric("redirect_agent_source_up", &["source=\"kube\""]) == 0
    });
    // One that knew the pods has them, and is ready; one that starts now cannot know them.
    ensure!(is_ready(&agent));
    agent.end(Signal::KILL);
    let agent = kubelet.start_with(&[]);
    agent.until("it says what it waits for", || {
        agent.get("/readyz").contains("source kube: ")
    });
    ensure!(!is_ready(&agent) && agent.get("/healthz").starts_with("HTTP/1.1 200"));
    ensure!(agent.metric("redirect_agent_source_up", &["source=\"kube\""]) == 0);
    ensure!(
        agent.metric("redirect_connections_total", &[]) > 0,
        "what counts goes on"
    );
    ensure!(shop.who()? == "old" && kubelet.node.pods() == attached);
    kubelet.server.up();
    agent.until("what was missed", || shop.is("world"));
    agent.until("ready", || is_ready(&agent));
    Ok(())
}

fn a_cgroup_that_is_made_anew_again_and_again_is_attached_in_the_end() -> Tested {
    let kubelet = Kubelet::new("anew")?;
    // The kubelet's class folders stay; the pod's own comes and goes, as when a kubelet starts anew.
    let keep = Scene::of(Pod::of_kubelet("anew-keep", "anew-keep")?)?;
    kubelet.put("anew-keep", &json!({}));
    let besteffort = keep.pod.cgroup().path().parent().unwrap().to_owned();
    kubelet.put("anew-1", &json!({}));
    let agent = kubelet.start();
    let folder = besteffort.join("podanew-1");
    let mut last = 0;
    for round in 0..30 {
        fs::create_dir(&folder)?;
        let id = Cgroup::open(&folder)?.id();
        ensure!(id != last, "round {round}: the kernel has used an id again");
        last = id;
        let root = Identity::root().at(Place::At(folder.clone()));
        let process = keep.pod.world().worker(&root)?;
        if round % 3 == 0 {
            agent.until("attached", || {
                kubelet.node.pods().iter().any(|pod| pod.id == id)
            });
        }
        drop(process);
        ensure!(
            wait_until(Duration::from_secs(10), || fs::remove_dir(&folder).is_ok()),
            "it does not go"
        );
    }
    agent.until("collected", || kubelet.node.pods().len() == 1);
    ensure!(keep.who()? == "old");
    ensure!(agent.metric("redirect_agent_reconcile_errors_total", &[]) == 0);
    Ok(())
}

fn an_agent_that_was_stopped_goes_on() -> Tested {
    let (node, shop, cart) = (
        Node::new("stopped"),
        Scene::new("stopped")?,
        Scene::new("stopped-cart")?,
    );
    node.describe("shop", &shop.to(OLD, ""));
    let agent = node.start();
    for round in 0..10 {
        agent.signal(Signal::STOP);
        let (port, name) = if round % 2 == 0 {
            (NEW, "new")
        } else {
            (OLD, "old")
        };
        let before = if round % 2 == 0 { "old" } else { "new" };
        node.describe("shop", &shop.to(port, ""));
        if round == 4 {
            node.describe("cart", &cart.to(OLD, ""));
        }
        ensure!(shop.who()? == before, "nobody has told it yet");
        agent.signal(Signal::CONT);
        agent.until("what it missed", || shop.is(name));
    }
    agent.until("what is new", || cart.is("old"));
    ensure!(agent.get("/healthz").starts_with("HTTP/1.1 200") && is_ready(&agent));
    // Stopped while it works: others wait for the lock, and nothing is half done.
    for round in 0..10 {
        node.describe(
            "shop",
            &shop.to(
                if round % 2 == 0 { NEW } else { OLD },
                &format!(", -x, 10.{round}.0.0/16"),
            ),
        );
        agent.signal(Signal::STOP);
        ensure!(["old", "new"].contains(&shop.who()?.as_str()));
        agent.signal(Signal::CONT);
    }
    agent.until("the last", || shop.is("old"));
    let reader = Reader::open(node.owner())?;
    ensure!(reader.is_some_and(|reader| !reader.has_leftovers().unwrap_or(true)));
    Ok(())
}

fn a_process_in_another_namespace_is_noticed() -> Tested {
    let (node, shop, other) = (
        Node::new("elsewhere"),
        Scene::new("elsewhere")?,
        Pod::new("elsewhere-too")?,
    );
    node.describe("shop", &shop.to(OLD, ""));
    let agent = node.start();
    ensure!(shop.who()? == "old");
    let before = node.pods()[0].row.netns;
    // The processes of the pod end, and others come in another network namespace, as when its sandbox
    // is made anew.
    let pod = shop.into_pod();
    let app = Place::At(pod.cgroup().app());
    let _process = other.worker(&Identity::root().at(app))?;
    agent.until("moved", || {
        node.pods().iter().any(|pod| pod.row.netns != before)
    });
    agent.until("counted", || {
        agent.metric("redirect_agent_actions_total", &["move", "ok"]) == 1
    });
    Ok(())
}

/// Where Debian has the library that lets a program's clock jump.
fn false_clock() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    let files = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    files.into_iter().find(|file| file.exists())
}

fn a_clock_that_jumps_changes_nothing() -> Tested {
    let Some(library) = false_clock() else {
        let reason = Some("needs libfaketime (Debian: faketime)".to_owned());
        let reason = skip_or_fail(reason)?.unwrap_or_default();
        eprintln!("a_clock_that_jumps_changes_nothing is skipped: {reason}");
        return Ok(());
    };
    let (node, shop) = (Node::new("clock"), Scene::new("clock")?);
    node.describe("shop", &shop.to(OLD, ""));
    // It is tried again and again, by its own clock.
    node.describe("bad", "cgroup: /sys/fs/cgroup/unified\nargs: [-i, '*']\n");
    let clock = node.file("clock").with_extension("txt");
    let set = |offset: &str| fs::write(&clock, offset);
    set("+0d")?;
    let variables = [
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        // That one does not jump in a kernel.
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    let mut by = vec!["env"];
    by.extend(variables.iter().map(String::as_str));
    let agent = node.start_by(&by, &[]);
    agent.until_ready();
    ensure!(shop.who()? == "old");
    let mut years = BTreeSet::new();
    for (round, offset) in ["+4000d", "-1000d", "+0d", "-10000d", "+4000d"]
        .into_iter()
        .enumerate()
    {
        let (port, name) = if round % 2 == 0 {
            (NEW, "new")
        } else {
            (OLD, "old")
        };
        set(offset)?;
        node.describe("shop", &shop.to(port, ""));
        agent.until("an edit", || shop.is(name));
        ensure!(is_ready(&agent) && agent.get("/healthz").starts_with("HTTP/1.1 200"));
        let updated = || {
            let log = agent.log();
            let lines = log.lines().filter(|line| line.contains("\"updated\""));
            let years = lines
                .filter_map(|line| Some(line.split_once("timestamp\":\"")?.1.get(..4)?.to_owned()));
            years.collect::<Vec<_>>()
        };
        agent.until("told", || updated().len() == round + 1);
        years.extend(updated());
    }
    ensure!(years.len() == 4, "its clock did not jump: {years:?}");
    ensure!(agent.end(Signal::TERM) == Some(0));
    Ok(())
}

/// A cgroup that limits memory, of either version; removed when dropped.
struct Limited(PathBuf);

impl Limited {
    /// None where this machine limits no memory.
    fn new(name: &str) -> anyhow::Result<Option<Self>> {
        let name = format!("redirect-limited-{}-{name}", std::process::id());
        let v1 = PathBuf::from("/sys/fs/cgroup/memory");
        let folder = if v1
            .join("memory.limit_in_bytes")
            .parent()
            .is_some_and(Path::is_dir)
        {
            v1.join(name)
        } else {
            unified_mount()?.join(name)
        };
        fs::create_dir(&folder)?;
        let limited = Self(folder);
        Ok(limited.file().is_some().then_some(limited))
    }

    fn file(&self) -> Option<PathBuf> {
        let names = ["memory.limit_in_bytes", "memory.max"];
        let mut files = names.iter().map(|name| self.0.join(name));
        files.find(|file| file.exists())
    }

    fn limit(&self, bytes: u64) -> Tested {
        let file = self.file().context("find what limits memory")?;
        Ok(fs::write(file, bytes.to_string())?)
    }

    /// Starts what follows inside.
    fn by(&self) -> String {
        let procs = self.0.join("cgroup.procs");
        format!("echo $$ > {} && exec \"$@\"", procs.display())
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        wait_until(Duration::from_secs(5), || fs::remove_dir(&self.0).is_ok());
    }
}

fn an_agent_without_memory_ends_and_the_next_goes_on() -> Tested {
    let Some(limited) = Limited::new("agent")? else {
        eprintln!(
            "an_agent_without_memory_ends_and_the_next_goes_on is skipped: no memory controller"
        );
        return Ok(());
    };
    let (node, shop) = (Node::new("memory"), Scene::new("memory")?);
    node.describe("shop", &shop.to(OLD, ""));
    let by = limited.by();
    let inside = ["sh", "-c", &by, "sh"];
    let mut agent = node.start_by(&inside, &[]);
    agent.until_ready();
    ensure!(shop.who()? == "old");
    // What the maps take is charged to whoever has made them. Descriptions grow until it is too much.
    limited.limit(48 << 20)?;
    let ranges: Vec<_> = (0..50_000_u32)
        .map(|number| Ipv4Addr::from_bits(0x0b00_0000 + number * 16))
        .map(|first| format!("{first}/28"))
        .collect();
    for number in 0..40 {
        let text = shop.to(OLD, &format!(", -x, '{}'", ranges.join(",")));
        node.describe(&format!("large-{number}"), &text);
    }
    let status = agent.status();
    ensure!(
        status.is_none(),
        "a signal ends it: {status:?}, {}",
        agent.log()
    );
    drop(agent);
    ensure!(shop.who()? == "old", "nobody runs");
    for number in 0..40 {
        node.forget(&format!("large-{number}"));
    }
    node.describe("shop", &shop.to(NEW, ""));
    let agent = node.start_by(&inside, &[]);
    agent.until("with what it has", || shop.is("new"));
    Ok(())
}
