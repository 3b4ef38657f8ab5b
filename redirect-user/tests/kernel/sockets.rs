//! Sockets of every kind and in every state, which must not change the redirection.

use std::time::Duration;

use anyhow::{Result, ensure};
use redirect_testkit::{
    Behaviour, Dial, DialOutcome, DialReport, DialSequence, Mode, OpenConnections, Serve,
    UdpScript, UdpStep, cases, wait_until,
};
use redirect_user::config::{Dns, Include, RedirectConfig};

use crate::{
    Cases, Needs, Tested,
    harness::{
        ELSEWHERE_V4, ELSEWHERE_V6, Expected, FAR_V4, OUT_PORT, Redirected, Scene, Server, at,
        moved,
    },
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        a_proxy_that_does_not_listen_refuses_and_leaves_nothing,
        a_full_backlog_leaves_nothing_once_closed,
        every_way_to_connect_is_redirected,
        data_in_the_first_packet_is_redirected,
        a_dual_stack_listener_takes_every_family,
        udp_is_left_alone,
    ],
};

const MODES: [Mode; 4] = [
    Mode::Blocking,
    Mode::NonBlocking,
    Mode::FastOpen,
    Mode::FastOpenConnect,
];

/// Redirects everything except 36.152.44.0/24.
pub(crate) fn settings() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        exclude: vec!["36.152.44.0/24".parse().expect("a range")],
        ..RedirectConfig::default()
    }
}

/// Dials of the same destination by IPv4, IPv4-mapped and IPv6.
pub(crate) fn everywhere() -> [Dial; 3] {
    let (v4, v6) = (at(ELSEWHERE_V4, 80), at(ELSEWHERE_V6, 80));
    [Dial::to(v4), Dial::to(v4).mapped(), Dial::to(v6)]
}

/// Checks a report against the expected view if `by` answers.
pub(crate) fn check(by: Server, dial: &Dial, dialled: &DialReport) -> Result<()> {
    match Expected::of(by, dial).difference(dialled) {
        None => Ok(()),
        Some(difference) => anyhow::bail!("{dial:?}: {difference}"),
    }
}

/// Waits until no handshake is under way any more. Returns whether that happened.
pub(crate) fn is_quiet(pod: &Redirected) -> bool {
    wait_until(Duration::from_secs(5), || {
        pod.flows().is_ok_and(|flows| flows == 0)
    })
}

fn a_proxy_that_does_not_listen_refuses_and_leaves_nothing() -> Tested {
    let pod = Redirected::attach("refused", Scene::without_proxy("refused")?, &settings())?;
    let before = pod.hits()?;
    for dial in everywhere() {
        for mode in MODES {
            let dialled = pod.scene.dial_as(1000, 1000, &dial.clone().mode(mode))?;
            ensure!(
                dialled.outcome == DialOutcome::Refused,
                "{dial:?} {mode:?}: {dialled:?}"
            );
        }
    }
    let after = pod.hits()?;
    ensure!(
        moved(&before, &after)
            .into_iter()
            .eq([("any-included", 12)]),
        "{after:?}"
    );
    ensure!(after.flow_lost == 0, "{after:?}");
    ensure!(is_quiet(&pod), "{} flows are left", pod.flows()?);

    // The socket is still usable: it connects to another destination, directly.
    let sequence = DialSequence {
        first: Dial::to(at(ELSEWHERE_V4, 80)),
        disconnect: false,
        second: Dial::to(at(FAR_V4, 80)),
    };
    let (first, second) = pod.scene.dialer(1000, 1000)?.dial_sequence(&sequence)?;
    ensure!(first.outcome == DialOutcome::Refused, "{first:?}");
    check(Server::World, &sequence.second, &second)
}

fn a_full_backlog_leaves_nothing_once_closed() -> Tested {
    let pod = Redirected::attach("backlog", Scene::without_proxy("backlog")?, &settings())?;
    // The servers do not listen at the wildcard address, because handshakes to that are not recorded.
    for (name, loopback) in [("deaf4", "127.0.0.1"), ("deaf6", "::1")] {
        let deaf = Serve::new(name, at(loopback, OUT_PORT)).behaviour(Behaviour::NeverAccept);
        pod.scene.proxy.serve(&deaf.backlog(4))?;
    }
    let app = pod.scene.dialer(1000, 1000)?;
    for to in [at(ELSEWHERE_V4, 80), at(ELSEWHERE_V6, 80)] {
        app.open_connections(&OpenConnections {
            to,
            bind: None,
            count: 12,
        })?;
        let settled = wait_until(Duration::from_secs(5), || {
            app.connection_counts()
                .is_ok_and(|counts| counts.established >= 5)
        });
        let (counts, flows) = (app.connection_counts()?, pod.flows()?);
        ensure!(
            settled && counts.established + counts.in_progress == 12,
            "{counts:?}"
        );
        ensure!(
            counts.in_progress > 0 && flows >= usize::try_from(counts.in_progress)?,
            "{flows} flows for {counts:?}"
        );
        app.close_connections()?;
        ensure!(is_quiet(&pod), "{} flows are left of {flows}", pod.flows()?);
    }
    ensure!(pod.hits()?.flow_lost == 0, "{:?}", pod.hits()?);
    // The programs are detached while these handshakes are under way, so no program sees them end.
    app.open_connections(&OpenConnections {
        to: at(ELSEWHERE_V4, 80),
        bind: None,
        count: 12,
    })?;
    let pending = wait_until(Duration::from_secs(5), || {
        pod.flows().is_ok_and(|flows| flows > 0)
    });
    ensure!(pending, "no handshake is under way");
    pod.detach()?;
    ensure!(pod.flows()? == 0, "{} flows outlive the pod", pod.flows()?);
    app.close_connections()?;
    Ok(())
}

fn every_way_to_connect_is_redirected() -> Tested {
    let pod = Redirected::new("modes", &settings())?;
    for dial in everywhere() {
        for mode in MODES {
            let dial = dial.clone().mode(mode);
            let before = pod.hits()?;
            check(Server::Out, &dial, &pod.scene.dial_as(1000, 1000, &dial)?)?;
            let counted = moved(&before, &pod.hits()?);
            ensure!(
                counted.iter().eq([(&"any-included", &1)]),
                "{dial:?}: {counted:?}"
            );
        }
    }
    ensure!(is_quiet(&pod), "{} flows are left", pod.flows()?);
    Ok(())
}

/// TCP Fast Open is on at both ends, without cookies, so that the data really is in the SYN.
fn data_in_the_first_packet_is_redirected() -> Tested {
    let scene = Scene::without_proxy("fastopen")?;
    let root = scene.pod.worker(&redirect_testkit::Identity::root())?;
    // Client and server (1 + 2), both without a cookie (4 + 0x200), every listener (0x400): see
    // tcp_fastopen in the kernel's Documentation/networking/ip-sysctl.rst.
    let on = root.run(&["sh", "-c", "echo 1543 > /proc/sys/net/ipv4/tcp_fastopen"])?;
    ensure!(on.is_success(), "{on:?}");
    let pod = Redirected::attach("fastopen", scene, &settings())?;
    for (name, any) in [("out4:15001", "0.0.0.0"), ("out6:15001", "::")] {
        let echo = Serve::new(name, at(any, OUT_PORT)).behaviour(Behaviour::BannerAndEcho);
        pod.scene.proxy.serve(&echo)?;
    }
    let opened = || -> Result<u64> {
        let counters = root.run(&["cat", "/proc/net/netstat"])?;
        fast_opened(&counters.stdout)
    };
    for dial in everywhere() {
        for mode in [Mode::FastOpen, Mode::FastOpenConnect] {
            let (dial, before) = (dial.clone().mode(mode).echo("early words"), opened()?);
            let dialled = pod.scene.dial_as(1000, 1000, &dial)?;
            check(Server::Out, &dial, &dialled)?;
            ensure!(
                dialled.echoed.as_deref() == Some(b"early words".as_slice()),
                "{dialled:?}"
            );
            ensure!(
                opened()? == before + 1,
                "{dial:?} sent no data in its first packet"
            );
        }
    }
    ensure!(is_quiet(&pod), "{} flows are left", pod.flows()?);
    Ok(())
}

/// Parses `TCPFastOpenPassive` in `/proc/net/netstat`, which has a line of names and a line of values.
fn fast_opened(netstat: &str) -> Result<u64> {
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let value = names
        .split(' ')
        .zip(values.split(' '))
        .find(|(name, _)| *name == "TCPFastOpenPassive");
    Ok(value.map_or("", |(_, value)| value).parse()?)
}

fn a_dual_stack_listener_takes_every_family() -> Tested {
    let pod = Redirected::attach("dual", Scene::without_proxy("dual")?, &settings())?;
    pod.scene
        .proxy
        .serve(&Serve::new("both", at("::", OUT_PORT)).dual_stack())?;
    for dial in everywhere() {
        let dialled = pod.scene.dial_as(1000, 1000, &dial)?;
        ensure!(
            (dialled.server(), dialled.orig_dst()) == (Some("both"), Some(dial.to)),
            "{dial:?}: {dialled:?}"
        );
        ensure!(
            dialled.banner().and_then(|seen| seen.peer) == dialled.sockname,
            "{dialled:?}"
        );
    }
    Ok(())
}

fn udp_is_left_alone() -> Tested {
    let dns = Dns {
        redirect: true,
        capture_all: true,
        servers: Vec::new(),
    };
    let captured = RedirectConfig { dns, ..settings() };
    let pod = Redirected::new("udp", &settings())?;
    for (config, port) in [(&settings(), 53), (&settings(), 9999), (&captured, 9999)] {
        pod.update(config)?;
        for ip in [ELSEWHERE_V4, ELSEWHERE_V6] {
            let to = at(ip, port);
            let before = pod.hits()?;
            let dial = Dial::to(to).mode(Mode::Udp);
            check(Server::World, &dial, &pod.scene.dial_as(1000, 1000, &dial)?)?;
            let script = UdpScript::new([UdpStep::SendTo(to), UdpStep::Receive]);
            let seen = pod.scene.dialer(1000, 1000)?.udp_script(&script)?;
            ensure!(seen.iter().any(|step| step.from == Some(to)), "{seen:?}");
            let counted = moved(&before, &pod.hits()?);
            ensure!(counted.is_empty(), "a datagram was counted: {counted:?}");
        }
    }
    // The programs are attached nevertheless.
    let dial = Dial::to(at(ELSEWHERE_V4, 53)).mode(Mode::Udp);
    check(Server::Dns, &dial, &pod.scene.dial_as(1000, 1000, &dial)?)
}
