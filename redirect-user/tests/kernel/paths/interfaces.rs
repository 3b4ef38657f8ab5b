//! Interfaces that are left alone (`-c`), in pods with two of them.

use anyhow::{Context as _, Result, ensure};
use redirect_common::{
    chain::RuleId,
    facts::{Owner, Transport},
};
use redirect_iptables::rules::live_rule;
use redirect_testkit::{Dial, Identity, Mode};
use redirect_user::{
    config::{
        Dns, Inbound, InboundMode, InboundPorts, Include, Interface, PortRange, RedirectConfig,
    },
    node::{AddressChange, AttachError, FollowEventKind, Question, explain},
};

use super::{APP, PROXY, Who, to, walk};
use crate::{
    Tested,
    differential::{Twins, View, install},
    follow::Following,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, Scene, moved, netns, ranges_of},
};

const EXCLUDED: &str = RuleId::InterfaceExcluded.name();
const INCLUDED: &str = RuleId::AnyIncluded.name();

/// Behind `net1`, and in a longer route by `eth0`, and in a longer one by `net1` again.
const BEHIND: [&str; 2] = ["198.18.1.1", "2001:db8:78::1"];
const INSIDE: [&str; 2] = ["198.18.2.1", "2001:db8:78:2::1"];
const INNERMOST: [&str; 2] = ["198.18.2.2", "2001:db8:78:2::2"];
const NET1: [&str; 2] = ["10.78.0.2", "fd00:78::2"];

fn ip(scene: &Scene, arguments: &str) -> Tested {
    let root = scene.pod.worker(&Identity::root())?;
    run(&root, arguments)
}

fn run(worker: &redirect_testkit::Worker, arguments: &str) -> Tested {
    let argv: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
    let done = worker.run(&argv)?;
    ensure!(done.is_success(), "ip {arguments}: {done:?}");
    Ok(())
}

/// A second link to the world.
fn link(scene: &Scene) -> Tested {
    let world = scene.pod.world().namespace();
    ip(
        scene,
        &format!("link add net1 type veth peer name net1 netns {world}"),
    )?;
    for line in [
        "addr add 10.78.0.1/24 dev net1",
        "addr add fd00:78::1/64 dev net1 nodad",
        "link set net1 up",
        "route add 198.18.9.9/32 via 10.78.0.2",
    ] {
        run(&scene.world, line)?;
    }
    for addr in [BEHIND, INSIDE, INNERMOST].concat() {
        scene.pod.world().add_address(addr.parse()?)?;
    }
    for line in [
        "addr add 10.78.0.2/24 dev net1",
        "addr add fd00:78::2/64 dev net1 nodad",
        "link set net1 up",
        "route add 198.18.0.0/16 via 10.78.0.1 dev net1",
        "route add 198.18.2.0/24 via 10.77.0.1 dev eth0",
        "route add 198.18.2.2/32 via 10.78.0.1 dev net1",
        "route add 2001:db8:78::/48 via fd00:78::1 dev net1",
        "route add 2001:db8:78:2::/64 via fd00:77::1 dev eth0",
        "route add 2001:db8:78:2::2/128 via fd00:78::1 dev net1",
        // Not taken: its metric is higher.
        "route add 203.0.113.0/24 via 10.78.0.1 dev net1 metric 50",
        "route add 203.0.113.0/24 via 10.77.0.1 dev eth0 metric 10",
    ] {
        ip(scene, line)?;
    }
    Ok(())
}

fn config(names: &[&str]) -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        exclude_ports: vec![PortRange::single(5555)],
        exclude_interfaces: names
            .iter()
            .map(|name| Interface((*name).to_owned()))
            .collect(),
        dual_stack: true,
        ..RedirectConfig::default()
    }
}

/// Two pods with two interfaces each.
struct Pair {
    twins: Twins,
}

impl Pair {
    fn new(name: &str, excluded: &[&str]) -> Result<Self> {
        let pair = Self {
            twins: Twins::new(name)?,
        };
        for scene in [&pair.twins.iptables, &pair.twins.ours.scene] {
            link(scene)?;
        }
        pair.configure(&config(excluded))?;
        Ok(pair)
    }

    fn configure(&self, config: &RedirectConfig) -> Tested {
        install(&self.twins.iptables.pod, config)?;
        self.update(config)
    }

    /// Reads the routes anew.
    fn update(&self, config: &RedirectConfig) -> Tested {
        let ours = &self.twins.ours;
        let mut writer = ours.owner.writer()?;
        let pod = ours.pod(&writer)?;
        Ok(writer.update(&pod, Some(&netns(&ours.scene.pod)?), config)?)
    }

    fn ip(&self, arguments: &str) -> Tested {
        ip(&self.twins.iptables, arguments)?;
        ip(&self.twins.ours.scene, arguments)
    }

    /// Both families of a destination: who answers, and by which rule, is the same in both pods.
    fn expect(
        &self,
        who: Who,
        addresses: [&str; 2],
        port: u16,
        (server, rule): (&str, &str),
    ) -> Tested {
        let [v4, v6] = addresses;
        let name = |family| {
            format!(
                "{server}{family}:{}",
                if server == "out" { 15001 } else { port }
            )
        };
        walk(
            &self.twins,
            who,
            &name(4),
            rule,
            [to(v4, port), to(v4, port).mapped()],
        )?;
        walk(&self.twins, who, &name(6), rule, [to(v6, port)])
    }

    /// The same for who is redirected over `net1`: which address is shown is another matter.
    fn expect_out(&self, addresses: [&str; 2]) -> Tested {
        for (addr, server) in addresses.into_iter().zip(["out4:15001", "out6:15001"]) {
            let before = self.twins.ours.hits()?;
            let (iptables, ours) = self.twins.dial(1000, 1000, &to(addr, 80))?;
            let seen = |view: &View| (view.outcome.clone(), view.orig_dst);
            ensure!(
                seen(&iptables) == seen(&ours) && ours.outcome == server,
                "{addr}\n  iptables: {iptables:?}\n  ours:     {ours:?}"
            );
            let counted = moved(&before, &self.twins.ours.hits()?);
            ensure!(counted.keys().eq([&INCLUDED]), "{addr}: {counted:?}");
        }
        Ok(())
    }
}

pub(super) fn what_leaves_by_an_excluded_interface_is_left_alone() -> Tested {
    let pair = Pair::new("exclude-nic", &["net1"])?;
    for who in [APP, PROXY] {
        for addresses in [BEHIND, INNERMOST, ["10.78.0.1", "fd00:78::1"]] {
            pair.expect(who, addresses, 80, ("world", EXCLUDED))?;
        }
        // It wins over an excluded port.
        pair.expect(who, BEHIND, 5555, ("world", EXCLUDED))?;
        // The address of the interface is local to the pod.
        let (server, rule) = if who == APP {
            ("app", "app-lo-uid")
        } else {
            ("in", "uid-to-self")
        };
        for (addr, family) in NET1.into_iter().zip([4, 6]) {
            let port = if who == APP { 8080 } else { 15006 };
            walk(
                &pair.twins,
                who,
                &format!("{server}{family}:{port}"),
                rule,
                [to(addr, 8080)],
            )?;
        }
    }
    for addresses in [INSIDE, [ELSEWHERE_V4, ELSEWHERE_V6]] {
        pair.expect(APP, addresses, 80, ("out", INCLUDED))?;
        pair.expect(PROXY, addresses, 80, ("world", "uid"))?;
        pair.expect(APP, addresses, 5555, ("world", "port-excluded"))?;
    }
    a_bound_device_wins_over_the_route(&pair)?;
    explain_and_the_configuration_know_it(&pair)?;

    queries_are_left_alone_too(&pair)?;

    // Without the programs nothing of this is counted, and nothing redirected.
    let ours = &pair.twins.ours;
    ours.detach()?;
    let dialled = ours.scene.dial_as(1000, 1000, &to(INSIDE[0], 80))?;
    ensure!(dialled.server() == Some("world4:80"), "{dialled:?}");
    Ok(())
}

/// Those of resolvers elsewhere are captured. Behind the interface nobody answers datagrams.
fn queries_are_left_alone_too(pair: &Pair) -> Tested {
    pair.configure(&RedirectConfig {
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
            walk(&pair.twins, APP, tcp, rule, [to(addr, 53)])?;
            walk(&pair.twins, APP, udp, rule, [to(addr, 53).mode(Mode::Udp)])?;
        }
    }
    Ok(())
}

/// Where the device has no route the destination counts as its neighbour.
fn a_bound_device_wins_over_the_route(pair: &Pair) -> Tested {
    let by_net1 = [to(ELSEWHERE_V4, 80), to(INSIDE[0], 80), to(BEHIND[0], 80)];
    let by_net1 = by_net1.map(|dial| dial.device("net1"));
    walk(&pair.twins, APP, "world4:80", EXCLUDED, by_net1)?;
    walk(
        &pair.twins,
        APP,
        "world6:80",
        EXCLUDED,
        [to(BEHIND[1], 80).device("net1")],
    )?;
    // 127.0.0.1, where the redirect leads, is not behind eth0.
    let lost = |dial: Dial| {
        dial.device("eth0")
            .timeout(std::time::Duration::from_millis(200))
    };
    let by_eth0 = [to(BEHIND[0], 80), to(ELSEWHERE_V4, 80)].map(lost);
    walk(&pair.twins, APP, "ETIMEDOUT", INCLUDED, by_eth0)?;
    let by_eth0 = [to(BEHIND[0], 80).device("eth0")];
    walk(&pair.twins, PROXY, "world4:80", "uid", by_eth0)
}

fn explain_and_the_configuration_know_it(pair: &Pair) -> Tested {
    let ours = &pair.twins.ours;
    let reader = ours.owner.reader()?;
    let pod = ours.pod(&reader)?;
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
        "routes are not the user's ranges"
    );
    drop(reader);
    // Ranges inside of routes and around them.
    let nested = RedirectConfig {
        exclude: vec!["198.18.2.0/25".parse()?, "198.0.0.0/8".parse()?],
        ..config(&["net1"])
    };
    pair.configure(&nested)?;
    pair.expect(APP, [INNERMOST[0], BEHIND[1]], 80, ("world", EXCLUDED))?;
    let excluded = RuleId::CidrExcluded.name();
    walk(&pair.twins, APP, "world4:80", excluded, [to(INSIDE[0], 80)])?;
    // A change of the ranges needs no look at the routes.
    let mut writer = ours.owner.writer()?;
    let pod = ours.pod(&writer)?;
    writer.update(&pod, None, &config(&["net1"]))?;
    let error = writer
        .update(&ours.pod(&writer)?, None, &config(&["eth0"]))
        .expect_err("nobody looked at the routes");
    ensure!(matches!(error, AttachError::NoNetns(_)), "{error:#}");
    drop(writer);
    install(&pair.twins.iptables.pod, &config(&["net1"]))?;
    pair.expect(APP, BEHIND, 80, ("world", EXCLUDED))
}

pub(super) fn an_excluded_lo_and_an_excluded_default_route_win_over_the_chain() -> Tested {
    let pair = Pair::new("exclude-lo", &["lo"])?;
    let own = ["10.77.0.2", "fd00:77::2"];
    for who in [APP, PROXY] {
        for addresses in [own, NET1, ["127.0.0.1", "::1"]] {
            pair.expect(who, addresses, 8080, ("app", EXCLUDED))?;
        }
    }
    pair.expect(APP, INSIDE, 80, ("out", INCLUDED))?;
    pair.expect_out(BEHIND)?;

    pair.configure(&config(&["eth+"]))?;
    for addresses in [INSIDE, [ELSEWHERE_V4, ELSEWHERE_V6]] {
        pair.expect(APP, addresses, 80, ("world", EXCLUDED))?;
        pair.expect(PROXY, addresses, 80, ("world", EXCLUDED))?;
    }
    pair.expect(APP, own, 8080, ("app", "app-lo-uid"))?;
    pair.expect_out(BEHIND)?;
    pair.expect_out(INNERMOST)?;

    // Every interface.
    pair.configure(&config(&["eth0", "net1", "lo"]))?;
    for addresses in [INSIDE, BEHIND] {
        pair.expect(APP, addresses, 80, ("world", EXCLUDED))?;
    }
    pair.expect(APP, own, 8080, ("app", EXCLUDED))
}

pub(super) fn what_arrives_by_an_excluded_interface_is_left_alone() -> Tested {
    let pair = Pair::new("exclude-in", &["net1"])?;
    for mode in [InboundMode::Redirect, InboundMode::Tproxy] {
        pair.update(&RedirectConfig {
            inbound: Inbound {
                mode,
                include_ports: InboundPorts::Any,
                exclude_ports: Vec::new(),
            },
            ..config(&["net1"])
        })?;
        // Real TPROXY needs a proxy that is made for it; what is left alone is the same.
        let redirect = RedirectConfig {
            inbound: Inbound {
                include_ports: InboundPorts::Any,
                ..Inbound::default()
            },
            ..config(&["net1"])
        };
        install(&pair.twins.iptables.pod, &redirect)?;
        let own = ["10.77.0.2", "fd00:77::2"];
        for (addresses, servers, rule) in [
            (
                NET1,
                ["app4:8080", "app6:8080"],
                RuleId::InInterfaceExcluded,
            ),
            (own, ["in4:15006", "in6:15006"], RuleId::InAnyIncluded),
        ] {
            for (addr, server) in addresses.into_iter().zip(servers) {
                let before = pair.twins.ours.hits()?;
                let dial = to(addr, 8080);
                let theirs = pair.twins.iptables.world.dial(&dial)?;
                let ours = pair.twins.ours.scene.world.dial(&dial)?;
                ensure!(
                    theirs.server() == Some(server) && ours.server() == Some(server),
                    "{addr}\n  iptables: {theirs:?}\n  ours:     {ours:?}"
                );
                let counted = moved(&before, &pair.twins.ours.hits()?);
                ensure!(counted.keys().eq([&rule.name()]), "{addr}: {counted:?}");
            }
        }
    }
    Ok(())
}

pub(super) fn routes_to_an_excluded_interface_are_those_of_now() -> Tested {
    let pair = Pair::new("exclude-follow", &["net1", "later+"])?;
    let following = Following::pod(&pair.twins.ours)?;
    let until = |nets: &[&str]| -> Tested {
        let mut wanted = nets.to_vec();
        following
            .until(|event| {
                if let FollowEventKind::Changed(AddressChange { rerouted, .. }) = event {
                    wanted.retain(|net| !rerouted.iter().any(|other| other.to_string() == *net));
                }
                wanted.is_empty().then_some(())
            })
            .with_context(|| format!("waiting for {wanted:?}"))
    };
    pair.expect(APP, BEHIND, 80, ("world", EXCLUDED))?;
    pair.ip("route replace 198.18.1.1/32 via 10.77.0.1 dev eth0")?;
    pair.ip("-6 route replace 2001:db8:78::1/128 via fd00:77::1 dev eth0")?;
    until(&["198.18.1.1/32", "2001:db8:78::1/128"])?;
    pair.expect(APP, BEHIND, 80, ("out", INCLUDED))?;
    pair.ip("route del 198.18.1.1/32")?;
    pair.ip("-6 route del 2001:db8:78::1/128")?;
    until(&["198.18.1.1/32", "2001:db8:78::1/128"])?;
    pair.expect(APP, BEHIND, 80, ("world", EXCLUDED))?;

    // An interface that comes, under another name at first.
    pair.ip("link set net1 down")?;
    until(&["198.18.0.0/16", "2001:db8:78::/48"])?;
    pair.ip("link set net1 name other1")?;
    pair.ip("link set other1 up")?;
    for line in [
        "addr replace fd00:78::2/64 dev other1 nodad",
        "route replace 198.18.0.0/16 via 10.78.0.1 dev other1",
        "-6 route replace 2001:db8:78::/48 via fd00:78::1 dev other1",
    ] {
        pair.ip(line)?;
    }
    pair.expect_out(BEHIND)?;
    pair.ip("link set other1 name later1")?;
    until(&["198.18.0.0/16", "2001:db8:78::/48"])?;
    pair.expect(APP, BEHIND, 80, ("world", EXCLUDED))?;
    walk(
        &pair.twins,
        APP,
        "world4:80",
        EXCLUDED,
        [to(ELSEWHERE_V4, 80).device("later1")],
    )
}

pub(super) fn routing_that_a_destination_does_not_tell_is_refused() -> Tested {
    let pair = Pair::new("exclude-unclear", &[])?;
    let ours = &pair.twins.ours.scene;
    let wanted = config(&["net1"]);
    for (add, remove, name) in [
        (
            "rule add from 10.78.0.2 lookup 100",
            "rule del from 10.78.0.2 lookup 100",
            "routing rule 32765 (`ip -4 rule`)",
        ),
        (
            "-6 rule add fwmark 7 lookup 100 pref 9",
            "-6 rule del pref 9",
            "routing rule 9 (`ip -6 rule`)",
        ),
        (
            "route add 198.19.0.0/16 nexthop via 10.77.0.1 dev eth0 nexthop via 10.78.0.1 dev net1",
            "route del 198.19.0.0/16",
            "198.19.0.0/16 leaves by several interfaces",
        ),
        (
            "route add 198.19.0.0/16 tos 8 via 10.77.0.1",
            "route del 198.19.0.0/16 tos 8",
            "198.19.0.0/16 for one type of service",
        ),
        (
            "-6 route add 2001:db8:99::/48 from fd00:77::/64 via fd00:77::1",
            "-6 route del 2001:db8:99::/48 from fd00:77::/64 via fd00:77::1",
            "2001:db8:99::/48 for packets of some sources",
        ),
    ] {
        ip(ours, add)?;
        let error = pair.update(&wanted).expect_err(add);
        let text = format!("{error:#}");
        ensure!(text.contains(name) && text.contains("-x"), "{add}: {text}");
        // Nobody else minds.
        pair.update(&config(&[]))?;
        pair.expect_out(BEHIND)?;
        ip(ours, remove)?;
        pair.update(&wanted).with_context(|| remove.to_owned())?;
        pair.update(&config(&[]))?;
    }
    Ok(())
}
