//! Inbound connections to every port and every address of a pod, compared with real iptables.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddrV6},
    time::Duration,
};

use anyhow::{Result, ensure};
use redirect_testkit::{Dial, Identity, Pod, Serve, Worker, WorkerCgroup, wait_until};
use redirect_user::config::RedirectConfig;

use super::{
    answered,
    configs::{every_port, some_ports, tproxy},
};
use crate::{
    Tested,
    differential::{Backends, View},
    harness::{IN_PORT, Redirected, SECOND_V4, SECOND_V6, Scene, at, moved},
};

/// Addresses on the pod's `lo`.
const ON_LO: [&str; 2] = ["10.99.0.1", "fd00:99::1"];

/// Every local address of the pod that the world can reach.
const LOCAL: [&str; 6] = [
    "10.77.0.2",
    SECOND_V4,
    ON_LO[0],
    "fd00:77::2",
    SECOND_V6,
    ON_LO[1],
];

/// Adds addresses on `lo` of the pod, and routes to them in the world.
fn with_addresses_on_lo(scene: &Scene) -> Tested {
    let root = scene.pod.worker(&Identity::root())?;
    let run = |worker: &Worker, arguments: &str| -> Tested {
        let argv: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
        let done = worker.run(&argv)?;
        ensure!(done.is_success(), "ip {arguments}: {done:?}");
        Ok(())
    };
    let [v4, v6] = ON_LO;
    run(&root, &format!("addr add {v4}/32 dev lo"))?;
    run(&root, &format!("addr add {v6}/128 dev lo nodad"))?;
    // The kernel adds the address in the background, also without a check for duplicates.
    let is_there = || {
        let shown = root.run(&["ip", "-6", "addr", "show", "dev", "lo", "-tentative"]);
        shown.is_ok_and(|shown| shown.stdout.contains(v6))
    };
    ensure!(
        wait_until(Duration::from_secs(5), is_there),
        "{v6} stays tentative"
    );
    run(&scene.world, &format!("route add {v4} via {}", Pod::V4))?;
    run(&scene.world, &format!("route add {v6} via {}", Pod::V6))
}

/// The connections that the world makes.
fn arrivals() -> Vec<Dial> {
    let mut dials = Vec::new();
    for ip in LOCAL {
        dials.push(Dial::to(at(ip, 8080)));
        dials.push(Dial::to(at(ip, 9999)));
    }
    // The tunnel port, the excluded ports, the proxy's own ports, and port 53.
    for port in [15008, 15020, 15021, 15090, 5555, 15001, 15006, 53] {
        dials.push(Dial::to(at("10.77.0.2", port)));
        dials.push(Dial::to(at("fd00:77::2", port)));
    }
    dials.push(Dial::to(at("10.77.0.2", 8080)).mapped());
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x78);
    // The scope is the world's second device, its `eth0`.
    let link_local = SocketAddrV6::new(link_local, 8080, 0, 2);
    dials.push(Dial::to(link_local.into()));
    dials
}

impl Backends {
    /// Makes the same connection from the world to both pods.
    fn dial_from_world(&self, dial: &Dial) -> Result<(View, View)> {
        let iptables = self.iptables.world.dial(dial)?;
        let ebpf = self.ebpf.scene.world.dial(dial)?;
        Ok((View::of_iptables(&iptables), View::of(&ebpf)))
    }
}

/// Whether the only difference is the known one: of several IPv6 addresses of an interface, iptables redirect to the
/// one that was added last, and the programs show the one that the pod is known by.
fn is_another_local_address(iptables: &View, ebpf: &View) -> bool {
    let with = |view: &View, ip: IpAddr| {
        let server = view.server.map(|(peer, mut local)| {
            local.set_ip(ip);
            (peer, local)
        });
        View {
            server,
            ..view.clone()
        }
    };
    let at_ip = |view: &View| view.server.map(|(_, local)| local.ip());
    let local_v6 = IpAddr::V6(Pod::V6);
    at_ip(ebpf) == Some(local_v6)
        && at_ip(iptables) == SECOND_V6.parse().ok()
        && with(iptables, local_v6) == *ebpf
}

/// Compares inbound connections under a configuration. Returns the number that reached the proxy's inbound port, and
/// the number that differs in the known way.
fn compare(backends: &Backends, name: &str) -> Result<(usize, usize)> {
    let (mut redirected, mut known, mut differences) = (0, 0, Vec::new());
    for dial in arrivals() {
        let (iptables, ebpf) = backends.dial_from_world(&dial)?;
        redirected += usize::from(iptables.outcome.starts_with("in"));
        if is_another_local_address(&iptables, &ebpf) {
            known += 1;
        } else if iptables != ebpf {
            differences.push(format!(
                "{name}: to {:?}\n  iptables: {iptables:?}\n  ebpf:     {ebpf:?}",
                dial.to
            ));
        }
    }
    ensure!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    Ok((redirected, known))
}

pub(super) fn inbound_connections_look_as_behind_real_iptables() -> Tested {
    let backends = Backends::new("inbound")?;
    with_addresses_on_lo(&backends.iptables)?;
    with_addresses_on_lo(&backends.ebpf.scene)?;
    let moved_port = RedirectConfig {
        tunnel_port: 9999,
        ..every_port()
    };
    for (name, settings, expected) in [
        ("every port", every_port(), (20, 9)),
        ("some ports", some_ports(), (16, 6)),
        ("another tunnel port", moved_port, (16, 7)),
        ("nothing", RedirectConfig::default(), (2, 0)),
    ] {
        backends.configure(&settings)?;
        for when in ["before", "after"] {
            let counted = compare(&backends, name)?;
            ensure!(
                counted == expected,
                "{name}, a proxy from {when} the update: (redirected, known differences) are {counted:?}"
            );
            backends.restart_proxies()?;
        }
    }
    Ok(())
}

/// Makes a pod with a proxy that TPROXY can redirect to: the proxy has the privilege for transparent listeners.
fn tproxy_scene(name: &str) -> Result<(Scene, Worker)> {
    let scene = Scene::without_proxy(name)?;
    let proxy = scene
        .pod
        .worker(&Identity::root().cgroup(WorkerCgroup::Proxy).gid(1337))?;
    for (server, any) in [("in4:15006", "0.0.0.0"), ("in6:15006", "::")] {
        proxy.serve(&Serve::new(server, at(any, IN_PORT)).transparent())?;
    }
    with_addresses_on_lo(&scene)?;
    Ok((scene, proxy))
}

pub(super) fn inbound_connections_look_as_behind_tproxy() -> Tested {
    let (iptables, _proxy) = tproxy_scene("tproxy-iptables")?;
    let (ebpf, _other) = tproxy_scene("tproxy-ebpf")?;
    let root = iptables.pod.worker(&Identity::root())?;
    // The routing that `istio-iptables` sets up beside its rules.
    for family in ["-4", "-6"] {
        for words in [
            "rule add fwmark 1337 lookup 133",
            "route add local default dev lo table 133",
        ] {
            let argv: Vec<&str> = ["ip", family].into_iter().chain(words.split(' ')).collect();
            let done = root.run(&argv)?;
            ensure!(done.is_success(), "{argv:?}: {done:?}");
        }
    }
    let ebpf = Redirected::attach("tproxy", ebpf, &RedirectConfig::default())?;
    let backends = Backends { iptables, ebpf };
    for (name, settings, expected) in [
        ("TPROXY, every port", tproxy(every_port()), (22, 0)),
        ("TPROXY, some ports", tproxy(some_ports()), (18, 0)),
    ] {
        backends.configure(&settings)?;
        let counted = compare(&backends, name)?;
        ensure!(
            counted == expected,
            "{name}: (redirected, known differences) are {counted:?}"
        );
    }
    Ok(())
}

/// Without the programs the comparison must fail, or it proves nothing.
pub(super) fn inbound_connections_of_a_detached_pod_look_different() -> Tested {
    let backends = Backends::new("inbound-detached")?;
    with_addresses_on_lo(&backends.iptables)?;
    with_addresses_on_lo(&backends.ebpf.scene)?;
    backends.configure(&every_port())?;
    backends.ebpf.detach()?;
    let mut redirected = 0;
    for dial in arrivals() {
        let (iptables, ebpf) = backends.dial_from_world(&dial)?;
        if iptables.is_redirected() {
            redirected += 1;
            ensure!(
                iptables != ebpf && !is_another_local_address(&iptables, &ebpf),
                "to {:?}: {ebpf:?}",
                dial.to
            );
        }
    }
    ensure!(
        redirected > 15,
        "only {redirected} connections are redirected"
    );
    Ok(())
}

/// The application calls the pod at every local address. The lookup program sees each call and counts it once.
pub(super) fn calls_to_local_addresses_are_left_alone() -> Tested {
    let scene = Scene::new("self")?;
    with_addresses_on_lo(&scene)?;
    let pod = Redirected::attach("self", scene, &every_port())?;
    for ip in LOCAL.into_iter().chain(["127.0.0.1", "127.0.0.5", "::1"]) {
        let before = pod.hits()?;
        let dialled = pod.scene.dial_as(1000, 1000, &Dial::to(at(ip, 8080)))?;
        let counted = moved(&before, &pod.hits()?);
        ensure!(
            answered(&dialled).starts_with("app"),
            "to {ip}: {dialled:?}"
        );
        let expected = BTreeMap::from([("app-lo-uid", 1), ("in-looped", 1)]);
        ensure!(counted == expected, "to {ip}: {counted:?}");
        // Conntrack gives the same original destination.
        ensure!(
            dialled.orig_dst() == Some(at(ip, 8080)),
            "to {ip}: {dialled:?}"
        );
    }
    Ok(())
}
