// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real proxies behind real iptables rules, the reference for proxies behind the eBPF programs.

use redirect_testkit::{
    Answer, Behaviour, Dial, DialOutcome, DialReport, Envoy, Haproxy, HttpAnswer, HttpGet,
    Identity, OutboundPolicy, Pod, Serve, Worker,
    iptables::{self, Backend, IstioRules},
};

use crate::{FAR_V4, FAR_V6, Tested, at};

const UNKNOWN: &str = "203.0.113.10";

struct Mesh {
    pod: Pod,
    app: Worker,
    world: Worker,
}

/// Makes a pod behind Istio's rules, and a world with a web server at port 80 and another server at port 9000, at
/// three addresses.
fn mesh(name: &str) -> anyhow::Result<Mesh> {
    let pod = Pod::new(name)?;
    for address in [FAR_V4, FAR_V6, UNKNOWN] {
        pod.world().add_address(address.parse()?)?;
    }
    let world = pod.world().worker(&Identity::root())?;
    for any in ["0.0.0.0", "::"] {
        world.serve(&Serve::new(&format!("web {any}"), at(any, 80)).behaviour(Behaviour::Http))?;
        world.serve(&Serve::new(&format!("far {any}"), at(any, 9000)))?;
    }
    iptables::apply_istio(&pod, Backend::Legacy, &IstioRules::default())?;
    let app = pod.worker(&Identity::app())?;
    Ok(Mesh { pod, app, world })
}

pub(crate) fn envoy_passes_everything_under_allow_any() -> Tested {
    let Mesh { pod, app, world } = mesh("allow")?;
    let envoy = Envoy::start(&pod, &OutboundPolicy::AllowAny)?;
    for host in [FAR_V4, UNKNOWN] {
        let answer = app.http_get(&HttpGet::to(at(host, 80)))?;
        assert_eq!(
            (answer.status(), answer.server()),
            (Some(200), Some("envoy")),
            "{answer:?}\n{}",
            envoy.log()?
        );
        let banner = answer.banner().expect("the web server's answer");
        assert_eq!(
            (banner.server.as_str(), banner.local),
            ("web 0.0.0.0", Some(at(host, 80)))
        );
        assert_eq!(
            app.dial(&Dial::to(at(host, 9000)))?.server(),
            Some("far 0.0.0.0")
        );
    }
    assert_eq!(envoy.connections(Envoy::PASSTHROUGH)?, 4);
    let looped = app.dial(&Dial::to(at("127.0.0.1", 15001)))?;
    assert!(is_turned_away(&looped), "{looped:?}");

    // Connections from the world go through Envoy, those to an excluded prefix past it.
    let near = pod.worker(&Identity::app())?;
    near.serve(&Serve::new("near", at("0.0.0.0", 8080)))?;
    let inbound = world.dial(&Dial::to(at("10.77.0.2", 8080)))?;
    assert_eq!(
        inbound.banner().map(|banner| banner.peer.unwrap().ip()),
        Some(at("127.0.0.6", 0).ip())
    );
    let rules = IstioRules {
        exclude_cidrs: vec!["36.152.44.0/24".parse()?],
        ..IstioRules::default()
    };
    iptables::apply_istio(&pod, Backend::Legacy, &rules)?;
    assert_eq!(
        app.http_get(&HttpGet::to(at(FAR_V4, 80)))?.server(),
        Some("web 0.0.0.0")
    );
    assert_eq!(envoy.connections(Envoy::PASSTHROUGH)?, 4);
    Ok(())
}

pub(crate) fn envoy_passes_only_the_registered_service() -> Tested {
    let Mesh {
        pod,
        app,
        world: _world,
    } = mesh("registry")?;
    let envoy = Envoy::start(
        &pod,
        &OutboundPolicy::RegistryOnly {
            registered: at(FAR_V4, 80),
        },
    )?;
    let answer = app.http_get(&HttpGet::to(at(FAR_V4, 80)))?;
    assert_eq!(
        (answer.status(), answer.server()),
        (Some(200), Some("envoy")),
        "{answer:?}\n{}",
        envoy.log()?
    );
    assert_eq!(envoy.connections(Envoy::REGISTERED)?, 1);
    assert_eq!(
        app.http_get(&HttpGet::to(at(UNKNOWN, 80)))?,
        HttpAnswer::Closed
    );
    for host in [FAR_V4, UNKNOWN] {
        let closed = app.dial(&Dial::to(at(host, 9000)))?;
        assert!(is_turned_away(&closed), "{closed:?}");
    }
    assert_eq!(envoy.turned_away(Envoy::BLACK_HOLE)?, 3);
    Ok(())
}

pub(crate) fn envoy_serves_both_families() -> Tested {
    let Mesh { pod, app, world } = mesh("families")?;
    let envoy = Envoy::start(&pod, &OutboundPolicy::AllowAny)?;
    let answer = app.http_get(&HttpGet::to(at(FAR_V6, 80)))?;
    assert_eq!(
        (answer.status(), answer.server()),
        (Some(200), Some("envoy")),
        "{answer:?}\n{}",
        envoy.log()?
    );
    assert_eq!(
        answer.banner().and_then(|banner| banner.local),
        Some(at(FAR_V6, 80))
    );
    assert_eq!(
        app.dial(&Dial::to(at(FAR_V6, 9000)))?.server(),
        Some("far ::")
    );
    assert_eq!(
        app.dial(&Dial::to(at(FAR_V4, 9000)).mapped())?.server(),
        Some("far 0.0.0.0")
    );
    assert_eq!(envoy.connections(Envoy::PASSTHROUGH)?, 3);
    let near = pod.worker(&Identity::app())?;
    near.serve(&Serve::new("near", at("::", 8080)))?;
    let inbound = world.dial(&Dial::to(at("fd00:77::2", 8080)))?;
    assert_eq!(
        inbound.banner().map(|banner| banner.peer.unwrap().ip()),
        Some(at("::6", 0).ip()),
        "{inbound:?}\n{}",
        envoy.log()?
    );
    Ok(())
}

pub(crate) fn haproxy_passes_ipv4_and_turns_ipv6_away() -> Tested {
    let Mesh {
        pod,
        app,
        world: _world,
    } = mesh("haproxy")?;
    let haproxy = Haproxy::start(&pod, &OutboundPolicy::AllowAny)?;
    for host in [FAR_V4, UNKNOWN] {
        let dialled = app.dial(&Dial::to(at(host, 9000)))?;
        assert_eq!(
            dialled.server(),
            Some("far 0.0.0.0"),
            "{dialled:?}\n{}",
            haproxy.log()?
        );
        assert_ne!(
            dialled.sockname,
            dialled.banner().unwrap().peer,
            "no proxy was in between"
        );
    }
    assert_eq!(
        app.dial(&Dial::to(at(FAR_V4, 9000)).mapped())?.server(),
        Some("far 0.0.0.0")
    );
    let away = app.dial(&Dial::to(at(FAR_V6, 9000)))?;
    assert!(is_turned_away(&away), "{away:?}");
    Ok(())
}

/// Whether the proxy accepted the connection, and closed it without an upstream connection.
const fn is_turned_away(dialled: &DialReport) -> bool {
    matches!(
        dialled.outcome,
        DialOutcome::Connected(Answer::Closed | Answer::Reset)
    )
}

pub(crate) fn haproxy_passes_only_the_registered_service() -> Tested {
    let Mesh {
        pod,
        app,
        world: _world,
    } = mesh("haregistry")?;
    let haproxy = Haproxy::start(
        &pod,
        &OutboundPolicy::RegistryOnly {
            registered: at(FAR_V4, 9000),
        },
    )?;
    assert_eq!(
        app.dial(&Dial::to(at(FAR_V4, 9000)))?.server(),
        Some("far 0.0.0.0"),
        "{}",
        haproxy.log()?
    );
    for unknown in [at(UNKNOWN, 9000), at(FAR_V4, 80), at(FAR_V6, 9000)] {
        let closed = app.dial(&Dial::to(unknown))?;
        assert!(is_turned_away(&closed), "{closed:?}");
    }
    Ok(())
}
