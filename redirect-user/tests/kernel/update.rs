//! Changes of policies in use: no connection meets half a policy, and open connections stay.

use std::{fs, net::SocketAddr, sync::atomic::AtomicBool, time::Duration};

use anyhow::{Context as _, Result, ensure};
use redirect_common::abi::PolicyId;
use redirect_testkit::{
    Behaviour, Dial, Flood, FloodReport, Identity, Serve, Worker, cases, wait_until,
    with_background,
};
use redirect_user::{
    config::{Include, PortRange, RedirectConfig},
    node::Writer,
};

use crate::{
    Cases, Needs, Tested,
    harness::{ELSEWHERE_V4, FAR_V4, OUT_PORT, Redirected, Scene, at, netns},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        no_connection_meets_half_a_policy,
        open_connections_survive_update_and_detach,
        leftovers_of_a_removed_cgroup_are_collected,
    ],
};

const UPDATES: usize = 120;
const NEW_PORT: u16 = 15101;

/// Redirects only one range, to one port.
fn only(range: &str, out_port: u16) -> RedirectConfig {
    RedirectConfig {
        out_port,
        include: Include::Cidrs(vec![range.parse().expect(range)]),
        ..RedirectConfig::default()
    }
}

/// Under the old policy `FAR` goes to the old proxy and `ELSEWHERE` is direct; under the new policy `ELSEWHERE` goes to
/// the new proxy and `FAR` is direct. The ranges of one policy with the port of the other would send `FAR` to the new
/// proxy, or `ELSEWHERE` to the old.
fn no_connection_meets_half_a_policy() -> Tested {
    let policies = [
        only("36.152.44.0/24", OUT_PORT),
        only("203.0.113.0/24", NEW_PORT),
    ];
    let [old, new] = &policies;
    let pod = Redirected::attach("update", Scene::without_proxy("update")?, old)?;
    pod.scene
        .proxy
        .serve(&Serve::new("old", at("0.0.0.0", OUT_PORT)))?;
    pod.scene
        .proxy
        .serve(&Serve::new("new", at("0.0.0.0", NEW_PORT)))?;
    let sides = [(at(FAR_V4, 80), "old"), (at(ELSEWHERE_V4, 80), "new")];
    let workers = [
        pod.scene.pod.worker(&Identity::app())?,
        pod.scene.pod.worker(&Identity::app())?,
    ];

    let floods = workers.iter().zip(sides).map(|(worker, (to, _))| {
        move |is_stopped: &AtomicBool| flood_until(worker, to, is_stopped)
    });
    let ((), floods) = with_background(floods, || {
        (1..=UPDATES).try_for_each(|round| pod.update(if round % 2 == 0 { old } else { new }))
    })?;

    for (flooded, (to, proxy)) in floods.iter().zip(sides) {
        // The world's server sees no original destination.
        let answered = flooded.all_answered(&[proxy], &["world4:80"]);
        answered.with_context(|| format!("to {to}"))?;
        ensure!(
            flooded.right > 100 && flooded.missing > 100,
            "too few to tell: {flooded:?}"
        );
    }
    let hits = pod.hits()?;
    ensure!((hits.flow_lost, hits.record_failed) == (0, 0), "{hits:?}");
    let quiet = wait_until(Duration::from_secs(5), || {
        pod.flows().is_ok_and(|flows| flows == 0)
    });
    ensure!(quiet, "{} flows are left", pod.flows()?);
    let reader = pod.owner.reader()?;
    let left = reader.maps().policies()?;
    ensure!(
        left.len() == 1,
        "{UPDATES} updates leave the entries of {left:?}"
    );
    Ok(())
}

/// Floods a destination until the flag is set. Any server is right if it sees the right original destination.
fn flood_until(worker: &Worker, to: SocketAddr, is_stopped: &AtomicBool) -> Result<FloodReport> {
    let request = Flood {
        server: None,
        ..Flood::new("", [to], 2000).concurrency(4)
    };
    worker.flood_until(&request, is_stopped)
}

/// A script that sends a line on one connection every few milliseconds, and prints the answers.
const CHATTER: &str = "exec 3<>/dev/tcp/36.152.44.96/80; read -r banner <&3; echo \"$banner\"; \
                       while echo word >&3 && read -r word <&3; do echo \"$word\"; sleep 0.01; done; \
                       echo broken";

fn open_connections_survive_update_and_detach() -> Tested {
    let old = only("36.152.44.0/24", OUT_PORT);
    let pod = Redirected::attach("survive", Scene::without_proxy("survive")?, &old)?;
    let echo = Serve::new("old", at("0.0.0.0", OUT_PORT)).behaviour(Behaviour::BannerAndEcho);
    pod.scene.proxy.serve(&echo)?;
    let app = pod.scene.dialer(1000, 1000)?;
    let chatter = app.start(&["bash", "-c", CHATTER], "")?;
    let goes_on = |step: &str| -> Tested {
        let said = app.log(chatter)?.lines().count();
        let goes_on = wait_until(Duration::from_secs(5), || {
            app.log(chatter)
                .is_ok_and(|log| log.lines().count() > said + 5)
        });
        let log = app.log(chatter)?;
        ensure!(goes_on && !log.contains("broken"), "{step}: {log}");
        Ok(())
    };
    goes_on("attached")?;
    ensure!(
        app.log(chatter)?.contains("\"server\":\"old\""),
        "{}",
        app.log(chatter)?
    );
    pod.update(&only("203.0.113.0/24", NEW_PORT))?;
    goes_on("updated")?;
    ensure!(app.dial(&Dial::to(at(FAR_V4, 80)))?.server() == Some("world4:80"));
    pod.detach()?;
    goes_on("detached")?;
    ensure!(app.dial(&Dial::to(at(ELSEWHERE_V4, 80)))?.server() == Some("world4:80"));
    app.kill(chatter)
}

/// The cgroup of one of two pods is removed without a detach.
fn leftovers_of_a_removed_cgroup_are_collected() -> Tested {
    let settings = RedirectConfig {
        exclude: vec!["36.152.44.0/24".parse()?, "2001:db8:1::/48".parse()?],
        exclude_ports: vec![PortRange::single(5555)],
        include: Include::Any,
        ..RedirectConfig::default()
    };
    let living = Redirected::new("living", &settings)?;
    let doomed = Scene::new("doomed")?;
    let cgroup = redirect_user::sys::cgroup::Cgroup::open(doomed.pod.cgroup().path())?;
    let network = netns(&doomed.pod)?;
    // Its policy differs, so that it is not shared with the living pod's.
    let other = RedirectConfig {
        exclude_ports: vec![PortRange::single(5556)],
        ..settings
    };
    living.owner.writer()?.attach(&cgroup, &network, &other)?;
    let id = cgroup.id();
    let doomed_policy = {
        let reader = living.owner.reader()?;
        ensure!(reader.maps().policies()?.len() == 2 && reader.pods()?.len() == 2);
        reader.pod(id, cgroup.path())?.row.policy
    };
    drop((cgroup, doomed));

    // The kernel releases the links of a removed cgroup a moment later.
    let collected = wait_until(Duration::from_secs(5), || {
        living
            .owner
            .writer()
            .is_ok_and(|writer| folders(&writer).len() == 1)
    });
    let writer = living.owner.writer()?;
    let left = folders(&writer);
    ensure!(
        collected && left == [living.cgroup.id().to_string()],
        "{left:?} are left"
    );
    ensure!(writer.pods()?.len() == 1, "{:?}", writer.pods()?);
    check_collected(&writer, doomed_policy, network.cookie)?;
    drop(writer);

    for (to, server) in [
        (at(ELSEWHERE_V4, 80), "out4:15001"),
        (at(FAR_V4, 80), "world4:80"),
        (at(ELSEWHERE_V4, 5555), "world4:5555"),
        (at("10.77.0.2", 8080), "app4:8080"),
    ] {
        let dialled = living.scene.dial_as(1000, 1000, &Dial::to(to))?;
        ensure!(
            dialled.server() == Some(server),
            "the living pod, to {to}: {dialled:?}"
        );
    }
    Ok(())
}

/// The names of the pods' directories of links.
fn folders(writer: &Writer) -> Vec<String> {
    let entries = fs::read_dir(writer.pins().pods()).expect("a folder of pods");
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn check_collected(writer: &Writer, policy: PolicyId, netns: u64) -> Tested {
    let maps = writer.maps();
    let policies = maps.policies()?;
    ensure!(
        policies.len() == 1 && !policies.contains(&policy),
        "entries of {policies:?}"
    );
    let (cidrs, ports) = (maps.cidrs(policy)?, maps.ports(policy)?);
    ensure!(cidrs.is_empty() && ports.is_empty(), "{cidrs:?} {ports:?}");
    let locals = maps.locals().context("list the addresses")?;
    ensure!(
        !locals.is_empty() && locals.iter().all(|(key, _)| key.netns != netns),
        "{locals:?}"
    );
    Ok(())
}
