//! The switch for IPv6, which follows `istio-iptables`: that program writes no IPv6 rules for a pod whose first address
//! is IPv4, unless it is asked to.

use anyhow::{Context as _, Result, ensure};
use redirect_common::chain::RuleId;
use redirect_iptables::rules::{self, restore};
use redirect_testkit::{
    Dial, Identity, Pod, cases,
    iptables::{self, Backend, Family},
};
use redirect_user::{
    config::{Include, RedirectConfig},
    node::AttachError,
};

use crate::{
    Cases, Needs, Tested,
    differential::View,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, Redirected, Scene, at, dual_stack, moved, netns},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        ipv6_is_left_alone_behind_an_ipv4_address_as_behind_iptables,
        ipv6_is_redirected_where_it_comes_first_or_is_asked_for,
        ipv6_is_left_alone_without_any_address,
        ipv6_is_switched_only_with_the_namespace_at_hand,
    ],
};

fn everything() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

fn ip(pod: &Pod, arguments: &str) -> Tested {
    let argv: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
    let done = pod.worker(&Identity::root())?.run(&argv)?;
    ensure!(done.is_success(), "ip {arguments}: {done:?}");
    Ok(())
}

/// Updates the pod to exactly this configuration.
fn configure(pod: &Redirected, config: &RedirectConfig) -> Tested {
    let mut writer = pod.owner.writer()?;
    let attached = pod.pod(&writer)?;
    Ok(writer.update(&attached, Some(&netns(&pod.scene.pod)?), config)?)
}

/// Makes a connection. Returns its view and the rule that decided.
fn decided(pod: &Redirected, uid: u32, dial: &Dial) -> Result<(View, &'static str)> {
    let before = pod.hits()?;
    let view = View::of(&pod.scene.dial_as(uid, uid, dial)?);
    let moved = moved(&before, &pod.hits()?);
    ensure!(moved.values().eq(&[1]), "{moved:?}");
    Ok((view, moved.into_keys().next().context("find the rule")?))
}

fn ipv6_is_left_alone_behind_an_ipv4_address_as_behind_iptables() -> Tested {
    let behind = Scene::new("ipv6off-iptables")?;
    let rules = restore(&everything(), rules::Family::V4);
    iptables::apply(&behind.pod, Backend::Legacy, Family::V4, &rules)?;
    let ebpf = Redirected::new("ipv6off-ebpf", &everything())?;
    configure(&ebpf, &everything())?;
    let dials = [
        (Dial::to(at(ELSEWHERE_V6, 80)), Some(RuleId::Ipv6Off)),
        (Dial::to(at("fd00:77::2", 8080)), Some(RuleId::Ipv6Off)),
        (Dial::to(at("::1", 8080)), Some(RuleId::Ipv6Off)),
        (Dial::to(at("::6", 8080)), Some(RuleId::Ipv6Off)),
        (Dial::to(at(ELSEWHERE_V4, 80)), None),
        (Dial::to(at(ELSEWHERE_V4, 80)).mapped(), None),
        (Dial::to(at("10.77.0.2", 8080)).mapped(), None),
    ];
    let mut redirected = 0;
    for uid in [1000, 1337] {
        for (dial, rule) in &dials {
            let theirs = View::of_iptables(&behind.dial_as(uid, uid, dial)?);
            let (view, by) = decided(&ebpf, uid, dial)?;
            ensure!(
                theirs == view,
                "{uid}, {dial:?}\n  iptables: {theirs:?}\n  ebpf:     {view:?}"
            );
            let is_off = by == RuleId::Ipv6Off.name();
            ensure!(is_off == rule.is_some(), "{uid}, {dial:?}: {by}");
            redirected += u32::from(view.is_redirected());
        }
    }
    ensure!(redirected == 3, "{redirected} connections are redirected");
    Ok(())
}

fn ipv6_is_redirected_where_it_comes_first_or_is_asked_for() -> Tested {
    let ebpf = Redirected::new("ipv6on", &everything())?;
    let six = Dial::to(at(ELSEWHERE_V6, 80));
    let expect = |what: &str, server: &str, rule: RuleId| -> Tested {
        let (view, by) = decided(&ebpf, 1000, &six)?;
        ensure!(
            (view.outcome.as_str(), by) == (server, rule.name()),
            "{what}: {by}, {view:?}"
        );
        Ok(())
    };
    configure(&ebpf, &dual_stack(&everything()))?;
    expect("dual stack", "out6:15001", RuleId::AnyIncluded)?;
    configure(&ebpf, &everything())?;
    expect("IPv4 first", "world6:80", RuleId::Ipv6Off)?;
    // Link-local addresses do not count, and neither do IPv4 ones of that kind.
    ip(&ebpf.scene.pod, "-4 addr flush dev eth0")?;
    ip(&ebpf.scene.pod, "addr add 169.254.7.7/16 dev eth0")?;
    configure(&ebpf, &everything())?;
    expect("IPv6 only", "out6:15001", RuleId::AnyIncluded)
}

fn ipv6_is_left_alone_without_any_address() -> Tested {
    let ebpf = Redirected::new("noaddress", &everything())?;
    ip(&ebpf.scene.pod, "addr flush dev eth0")?;
    ip(&ebpf.scene.pod, "addr del ::6/128 dev lo")?;
    ip(&ebpf.scene.pod, "-6 route del default")?;
    for config in [everything(), dual_stack(&everything())] {
        configure(&ebpf, &config)?;
        let (view, by) = decided(&ebpf, 1000, &Dial::to(at(ELSEWHERE_V6, 80)))?;
        ensure!(
            (view.outcome.as_str(), by) == ("ENETUNREACH", RuleId::Ipv6Off.name()),
            "{by}, {view:?}"
        );
        // IPv4 is always redirected.
        let (view, by) = decided(&ebpf, 1000, &Dial::to(at(ELSEWHERE_V4, 80)))?;
        ensure!(
            (view.outcome.as_str(), by) == ("out4:15001", RuleId::AnyIncluded.name()),
            "{by}, {view:?}"
        );
    }
    Ok(())
}

fn ipv6_is_switched_only_with_the_namespace_at_hand() -> Tested {
    let ebpf = Redirected::new("ipv6keep", &everything())?;
    configure(&ebpf, &everything())?;
    let six = Dial::to(at(ELSEWHERE_V6, 80));
    let mut writer = ebpf.owner.writer()?;
    let attached = ebpf.pod(&writer)?;
    let error = writer
        .update(&attached, None, &dual_stack(&everything()))
        .expect_err("an update without the namespace");
    ensure!(matches!(error, AttachError::NoNetns(_)), "{error:#}");
    // An update that does not change the switch needs no namespace, and keeps the switch.
    let excluded = RedirectConfig {
        exclude: vec!["203.0.113.0/24".parse()?],
        ..everything()
    };
    writer.update(&attached, None, &excluded)?;
    drop(writer);
    let (view, by) = decided(&ebpf, 1000, &six)?;
    ensure!(by == RuleId::Ipv6Off.name(), "{by}, {view:?}");
    let (view, by) = decided(&ebpf, 1000, &Dial::to(at(ELSEWHERE_V4, 80)))?;
    ensure!(by == RuleId::CidrExcluded.name(), "{by}, {view:?}");
    ebpf.detach()?;
    let direct = View::of(&ebpf.scene.dial_as(1000, 1000, &six)?);
    ensure!(direct.outcome == "world6:80", "{direct:?}");
    Ok(())
}
