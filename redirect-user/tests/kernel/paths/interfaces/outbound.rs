//! Connections out of an excluded interface.

use std::time::Duration;

use anyhow::ensure;
use redirect_common::{
    chain::RuleId,
    facts::{Owner, Transport},
};
use redirect_iptables::rules::live_rule;
use redirect_testkit::{Dial, Mode};
use redirect_user::{
    config::{Dns, RedirectConfig},
    node::{AttachError, Question, explain},
};

use super::{
    super::walk::{APP, PROXY, to, walk},
    two_links::{BEHIND, EXCLUDED, INCLUDED, INNERMOST, INSIDE, NET1, TwoLinks, config},
};
use crate::{
    Tested,
    differential::install,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, ranges_of},
};

pub(in crate::paths) fn connections_out_of_an_excluded_interface_are_left_alone() -> Tested {
    let links = TwoLinks::new("exclude-nic", &["net1"])?;
    for ids in [APP, PROXY] {
        for addresses in [BEHIND, INNERMOST, ["10.78.0.1", "fd00:78::1"]] {
            links.expect(ids, addresses, 80, ("world", EXCLUDED))?;
        }
        // The interface wins over an excluded port.
        links.expect(ids, BEHIND, 5555, ("world", EXCLUDED))?;
        // The address of the interface itself is local to the pod.
        let (server, rule) = if ids == APP {
            ("app", "app-lo-uid")
        } else {
            ("in", "uid-to-self")
        };
        for (addr, family) in NET1.into_iter().zip([4, 6]) {
            let port = if ids == APP { 8080 } else { 15006 };
            walk(
                &links.backends,
                ids,
                &format!("{server}{family}:{port}"),
                rule,
                [to(addr, 8080)],
            )?;
        }
    }
    for addresses in [INSIDE, [ELSEWHERE_V4, ELSEWHERE_V6]] {
        links.expect(APP, addresses, 80, ("out", INCLUDED))?;
        links.expect(PROXY, addresses, 80, ("world", "uid"))?;
        links.expect(APP, addresses, 5555, ("world", "port-excluded"))?;
    }
    check_bound_devices(&links)?;
    check_explain(&links)?;
    check_configs(&links)?;

    check_queries(&links)?;

    // Without the programs nothing is redirected.
    let ebpf = &links.backends.ebpf;
    ebpf.detach()?;
    let dialled = ebpf.scene.dial_as(1000, 1000, &to(INSIDE[0], 80))?;
    ensure!(dialled.server() == Some("world4:80"), "{dialled:?}");
    Ok(())
}

/// Queries to resolvers elsewhere are captured. Behind the interface no server answers datagrams.
fn check_queries(links: &TwoLinks) -> Tested {
    links.configure(&RedirectConfig {
        dns: Dns {
            redirect: true,
            capture_all: true,
            servers: Vec::new(),
        },
        ..config(&["net1"])
    })?;
    let dns = RuleId::Dns.name();
    for (addresses, tcp, udp, rule) in [
        (BEHIND, ["world4:53", "world6:53"], ["closed"; 2], EXCLUDED),
        (
            INSIDE,
            ["dns4:15053", "dns6:15053"],
            ["dns udp 127.0.0.1:15053", "dns udp [::1]:15053"],
            dns,
        ),
    ] {
        for ((addr, tcp), udp) in addresses.into_iter().zip(tcp).zip(udp) {
            walk(&links.backends, APP, tcp, rule, [to(addr, 53)])?;
            walk(
                &links.backends,
                APP,
                udp,
                rule,
                [to(addr, 53).mode(Mode::Udp)],
            )?;
        }
    }
    Ok(())
}

/// If the device has no route to a destination, the kernel treats the destination as a neighbour.
fn check_bound_devices(links: &TwoLinks) -> Tested {
    let by_net1 = [to(ELSEWHERE_V4, 80), to(INSIDE[0], 80), to(BEHIND[0], 80)];
    let by_net1 = by_net1.map(|dial| dial.device("net1"));
    walk(&links.backends, APP, "world4:80", EXCLUDED, by_net1)?;
    walk(
        &links.backends,
        APP,
        "world6:80",
        EXCLUDED,
        [to(BEHIND[1], 80).device("net1")],
    )?;
    // A redirect leads to 127.0.0.1, which eth0 does not reach.
    let lost = |dial: Dial| dial.device("eth0").timeout(Duration::from_millis(200));
    let by_eth0 = [to(BEHIND[0], 80), to(ELSEWHERE_V4, 80)].map(lost);
    walk(&links.backends, APP, "ETIMEDOUT", INCLUDED, by_eth0)?;
    let by_eth0 = [to(BEHIND[0], 80).device("eth0")];
    walk(&links.backends, PROXY, "world4:80", "uid", by_eth0)
}

fn check_explain(links: &TwoLinks) -> Tested {
    let ebpf = &links.backends.ebpf;
    let reader = ebpf.owner.reader()?;
    let pod = ebpf.pod(&reader)?;
    let owner = Owner {
        uid: 1000,
        gid: 1000,
    };
    for (addr, rule) in [
        (BEHIND[0], EXCLUDED),
        (INSIDE[1], INCLUDED),
        (INNERMOST[1], EXCLUDED),
    ] {
        let question = Question {
            transport: Transport::Tcp,
            owner,
            dst: to(addr, 80).to,
            source: None,
        };
        let explained = explain(&reader, &pod, &question)?;
        ensure!(
            explained.decision.rule.name() == rule,
            "{addr}: {explained:?}"
        );
        if rule == EXCLUDED {
            ensure!(
                live_rule(&reader, &pod, explained.decision.rule, &explained.flow)?
                    == "-A OUTPUT -o net1 -j RETURN",
                "{explained:?}"
            );
        }
    }
    ensure!(reader.config(&pod)? == config(&["net1"]));
    ensure!(
        ranges_of(&reader, &pod)? == 0,
        "routes are not ranges of the configuration"
    );
    Ok(())
}

/// Excluded ranges lie inside of the routes' prefixes and around them.
fn check_configs(links: &TwoLinks) -> Tested {
    let nested = RedirectConfig {
        exclude: vec!["198.18.2.0/25".parse()?, "198.0.0.0/8".parse()?],
        ..config(&["net1"])
    };
    links.configure(&nested)?;
    links.expect(APP, [INNERMOST[0], BEHIND[1]], 80, ("world", EXCLUDED))?;
    let excluded = RuleId::CidrExcluded.name();
    walk(
        &links.backends,
        APP,
        "world4:80",
        excluded,
        [to(INSIDE[0], 80)],
    )?;
    // A change of the ranges does not need the namespace, but a change of the interfaces does.
    let ebpf = &links.backends.ebpf;
    let mut writer = ebpf.owner.writer()?;
    let pod = ebpf.pod(&writer)?;
    writer.update(&pod, None, &config(&["net1"]))?;
    let error = writer
        .update(&ebpf.pod(&writer)?, None, &config(&["eth0"]))
        .expect_err("an update without the namespace");
    ensure!(matches!(error, AttachError::NoNetns(_)), "{error:#}");
    drop(writer);
    install(&links.backends.iptables.pod, &config(&["net1"]))?;
    links.expect(APP, BEHIND, 80, ("world", EXCLUDED))
}

pub(in crate::paths) fn an_excluded_lo_and_an_excluded_default_route_win_over_the_chain() -> Tested
{
    let links = TwoLinks::new("exclude-lo", &["lo"])?;
    let own = ["10.77.0.2", "fd00:77::2"];
    for ids in [APP, PROXY] {
        for addresses in [own, NET1, ["127.0.0.1", "::1"]] {
            links.expect(ids, addresses, 8080, ("app", EXCLUDED))?;
        }
    }
    links.expect(APP, INSIDE, 80, ("out", INCLUDED))?;
    links.expect_out(BEHIND)?;

    links.configure(&config(&["eth+"]))?;
    for addresses in [INSIDE, [ELSEWHERE_V4, ELSEWHERE_V6]] {
        links.expect(APP, addresses, 80, ("world", EXCLUDED))?;
        links.expect(PROXY, addresses, 80, ("world", EXCLUDED))?;
    }
    links.expect(APP, own, 8080, ("app", "app-lo-uid"))?;
    links.expect_out(BEHIND)?;
    links.expect_out(INNERMOST)?;

    // Every interface is excluded.
    links.configure(&config(&["eth0", "net1", "lo"]))?;
    for addresses in [INSIDE, BEHIND] {
        links.expect(APP, addresses, 80, ("world", EXCLUDED))?;
    }
    links.expect(APP, own, 8080, ("app", EXCLUDED))
}
