// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kit tested against itself: pods without any redirection, and pods behind real iptables.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic_in_result_fn,
    clippy::indexing_slicing,
    clippy::unreachable,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and standard error is where it talks"
)]

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Failed, Trial};
use redirect_testkit::{
    Answer, Behaviour, Dial, DialSequence, Flood, Hold, HttpGet, Identity, Mode, Outcome, Place,
    Pod, Rate, Serve, Worker, World,
    iptables::{self, Backend, Family, IstioRules},
    missing_or_fail, probe, wait_until,
};

type Tested = Result<()>;
type Test = fn() -> Tested;

const FAR_V4: &str = "36.152.44.96";
const FAR_V6: &str = "2001:db8::9";

fn main() -> ExitCode {
    probe::intercept();
    let arguments = Arguments::from_args();
    let skipped = match missing_or_fail(&["iptables-legacy-restore", "iptables-nft-restore"]) {
        Ok(reason) => reason,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(reason) = &skipped {
        eprintln!("all tests of the kit are skipped: {reason}");
    }
    let tests: [(&str, Test); 13] = [
        (
            "whoever_serves_at_an_address_answers_there",
            whoever_serves_answers,
        ),
        ("ipv6_and_mapped_dials_reach_their_servers", ipv6_and_mapped),
        ("every_mode_connects", every_mode_connects),
        (
            "a_closed_port_is_refused_and_a_dead_address_times_out",
            closed_and_dead,
        ),
        ("a_socket_dials_again_after_af_unspec", dial_again),
        ("a_worker_is_who_it_should_be", identity),
        ("http_is_answered_with_the_servers_name", http),
        ("fifty_thousand_connections_take_seconds", flood),
        ("held_connections_are_counted", hold),
        ("programs_run_with_the_workers_identity", programs),
        ("legacy_iptables_redirect_as_istio_says", || {
            istio_redirects(Backend::Legacy)
        }),
        ("nft_iptables_redirect_as_istio_says", || {
            istio_redirects(Backend::Nft)
        }),
        ("nothing_is_left_behind", nothing_is_left),
    ];
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let told = move || test().map_err(|error| Failed::from(format!("{error:#}")));
            Trial::test(name, told).with_ignored_flag(skipped.is_some())
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

/// A pod, its application, and a server called `far` in the world at both far addresses.
fn pod_and_far(name: &str, port: u16) -> Result<(Pod, Worker, Worker)> {
    let pod = Pod::new(name)?;
    for address in [FAR_V4, FAR_V6] {
        pod.world().add_address(address.parse().unwrap())?;
    }
    let far = pod.world().worker(&Identity::root())?;
    far.serve(&Serve::new("far4", at("0.0.0.0", port)))?;
    far.serve(&Serve::new("far6", at("::", port)))?;
    let app = pod.worker(&Identity::app())?;
    Ok((pod, app, far))
}

fn whoever_serves_answers() -> Tested {
    let (pod, app, far) = pod_and_far("answers", 80)?;
    let near = pod.worker(&Identity::app())?;
    near.serve(&Serve::new("near", at("0.0.0.0", 8080)))?;

    let dialled = app.dial(&Dial::to(at(FAR_V4, 80)))?;
    assert_eq!(dialled.server(), Some("far4"));
    assert_eq!(dialled.peername, Some(at(FAR_V4, 80)));
    assert_eq!(dialled.sockname, dialled.greeting().unwrap().peer);
    assert_eq!(dialled.sockname.unwrap().ip(), IpAddr::V4(Pod::V4));
    assert_eq!(far.accepted("far4")?.connections, 1);

    let bound = Dial::to(at("127.0.0.1", 8080)).from(at("127.0.0.6", 0));
    let dialled = app.dial(&bound)?;
    assert_eq!(dialled.server(), Some("near"));
    assert_eq!(dialled.sockname.unwrap().ip(), at("127.0.0.6", 0).ip());
    Ok(())
}

fn ipv6_and_mapped() -> Tested {
    let (_pod, app, _far) = pod_and_far("ipv6", 80)?;
    let dialled = app.dial(&Dial::to(at(FAR_V6, 80)))?;
    assert_eq!(dialled.server(), Some("far6"));
    assert_eq!(dialled.sockname.unwrap().ip(), IpAddr::V6(Pod::V6));
    assert_eq!(
        app.dial(&Dial::to(at("fd00:77::1", 80)))?.server(),
        Some("far6")
    );
    let mapped = app.dial(&Dial::to(at(FAR_V4, 80)).mapped())?;
    assert_eq!(
        (mapped.server(), mapped.peername),
        (Some("far4"), Some(at(FAR_V4, 80)))
    );
    Ok(())
}

fn every_mode_connects() -> Tested {
    let (_pod, app, far) = pod_and_far("modes", 80)?;
    far.serve(&Serve::new("echo", at("0.0.0.0", 9000)).behaviour(Behaviour::GreetAndEcho))?;
    for mode in [
        Mode::Blocking,
        Mode::NonBlocking,
        Mode::FastOpen,
        Mode::FastOpenConnect,
    ] {
        let dialled = app.dial(&Dial::to(at(FAR_V4, 9000)).mode(mode).echo("over and out"))?;
        assert_eq!(dialled.server(), Some("echo"), "{mode:?}: {dialled:?}");
        assert_eq!(
            dialled.echoed.as_deref(),
            Some(b"over and out".as_slice()),
            "{mode:?}"
        );
        let dialled = app.dial(&Dial::to(at(FAR_V6, 80)).mode(mode))?;
        assert_eq!(dialled.server(), Some("far6"), "{mode:?}: {dialled:?}");
    }
    far.serve(&Serve::new("datagrams", at(FAR_V4, 53)).behaviour(Behaviour::Udp))?;
    let dialled = app.dial(&Dial::to(at(FAR_V4, 53)).mode(Mode::Udp))?;
    assert_eq!(
        (dialled.server(), dialled.peername),
        (Some("datagrams"), Some(at(FAR_V4, 53)))
    );
    Ok(())
}

fn closed_and_dead() -> Tested {
    let (_pod, app, _far) = pod_and_far("closed", 80)?;
    for mode in [
        Mode::Blocking,
        Mode::NonBlocking,
        Mode::FastOpen,
        Mode::FastOpenConnect,
    ] {
        let refused = app.dial(&Dial::to(at(FAR_V4, 81)).mode(mode))?;
        assert_eq!(refused.outcome, Outcome::Refused, "{mode:?}");
        // 10.77.0.9 is on the link, and nobody has it.
        let dead = Dial::to(at("10.77.0.9", 80))
            .mode(mode)
            .timeout(Duration::from_millis(100));
        let Outcome::Failed { name, .. } = app.dial(&dead)?.outcome else {
            bail!("{mode:?} reached nobody");
        };
        assert_eq!(name, "ETIMEDOUT", "{mode:?}");
    }
    Ok(())
}

fn dial_again() -> Tested {
    let (_pod, app, far) = pod_and_far("again", 80)?;
    far.serve(&Serve::new("other", at(FAR_V4, 81)))?;
    let mut sequence = DialSequence {
        first: Dial::to(at(FAR_V4, 80)),
        disconnect: true,
        second: Dial::to(at(FAR_V4, 81)),
    };
    let (first, second) = app.dial_sequence(&sequence)?;
    assert_eq!(
        (first.server(), second.server()),
        (Some("far4"), Some("other"))
    );
    sequence.disconnect = false;
    let (first, second) = app.dial_sequence(&sequence)?;
    assert_eq!(first.server(), Some("far4"));
    assert!(
        matches!(second.outcome, Outcome::Failed { ref name, .. } if name == "EISCONN"),
        "{second:?}"
    );
    Ok(())
}

fn identity() -> Tested {
    let pod = Pod::new("identity")?;
    let second = pod.second_cgroup("second")?;
    let inner = pod.cgroup().child("init")?;
    let show =
        "id -u; id -g; id -G; sed -n s/^0:://p /proc/self/cgroup; readlink /proc/self/ns/net";
    let mut namespaces = Vec::new();
    for (identity, expected) in [
        (Identity::app().groups([7, 8]), "1000\n1000\n1000 7 8\n"),
        (Identity::proxy(), "1337\n1337\n1337\n"),
        (
            Identity::app().uid(1337).at(Place::At(second.app())),
            "1337\n1000\n1000\n",
        ),
        (Identity::root().at(Place::At(inner)), "0\n0\n0\n"),
    ] {
        let seen = pod.worker(&identity)?.run(&["sh", "-c", show])?;
        assert!(seen.is_success(), "{seen:?}");
        assert!(seen.stdout.starts_with(expected), "{seen:?}");
        let cgroup = seen.stdout.lines().nth(3).unwrap().to_owned();
        let folder = match &identity.place {
            Place::App => pod.cgroup().app(),
            Place::Proxy => pod.cgroup().proxy(),
            Place::At(path) => path.clone(),
            Place::Unchanged => unreachable!(),
        };
        assert!(
            folder.to_string_lossy().ends_with(&cgroup),
            "{cgroup} is not {}",
            folder.display()
        );
        namespaces.push(seen.stdout.lines().nth(4).unwrap().to_owned());
    }
    assert!(
        namespaces
            .iter()
            .all(|namespace| *namespace == namespaces[0]),
        "{namespaces:?}"
    );
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(own.to_string_lossy(), namespaces[0].as_str());
    Ok(())
}

fn http() -> Tested {
    let (pod, app, far) = pod_and_far("http", 9000)?;
    far.serve(&Serve::new("web", at("0.0.0.0", 80)).behaviour(Behaviour::Http))?;
    let answer = app.http_get(
        &HttpGet::to(at(FAR_V4, 80))
            .path("/x")
            .host("www.example.org"),
    )?;
    assert_eq!((answer.status(), answer.server()), (Some(200), Some("web")));
    let greeting = answer.greeting().expect("a greeting as body");
    assert_eq!(greeting.local, Some(at(FAR_V4, 80)));
    assert_eq!(greeting.peer.unwrap().ip(), IpAddr::V4(Pod::V4));
    drop(pod);
    Ok(())
}

fn flood() -> Tested {
    let (_pod, app, far) = pod_and_far("flood", 80)?;
    let mut flood =
        Flood::new("far4", [at(FAR_V4, 80), at("10.77.0.1", 80)], 50_000).without_orig_dst();
    let flooded = app.flood(&flood)?;
    assert!(flooded.is_all_right(50_000), "{flooded:?}");
    assert!(flooded.seconds < 30.0, "{flooded:?}");
    assert_eq!(far.accepted("far4")?.connections, 50_000);
    flood.connections = 10;
    flood.server = Some("somebody else".to_owned());
    assert_eq!(app.flood(&flood)?.wrong, 10);
    flood.destinations = vec![at(FAR_V4, 81)];
    assert_eq!(app.flood(&flood)?.refused, 10);

    far.serve(&Serve::new("bench", at("0.0.0.0", 82)).behaviour(Behaviour::AskAndClose))?;
    let rate = Rate {
        to: at(FAR_V4, 82),
        duration: Duration::from_millis(300),
        await_close: true,
    };
    let rated = app.connect_rate(&rate)?;
    assert!(
        rated.errors.is_empty() && rated.connections > 100 && rated.p50_ns <= rated.p99_ns,
        "{rated:?}"
    );
    assert_eq!(far.accepted("bench")?.connections, rated.connections);
    eprintln!(
        "{:.0} connections/s flooding, {:.0}/s one by one",
        50_000.0 / flooded.seconds,
        rated.per_second()
    );
    Ok(())
}

fn hold() -> Tested {
    let (_pod, app, far) = pod_and_far("hold", 80)?;
    far.serve(
        &Serve::new("deaf", at(FAR_V4, 90))
            .behaviour(Behaviour::HoldWithoutAccept)
            .backlog(4),
    )?;
    app.hold(&Hold {
        to: at(FAR_V4, 90),
        connections: 12,
    })?;
    // A backlog of 4 takes 5; the others wait for a SYN-ACK.
    assert!(wait_until(Duration::from_secs(5), || app
        .held()
        .unwrap()
        .established
        >= 5));
    let held = app.held()?;
    assert_eq!(
        (held.established + held.in_progress, held.refused),
        (12, 0),
        "{held:?}"
    );
    assert!(held.in_progress > 0, "{held:?}");
    app.release()?;
    assert_eq!(app.held()?.established, 0);
    let silent = app.dial(&Dial::to(at(FAR_V4, 80)).without_greeting())?;
    assert_eq!(silent.outcome, Outcome::Connected(Answer::NotAwaited));
    Ok(())
}

fn programs() -> Tested {
    let pod = Pod::new("programs")?;
    let proxy = pod.worker(&Identity::proxy())?;
    let cat = proxy.start(&["sh", "-c", "id -u; cat; exec sleep 1000"], "fed\n")?;
    assert!(wait_until(Duration::from_secs(5), || proxy
        .log(cat)
        .unwrap()
        == "1337\nfed\n"));
    assert!(proxy.is_alive(cat)?);
    proxy.kill(cat)?;
    assert!(!proxy.is_alive(cat)?);
    let missing = proxy.start(&["/no/such/program"], "").unwrap_err();
    assert!(
        format!("{missing:#}").contains("No such file"),
        "{missing:#}"
    );
    Ok(())
}

fn nothing_is_left() -> Tested {
    let pod = Pod::new("left")?;
    let second = pod.second_cgroup("also")?;
    let folders = [pod.cgroup().path().to_owned(), second.path().to_owned()];
    let namespace = pod.namespace();
    let world = World::V4;
    assert!(
        namespace.exists() && folders.iter().all(|folder| folder.exists()),
        "{world}"
    );
    let worker = pod.worker(&Identity::app())?;
    let orphan = pod.worker(&Identity::proxy())?.run(&[
        "sh",
        "-c",
        "sleep 1000 >/dev/null 2>&1 & echo $!",
    ])?;
    let orphan = format!("/proc/{}", orphan.stdout.trim());
    assert!(std::path::Path::new(&orphan).exists());
    // The pod goes first, although a worker is still about.
    drop((second, pod));
    assert!(worker.held().is_err());
    assert!(!namespace.exists() && folders.iter().all(|folder| !folder.exists()));
    assert!(!std::path::Path::new(&orphan).join("exe").exists());
    Ok(())
}

/// The conformance vectors that Istio's own rules were observed to give.
fn istio_redirects(backend: Backend) -> Tested {
    let (pod, app, _far) = pod_and_far("istio", 80)?;
    let proxy = pod.worker(&Identity::proxy())?;
    proxy.serve(&Serve::new("outbound", at("0.0.0.0", 15001)))?;
    proxy.serve(&Serve::new("outbound6", at("::", 15001)))?;
    proxy.serve(&Serve::new("inbound", at("0.0.0.0", 15006)))?;
    let near = pod.worker(&Identity::app())?;
    near.serve(&Serve::new("near", at("0.0.0.0", 8080)))?;

    let mut rules = IstioRules::default();
    iptables::apply_istio(&pod, backend, &rules)?;
    let (v4, v6) = (at(FAR_V4, 80), at(FAR_V6, 80));
    for mode in [
        Mode::Blocking,
        Mode::NonBlocking,
        Mode::FastOpen,
        Mode::FastOpenConnect,
    ] {
        for (to, server) in [(v4, "outbound"), (v6, "outbound6")] {
            let dialled = app.dial(&Dial::to(to).mode(mode))?;
            assert_eq!(
                (dialled.server(), dialled.orig_dst()),
                (Some(server), Some(to)),
                "{mode:?}: {dialled:?}"
            );
            assert_eq!(dialled.peername, Some(to));
            assert_eq!(dialled.sockname, dialled.greeting().unwrap().peer);
        }
    }
    let mapped = app.dial(&Dial::to(v4).mapped())?;
    assert_eq!(
        (mapped.server(), mapped.orig_dst()),
        (Some("outbound"), Some(v4))
    );
    assert_eq!(
        app.dial(&Dial::to(at("10.77.0.2", 8080)))?.server(),
        Some("near")
    );
    assert_eq!(proxy.dial(&Dial::to(v4))?.server(), Some("far4"));
    let own = proxy.dial(&Dial::to(at("10.77.0.2", 8080)))?;
    assert_eq!(
        (own.server(), own.orig_dst()),
        (Some("inbound"), Some(at("10.77.0.2", 8080)))
    );
    let gid = pod.worker(&Identity::app().gid(1337))?;
    assert_eq!(gid.dial(&Dial::to(v4))?.server(), Some("far4"));
    let world = pod.world().worker(&Identity::root())?;
    assert_eq!(
        world.dial(&Dial::to(at("10.77.0.2", 8080)))?.server(),
        Some("inbound")
    );

    let flooded = app.flood(&Flood::new(
        "outbound",
        [v4, at(FAR_V4, 81), at("203.0.113.9", 443)],
        3000,
    ))?;
    assert!(flooded.is_all_right(3000), "{flooded:?}");
    assert!(proxy.accepted("outbound")?.redirected >= 3000);

    rules.exclude_cidrs = vec!["36.152.44.0/24".parse()?];
    iptables::apply_istio(&pod, backend, &rules)?;
    assert!(iptables::listing(&pod, backend, Family::V4)?.contains("-d 36.152.44.0/24 -j RETURN"));
    assert_eq!(app.dial(&Dial::to(v4))?.server(), Some("far4"));
    iptables::clear(&pod, backend)?;
    let direct = app.dial(&Dial::to(v6))?;
    assert_eq!(direct.server(), Some("far6"));
    Ok(())
}
