//! Real proxies, unaware of the programs, and the two ways past their policy: exclude a range, or register the service.

use anyhow::{Result, ensure};
use redirect_testkit::{
    Answer, Behaviour, Dial, DialOutcome, DialReport, Envoy, Haproxy, HttpAnswer, HttpGet,
    OutboundPolicy, Serve, cases,
};
use redirect_user::config::{Include, RedirectConfig};

use crate::{
    Cases, Needs, Tested,
    harness::{
        ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, FAR_V6, Redirected, Scene, at, dual_stack, moved, netns,
    },
    inbound::every_port,
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Envoy => [
        envoy_passes_everything_until_a_range_is_excluded,
        envoy_passes_the_registered_service_and_an_excluded_range_bypasses_it,
        envoy_delivers_its_own_calls_to_the_pod,
        envoy_delivers_inbound_connections_to_the_application,
    ],
    Needs::Haproxy => [
        haproxy_passes_everything_until_a_range_is_excluded,
        haproxy_passes_only_the_registered_service,
    ],
};

fn everything() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

/// The first way, which changes the pod: 36.152.44.0/24 is excluded.
fn without_range() -> RedirectConfig {
    let exclude = vec!["36.152.44.0/24".parse().expect("a range")];
    RedirectConfig {
        exclude,
        ..everything()
    }
}

/// Makes a pod whose world serves HTTP at port 80.
fn mesh(name: &str) -> Result<Redirected> {
    let scene = Scene::without_proxy(name)?;
    for (name, any) in [("world4:80", "0.0.0.0"), ("world6:80", "::")] {
        scene.world.stop_server(name)?;
        scene
            .world
            .serve(&Serve::new(name, at(any, 80)).behaviour(Behaviour::Http))?;
    }
    Redirected::attach(name, scene, &everything())
}

impl Redirected {
    fn get(&self, host: &str) -> Result<HttpAnswer> {
        self.scene
            .dialer(1000, 1000)?
            .http_get(&HttpGet::to(at(host, 80)))
    }

    fn dial(&self, dial: &Dial) -> Result<DialReport> {
        self.scene.dial_as(1000, 1000, dial)
    }
}

/// Whether the proxy accepted the connection, and closed it without an upstream connection. On a slow machine the reset
/// may arrive before `connect` returns; a connection that nobody accepts is refused instead.
fn is_turned_away(dialled: &DialReport) -> bool {
    match &dialled.outcome {
        DialOutcome::Connected(answer) => matches!(answer, Answer::Closed | Answer::Reset),
        DialOutcome::Failed { name, .. } => name == "ECONNRESET",
        DialOutcome::Refused => false,
    }
}

/// Whether Envoy answered, with the world's answer.
fn is_through_envoy(answer: &HttpAnswer, host: &str) -> bool {
    let reached = answer.banner().and_then(|banner| banner.local);
    (answer.status(), answer.server()) == (Some(200), Some("envoy"))
        && reached == Some(at(host, 80))
}

/// Whether the world answered without a proxy.
fn is_direct(answer: &HttpAnswer) -> bool {
    (answer.status(), answer.server()) == (Some(200), Some("world4:80"))
}

fn envoy_passes_everything_until_a_range_is_excluded() -> Tested {
    let pod = mesh("allow")?;
    let envoy = Envoy::start(&pod.scene.pod, &OutboundPolicy::AllowAny)?;
    let before = pod.hits()?;
    for host in [FAR_V4, ELSEWHERE_V4, FAR_V6, ELSEWHERE_V6] {
        let answer = pod.get(host)?;
        ensure!(
            is_through_envoy(&answer, host),
            "{host}: {answer:?}\n{}",
            envoy.log()?
        );
    }
    for (dial, server) in [
        (Dial::to(at(FAR_V4, 8080)), "world4:8080"),
        (Dial::to(at(FAR_V4, 8080)).mapped(), "world4:8080"),
        (Dial::to(at(FAR_V6, 8080)), "world6:8080"),
    ] {
        let dialled = pod.dial(&dial)?;
        ensure!(
            dialled.server() == Some(server),
            "{dialled:?}\n{}",
            envoy.log()?
        );
        ensure!(
            dialled.banner().and_then(|seen| seen.peer) != dialled.sockname,
            "no proxy was in between"
        );
    }
    let passed = envoy.connections(Envoy::PASSTHROUGH)?;
    ensure!(passed == 7, "{passed} connections passed");
    let redirected = moved(&before, &pod.hits()?).remove("any-included");
    ensure!(
        redirected == Some(7),
        "{redirected:?} connections were redirected"
    );

    // The first way, on the running pod.
    pod.update(&without_range())?;
    let before = pod.hits()?;
    let answer = pod.get(FAR_V4)?;
    ensure!(is_direct(&answer), "{answer:?}");
    let direct = moved(&before, &pod.hits()?).remove("cidr-excluded");
    ensure!(direct == Some(1), "{direct:?} connections were excluded");
    let passed = envoy.connections(Envoy::PASSTHROUGH)?;
    ensure!(
        passed == 7,
        "{passed} connections passed, though one was excluded"
    );
    let answer = pod.get(ELSEWHERE_V4)?;
    ensure!(is_through_envoy(&answer, ELSEWHERE_V4), "{answer:?}");
    Ok(())
}

fn envoy_passes_the_registered_service_and_an_excluded_range_bypasses_it() -> Tested {
    let pod = mesh("registry")?;
    // The second way: the service is registered.
    let registered = at(ELSEWHERE_V4, 80);
    let envoy = Envoy::start(&pod.scene.pod, &OutboundPolicy::RegistryOnly { registered })?;
    let answer = pod.get(ELSEWHERE_V4)?;
    ensure!(
        is_through_envoy(&answer, ELSEWHERE_V4),
        "{answer:?}\n{}",
        envoy.log()?
    );
    ensure!(envoy.connections(Envoy::REGISTERED)? == 1);

    let answer = pod.get(FAR_V4)?;
    ensure!(answer == HttpAnswer::Closed, "{answer:?}");
    let closed = pod.dial(&Dial::to(at(FAR_V4, 8080)))?;
    ensure!(is_turned_away(&closed), "{closed:?}");
    ensure!(envoy.turned_away(Envoy::BLACK_HOLE)? == 2);

    pod.update(&without_range())?;
    let answer = pod.get(FAR_V4)?;
    ensure!(is_direct(&answer), "{answer:?}");
    ensure!(pod.dial(&Dial::to(at(FAR_V4, 8080)))?.server() == Some("world4:8080"));
    let counters = (
        envoy.turned_away(Envoy::BLACK_HOLE)?,
        envoy.connections(Envoy::REGISTERED)?,
    );
    ensure!(
        counters == (2, 1),
        "{counters:?} though nothing new went through Envoy"
    );

    pod.update(&everything())?;
    let answer = pod.get(FAR_V4)?;
    ensure!(
        answer == HttpAnswer::Closed,
        "back under the old policy: {answer:?}"
    );
    Ok(())
}

/// The proxy's calls to its own pod go to its inbound port, and from there, with source 127.0.0.6 or `::6`, to the
/// application.
fn envoy_delivers_its_own_calls_to_the_pod() -> Tested {
    let pod = mesh("inbound")?;
    let envoy = Envoy::start(&pod.scene.pod, &OutboundPolicy::AllowAny)?;
    for (own, server, source) in [
        ("10.77.0.2", "app4:8080", "127.0.0.6"),
        ("fd00:77::2", "app6:8080", "::6"),
    ] {
        let before = pod.hits()?;
        let dialled = pod.scene.dial_as(1337, 1337, &Dial::to(at(own, 8080)))?;
        let counted = moved(&before, &pod.hits()?);
        ensure!(
            dialled.server() == Some(server),
            "{dialled:?}\n{}",
            envoy.log()?
        );
        let peer = dialled
            .banner()
            .and_then(|banner| banner.peer)
            .map(|peer| peer.ip());
        ensure!(peer == Some(at(source, 0).ip()), "{dialled:?}");
        ensure!(
            counted
                .into_iter()
                .eq([("passthrough", 1), ("uid-to-self", 1)])
        );
    }
    Ok(())
}

/// The world's connections go to Envoy's inbound port, and from there, with source 127.0.0.6 or `::6`, to the
/// application; Envoy may start before or after the attach. An excluded port is served by the application itself.
fn envoy_delivers_inbound_connections_to_the_application() -> Tested {
    let pod = mesh("arrives")?;
    let settings = RedirectConfig {
        inbound: every_port().inbound,
        ..everything()
    };
    pod.update(&settings)?;
    let envoy = Envoy::start(&pod.scene.pod, &OutboundPolicy::AllowAny)?;
    for round in 1..=2 {
        for (own, server, source) in [
            ("10.77.0.2", "app4:8080", "127.0.0.6"),
            ("fd00:77::2", "app6:8080", "::6"),
        ] {
            let before = pod.hits()?;
            let dialled = pod.scene.world.dial(&Dial::to(at(own, 8080)))?;
            let counted = moved(&before, &pod.hits()?);
            ensure!(
                dialled.server() == Some(server),
                "{dialled:?}\n{}",
                envoy.log()?
            );
            let peer = dialled.banner().and_then(|banner| banner.peer);
            let peer = peer.map(|peer| peer.ip());
            ensure!(peer == Some(at(source, 0).ip()), "{dialled:?}");
            let expected = [("in-any-included", 1), ("in-looped", 1), ("passthrough", 1)];
            ensure!(
                counted
                    .iter()
                    .eq(expected.iter().map(|(rule, hits)| (rule, hits))),
                "{counted:?}"
            );
        }
        let direct = pod.scene.world.dial(&Dial::to(at("10.77.0.2", 15008)))?;
        ensure!(direct.server() == Some("app4:15008"), "{direct:?}");
        // The application does not listen at this port: Envoy accepts the connection, dials the application, and is
        // refused.
        let closed = pod.scene.world.dial(&Dial::to(at("10.77.0.2", 9999)))?;
        ensure!(is_turned_away(&closed), "{closed:?}");
        let accepted = envoy.accepted("0.0.0.0_15006")?;
        let passed = (
            envoy.connections("InboundPassthroughClusterIpv4")?,
            envoy.connections("InboundPassthroughClusterIpv6")?,
        );
        ensure!(
            accepted == round * 3 && passed == (round * 2, round),
            "{accepted} accepted, {passed:?} passed on"
        );
        // The second round has an Envoy that started before the attach.
        pod.detach()?;
        let direct = pod.scene.world.dial(&Dial::to(at("10.77.0.2", 8080)))?;
        ensure!(is_from_app(&direct), "{direct:?}");
        let netns = netns(&pod.scene.pod)?;
        pod.owner
            .writer()?
            .attach(&pod.cgroup, &netns, &dual_stack(&settings))?;
    }
    Ok(())
}

/// Whether the application answered without a proxy.
fn is_from_app(dialled: &DialReport) -> bool {
    let peer = dialled.banner().and_then(|banner| banner.peer);
    dialled.server() == Some("app4:8080") && peer == dialled.sockname
}

fn haproxy_passes_everything_until_a_range_is_excluded() -> Tested {
    let pod = mesh("haproxy")?;
    let haproxy = Haproxy::start(&pod.scene.pod, &OutboundPolicy::AllowAny)?;
    let is_direct =
        |dialled: &DialReport| dialled.banner().and_then(|seen| seen.peer) == dialled.sockname;
    for dial in [
        Dial::to(at(FAR_V4, 8080)),
        Dial::to(at(FAR_V4, 8080)).mapped(),
    ] {
        let dialled = pod.dial(&dial)?;
        ensure!(
            dialled.server() == Some("world4:8080"),
            "{dialled:?}\n{}",
            haproxy.log()?
        );
        ensure!(!is_direct(&dialled), "no proxy was in between: {dialled:?}");
    }
    pod.update(&without_range())?;
    let dialled = pod.dial(&Dial::to(at(FAR_V4, 8080)))?;
    ensure!(
        dialled.server() == Some("world4:8080") && is_direct(&dialled),
        "{dialled:?}"
    );
    Ok(())
}

fn haproxy_passes_only_the_registered_service() -> Tested {
    let pod = mesh("haregistry")?;
    let registered = at(ELSEWHERE_V4, 8080);
    let haproxy = Haproxy::start(&pod.scene.pod, &OutboundPolicy::RegistryOnly { registered })?;
    let dialled = pod.dial(&Dial::to(registered))?;
    ensure!(
        dialled.server() == Some("world4:8080"),
        "{dialled:?}\n{}",
        haproxy.log()?
    );
    for unknown in [at(FAR_V4, 8080), at(ELSEWHERE_V4, 443)] {
        let closed = pod.dial(&Dial::to(unknown))?;
        ensure!(is_turned_away(&closed), "{closed:?}");
    }
    Ok(())
}
