//! Stand-ins: loopback addresses that stand for destinations, if the proxy listens on the wildcard address.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use redirect_common::{
    abi::{Destination, MAX_STAND_INS, MAX_STAND_INS_OF_ONE, MapName, PER_DESTINATION, StandInKey},
    net::BePort,
};
use redirect_testkit::{
    Behaviour, Dial, Flood, Mode, OpenConnections, Serve, Worker, cases, wait_until,
};
use redirect_user::sys::cgroup::Cgroup;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Cases, Needs, Tested,
    differential::Backends,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, OUT_PORT, Redirected, Scene, Server, at, moved, netns},
    sockets::{check, settings},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        a_connection_that_was_reset_is_told_as_behind_real_iptables,
        a_bound_port_has_one_connection_to_each_destination_as_behind_real_iptables,
    ],
    Needs::Pods => [
        a_destination_has_addresses_of_its_own,
        a_stand_in_means_nothing_to_another_pod,
        the_proxy_learns_a_destination_without_a_stand_in,
        datagrams_to_a_stand_in_show_its_own_address,
    ],
};

type StandIns = HashMap<MapData, StandInKey, Destination>;

fn stand_ins(pod: &Redirected) -> Result<StandIns> {
    let map = MapData::from_pin(pod.owner.reader()?.pins().map(MapName::StandIns))?;
    Ok(HashMap::try_from(Map::HashMap(map))?)
}

/// The number of stand-ins of each namespace.
fn stand_in_counts(pod: &Redirected) -> Result<HashMap<MapData, u64, u64>> {
    let map = MapData::from_pin(pod.owner.reader()?.pins().map(MapName::StandInCounts))?;
    Ok(HashMap::try_from(Map::HashMap(map))?)
}

/// The key of one of a destination's stand-ins in the pod.
fn key(pod: &Redirected, destination: Destination, number: u32) -> Result<StandInKey> {
    let netns = pod.pod(&pod.owner.reader()?)?.row.netns;
    Ok(StandInKey::new(netns, destination.stand_in(number)))
}

fn destination(dial: &Dial) -> Destination {
    let port = BePort::new(dial.to.port());
    Destination::new(dial.to.ip().into(), port, BePort::new(OUT_PORT))
}

/// Dials a destination often, also IPv4-mapped, and checks the proxy's answer and the counter.
fn dial_often(pod: &Redirected, dial: &Dial) -> Tested {
    let before = pod.hits()?;
    for dial in [dial.clone(), dial.clone().mapped()] {
        for _ in 0..16 {
            check(Server::Out, &dial, &pod.scene.dial_as(1000, 1000, &dial)?)?;
        }
    }
    let counted = moved(&before, &pod.hits()?);
    ensure!(counted.iter().eq([(&"any-included", &32)]), "{counted:?}");
    Ok(())
}

fn a_destination_has_addresses_of_its_own() -> Tested {
    let pod = Redirected::new("stand-ins", &settings())?;
    let map = stand_ins(&pod)?;
    for (port, seen) in [(80, 0), (443, PER_DESTINATION)] {
        let dial = Dial::to(at(ELSEWHERE_V4, port));
        ensure!(map.keys().count() == usize::try_from(seen)?, "{port}");
        dial_often(&pod, &dial)?;
        for number in 0..PER_DESTINATION {
            let key = key(&pod, destination(&dial), number)?;
            let stands_for = map.get(&key, 0);
            ensure!(
                stands_for
                    .as_ref()
                    .is_ok_and(|it| it.same(destination(&dial))),
                "{}: {stands_for:?}",
                IpAddr::from(key.stand_in.addr())
            );
        }
    }
    // IPv6 destinations, excluded destinations and the pod itself have no stand-ins.
    for dial in [
        Dial::to(at(ELSEWHERE_V6, 80)),
        Dial::to(at("36.152.44.96", 80)),
        Dial::to(at("10.77.0.2", 8080)),
    ] {
        pod.scene.dial_as(1000, 1000, &dial)?;
    }
    ensure!(map.keys().count() == 2 * usize::try_from(PER_DESTINATION)?);
    pod.detach()?;
    let left = (map.keys().count(), stand_in_counts(&pod)?.keys().count());
    ensure!(left == (0, 0), "left behind: {left:?}");
    Ok(())
}

/// Another pod cannot read the destinations of this pod: the stand-in has no meaning there, and neither has its port.
fn a_stand_in_means_nothing_to_another_pod() -> Tested {
    let first = Redirected::new("one", &settings())?;
    let dial = Dial::to(at(ELSEWHERE_V4, 80));
    dial_often(&first, &dial)?;
    let scene = Scene::new("another")?;
    let cgroup = Cgroup::open(scene.pod.cgroup().path())?;
    let mut writer = first.owner.writer()?;
    writer.attach(&cgroup, &netns(&scene.pod)?, &settings())?;
    drop(writer);
    let stand_in = destination(&dial).stand_in(0).addr();
    let itself = SocketAddr::new(stand_in.into(), OUT_PORT);
    let dialled = scene.dial_as(1000, 1000, &Dial::to(itself))?;
    ensure!(
        dialled.server() == Some("out4:15001")
            && (dialled.orig_dst(), dialled.peername) == (Some(itself), Some(itself)),
        "{dialled:?}"
    );
    Ok(())
}

/// The stand-ins of the destination are taken by another destination, or the namespace or the map has too many.
fn the_proxy_learns_a_destination_without_a_stand_in() -> Tested {
    let pod = Redirected::new("no-stand-in", &settings())?;
    let mut map = stand_ins(&pod)?;
    let other = destination(&Dial::to(at("198.51.100.7", 80)));
    let taken = Dial::to(at(ELSEWHERE_V4, 80));
    for number in 0..PER_DESTINATION {
        map.insert(key(&pod, destination(&taken), number)?, other, 0)?;
    }
    dial_often(&pod, &taken)?;

    // The namespace has its maximum. Its present stand-ins still work.
    let known = Dial::to(at(ELSEWHERE_V4, 443));
    map.insert(key(&pod, destination(&known), 2)?, destination(&known), 0)?;
    let netns = key(&pod, other, 0)?.netns;
    let seen = map.keys().count();
    stand_in_counts(&pod)?.insert(netns, MAX_STAND_INS_OF_ONE, 0)?;
    dial_often(&pod, &known)?;
    dial_often(&pod, &Dial::to(at(ELSEWHERE_V4, 8080)))?;
    ensure!(map.keys().count() == seen);
    stand_in_counts(&pod)?.insert(netns, 0, 0)?;
    dial_often(&pod, &known)?;
    ensure!(map.keys().count() > seen);

    // All namespaces together have the maximum.
    let mut more = (0_u64..).map(|netns| StandInKey::new(netns, destination(&taken).stand_in(0)));
    while map
        .insert(more.next().context("fill the map")?, other, 0)
        .is_ok()
    {}
    let full = map.keys().count();
    ensure!(full == MAX_STAND_INS, "full with {full}");
    ensure!(pod.owner.reader()?.stand_ins()? == MAX_STAND_INS);
    dial_often(&pod, &Dial::to(at(ELSEWHERE_V4, 5555)))?;
    ensure!(map.keys().count() == MAX_STAND_INS);
    Ok(())
}

/// The application resets its connections before the proxy accepts them. Such a socket has lost its port.
fn a_connection_that_was_reset_is_told_as_behind_real_iptables() -> Tested {
    const CONNECTIONS: u64 = 20;
    let backends = Backends::new("reset")?;
    backends.configure(&settings())?;
    for scene in [&backends.iptables, &backends.ebpf.scene] {
        for (name, any, to) in [
            ("out4:15001", "0.0.0.0", ELSEWHERE_V4),
            ("out6:15001", "::", ELSEWHERE_V6),
        ] {
            scene.proxy.stop_server(name)?;
            let asks = Serve::new(name, at(any, OUT_PORT)).behaviour(Behaviour::QueryAndClose);
            scene.proxy.serve(&asks)?;
            let app = scene.dialer(1000, 1000)?;
            signal(&scene.proxy, Signal::STOP)?;
            let flooded = app.flood(&Flood {
                timeout: Duration::from_millis(100),
                ..Flood::new(name, [at(to, 80)], CONNECTIONS)
            });
            signal(&scene.proxy, Signal::CONT)?;
            let flooded = flooded?;
            ensure!(flooded.missing == CONNECTIONS, "{flooded:?}");
            let all_seen = wait_until(Duration::from_secs(5), || {
                scene
                    .proxy
                    .accepted(name)
                    .is_ok_and(|accepted| accepted.redirected == CONNECTIONS)
            });
            ensure!(all_seen, "{name}: {:?}", scene.proxy.accepted(name)?);
        }
    }
    Ok(())
}

/// The application connects eight times to each of two destinations, always from the same port.
fn a_bound_port_has_one_connection_to_each_destination_as_behind_real_iptables() -> Tested {
    let backends = Backends::new("one-port")?;
    backends.configure(&settings())?;
    let before = backends.ebpf.hits()?;
    for scene in [&backends.iptables, &backends.ebpf.scene] {
        let app = scene.dialer(1000, 1000)?;
        let mut counts = app.connection_counts()?;
        for port in [80, 443] {
            counts = app.open_connections(&OpenConnections {
                to: at(ELSEWHERE_V4, port),
                bind: Some(at("0.0.0.0", 5700)),
                count: 8,
            })?;
        }
        let settled = wait_until(Duration::from_secs(5), || {
            counts = app.connection_counts().unwrap_or_default();
            counts.in_progress == 0
        });
        let failed = counts.errors.get("EADDRNOTAVAIL").copied();
        ensure!(
            settled && counts.established == 2 && failed == Some(14),
            "{counts:?}"
        );
        app.close_connections()?;
    }
    let counted = moved(&before, &backends.ebpf.hits()?);
    ensure!(counted.iter().eq([(&"any-included", &16)]), "{counted:?}");
    Ok(())
}

/// Only TCP connections are redirected to stand-ins.
fn datagrams_to_a_stand_in_show_its_own_address() -> Tested {
    let pod = Redirected::new("stand-in-udp", &settings())?;
    let dial = Dial::to(at(ELSEWHERE_V4, 80));
    dial_often(&pod, &dial)?;
    let mut map = stand_ins(&pod)?;
    let stand_in = destination(&dial).stand_in(0);
    map.insert(
        StandInKey {
            stand_in,
            ..key(&pod, destination(&dial), 0)?
        },
        destination(&dial),
        0,
    )?;
    let to = SocketAddr::new(stand_in.addr().into(), OUT_PORT);
    let server = Serve::new("datagrams", to).behaviour(Behaviour::Udp);
    pod.scene.app.serve(&server)?;
    let dialled = pod
        .scene
        .dial_as(1000, 1000, &Dial::to(to).mode(Mode::Udp))?;
    ensure!(
        dialled.server() == Some("datagrams")
            && dialled.peername == Some(to)
            && dialled.sockname.is_some_and(|it| it.ip().is_loopback()),
        "{dialled:?}"
    );
    Ok(())
}

fn signal(worker: &Worker, signal: Signal) -> Tested {
    let pid = i32::try_from(worker.pid())?;
    kill_process(
        Pid::from_raw(pid).context("convert the process id")?,
        signal,
    )?;
    Ok(())
}
