//! Each rule by flows that reach it.

use anyhow::{Result, ensure};
use redirect_common::{
    chain::RuleId,
    facts::{Owner, Transport},
};
use redirect_iptables::rules::live_rule;
use redirect_testkit::{APP_ID, Dial, DialReport, Mode, PROXY_ID, World, cases};
use redirect_user::{
    config::{Dns, Inbound, InboundPorts, Include, PortRange, ProxyIds, RedirectConfig},
    node::{Question, explain, explain_inbound},
};

use crate::{
    Cases, Needs, Tested,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, Expected, FAR_V4, FAR_V6, Redirected, Who, at, moved},
    inbound::every_port,
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        every_rule_decides_the_flows_that_reach_it,
        explain_names_the_rule_that_the_kernel_counts,
        a_detached_pod_fails_every_redirect_expectation,
    ],
};

/// Which of the configurations a flow is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// Everything but an excluded port, two excluded ranges and a group.
    Any,
    /// Nothing but an included port and some included ranges, one of them loopback.
    List,
    /// The same, with four proxy users and four groups.
    Several,
    /// Everything but an excluded range, where the resolvers are.
    Dns,
    /// Nothing outbound; inbound, every port but one.
    InAny,
    /// Nothing outbound; inbound, one port.
    InList,
}

impl Policy {
    fn config(self) -> RedirectConfig {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect(text)).collect();
        match self {
            Self::Any => RedirectConfig {
                include: Include::Any,
                exclude: nets(&["36.152.44.0/24", "2001:db8:1::/48"]),
                exclude_ports: vec![PortRange::single(5555)],
                owner_groups_exclude: vec![OTHERS.1],
                ..RedirectConfig::default()
            },
            Self::List => RedirectConfig {
                include: Include::Cidrs(nets(&["127.0.0.0/8", "203.0.113.0/24", "2001:db8::/48"])),
                include_ports: vec![PortRange::single(443)],
                ..RedirectConfig::default()
            },
            Self::Dns => RedirectConfig {
                include: Include::Any,
                exclude: nets(&["36.152.44.0/24", "2001:db8:1::/48"]),
                dns: Dns {
                    redirect: true,
                    capture_all: false,
                    servers: [FAR_V4, FAR_V6]
                        .map(|text| text.parse().expect(text))
                        .to_vec(),
                },
                ..RedirectConfig::default()
            },
            Self::Several => RedirectConfig {
                proxy_uids: ProxyIds::new(SEVERAL.to_vec()).expect("four"),
                proxy_gids: ProxyIds::new(SEVERAL.to_vec()).expect("four"),
                ..Self::List.config()
            },
            Self::InAny => every_port(),
            Self::InList => RedirectConfig {
                inbound: Inbound {
                    include_ports: InboundPorts::List(vec![PortRange::single(8080)]),
                    ..Inbound::default()
                },
                ..RedirectConfig::default()
            },
        }
    }
}

/// The proxy's users, or groups, where it has several.
const SEVERAL: [u32; 4] = [PROXY_ID, 2002, 2003, 2004];

type Uid = (u32, u32);
const APP: Uid = (APP_ID, APP_ID);
const PROXY: Uid = (PROXY_ID, PROXY_ID);
/// Somebody else in the proxy's group.
const GROUP: Uid = (APP_ID, PROXY_ID);

/// Nobody in the pod: the world makes the connection.
const WORLD: Uid = (u32::MAX, u32::MAX);

/// Somebody in a group that is not redirected.
const OTHERS: Uid = (APP_ID, 1500);

const OWN_V4: &str = "10.77.0.2";
const OWN_V6: &str = "fd00:77::2";

/// The flows that reach a rule: under which policy, made by whom, and who answers. A new rule
/// does not compile without an answer.
#[expect(clippy::too_many_lines, reason = "a table")]
fn flows(rule: RuleId) -> (Policy, Uid, Who, Vec<Dial>) {
    match rule {
        RuleId::NotUnicast => (
            Policy::Any,
            APP,
            Who::Nobody,
            vec![
                to("224.0.0.1", 80),
                to("224.0.0.1", 80).mapped(),
                to("10.77.0.255", 80),
                to("ff0e::1", 80),
            ],
        ),
        RuleId::PortExcluded => (
            Policy::Any,
            APP,
            Who::World,
            far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 5555),
        ),
        RuleId::Passthrough => (
            Policy::Any,
            PROXY,
            Who::App,
            vec![
                to(OWN_V4, 8080).from(at("127.0.0.6", 0)),
                to(OWN_V4, 8080).mapped().from(at("127.0.0.6", 0)),
                to(OWN_V6, 8080).from(at("::6", 0)),
                to("::1", 8080).from(at("::6", 0)),
            ],
        ),
        RuleId::UidToSelf => (Policy::Any, PROXY, Who::In, own_addresses()),
        RuleId::AppLoUid => {
            let dials = [own_addresses(), loopback()].concat();
            (Policy::Any, APP, Who::App, dials)
        }
        RuleId::Uid => (
            Policy::Any,
            PROXY,
            Who::World,
            far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::UidToSelf2 => (
            Policy::Several,
            (SEVERAL[1], APP_ID),
            Who::In,
            own_addresses(),
        ),
        RuleId::Uid2 => (
            Policy::Several,
            (SEVERAL[1], APP_ID),
            Who::World,
            far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::UidToSelf3 => (
            Policy::Several,
            (SEVERAL[2], APP_ID),
            Who::In,
            own_addresses(),
        ),
        RuleId::Uid3 => (
            Policy::Several,
            (SEVERAL[2], APP_ID),
            Who::World,
            far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::UidToSelf4 => (
            Policy::Several,
            (SEVERAL[3], APP_ID),
            Who::In,
            own_addresses(),
        ),
        RuleId::Uid4 => (
            Policy::Several,
            (SEVERAL[3], APP_ID),
            Who::World,
            far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::GidToSelf => (Policy::List, GROUP, Who::In, own_addresses()),
        // `only_the_known_rule_is_unreachable` in redirect-common: no flow gets to the first. What
        // loops back is counted beside the rule of who made it: see `inbound`. Nothing sets the
        // others up yet.
        RuleId::AppLoGid
        | RuleId::Ipv6Off
        | RuleId::InIpv6Off
        | RuleId::InLooped
        | RuleId::InterfaceExcluded
        | RuleId::InInterfaceExcluded => (Policy::Any, APP, Who::Nobody, Vec::new()),
        RuleId::InTunnel => (
            Policy::InAny,
            WORLD,
            Who::App,
            far_and_wide(OWN_V4, OWN_V6, 15008),
        ),
        RuleId::InPortExcluded => (
            Policy::InAny,
            WORLD,
            Who::App,
            far_and_wide(OWN_V4, OWN_V6, 5555),
        ),
        RuleId::InAnyIncluded => {
            let mut dials = far_and_wide(OWN_V4, OWN_V6, 8080);
            // Closed, and the proxy's own two.
            for port in [9999, 15001, 15006] {
                dials.extend(far_and_wide(OWN_V4, OWN_V6, port));
            }
            (Policy::InAny, WORLD, Who::In, dials)
        }
        RuleId::InPortIncluded => (
            Policy::InList,
            WORLD,
            Who::In,
            far_and_wide(OWN_V4, OWN_V6, 8080),
        ),
        RuleId::InDefault => (
            Policy::InList,
            WORLD,
            Who::App,
            far_and_wide(OWN_V4, OWN_V6, 5555),
        ),
        RuleId::Gid => (
            Policy::Any,
            GROUP,
            Who::World,
            far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::GidToSelf2 => (
            Policy::Several,
            (APP_ID, SEVERAL[1]),
            Who::In,
            own_addresses(),
        ),
        RuleId::Gid2 => (
            Policy::Several,
            (APP_ID, SEVERAL[1]),
            Who::World,
            far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::GidToSelf3 => (
            Policy::Several,
            (APP_ID, SEVERAL[2]),
            Who::In,
            own_addresses(),
        ),
        RuleId::Gid3 => (
            Policy::Several,
            (APP_ID, SEVERAL[2]),
            Who::World,
            far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::GidToSelf4 => (
            Policy::Several,
            (APP_ID, SEVERAL[3]),
            Who::In,
            own_addresses(),
        ),
        RuleId::Gid4 => (
            Policy::Several,
            (APP_ID, SEVERAL[3]),
            Who::World,
            far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::GroupExcluded => (
            Policy::Any,
            OTHERS,
            Who::World,
            far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::Dns => {
            let tcp = far_and_wide(FAR_V4, FAR_V6, 53);
            let udp = tcp.clone().into_iter().map(|dial| dial.mode(Mode::Udp));
            (
                Policy::Dns,
                APP,
                Who::Dns,
                tcp.iter().cloned().chain(udp).collect(),
            )
        }
        RuleId::Loopback => (Policy::List, APP, Who::App, loopback()),
        RuleId::CidrExcluded => (
            Policy::Any,
            APP,
            Who::World,
            far_and_wide(FAR_V4, FAR_V6, 80),
        ),
        RuleId::PortIncluded => (
            Policy::List,
            APP,
            Who::Out,
            far_and_wide(FAR_V4, FAR_V6, 443),
        ),
        RuleId::CidrIncluded => {
            let mut dials = far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 80);
            dials.push(to("127.0.0.5", 8080));
            (Policy::List, APP, Who::Out, dials)
        }
        RuleId::AnyIncluded => (
            Policy::Any,
            APP,
            Who::Out,
            far_and_wide(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::Default => (
            Policy::List,
            APP,
            Who::World,
            far_and_wide(FAR_V4, FAR_V6, 80),
        ),
    }
}

fn to(ip: &str, port: u16) -> Dial {
    Dial::to(at(ip, port))
}

/// IPv4, IPv4-mapped and IPv6.
fn far_and_wide(v4: &str, v6: &str, port: u16) -> Vec<Dial> {
    vec![to(v4, port), to(v4, port).mapped(), to(v6, port)]
}

fn own_addresses() -> Vec<Dial> {
    let mut dials = far_and_wide(OWN_V4, OWN_V6, 8080);
    dials.push(to("127.0.0.5", 8080));
    dials
}

fn loopback() -> Vec<Dial> {
    let mut dials = far_and_wide("127.0.0.1", "::1", 8080);
    dials.extend(far_and_wide("0.0.0.0", "::", 8080));
    dials
}

/// Runs `check` on every flow of every rule, in a pod of its policy.
fn each_flow(
    name: &str,
    mut check: impl FnMut(&Redirected, RuleId, Uid, Who, &Dial) -> Tested,
) -> Tested {
    for policy in [
        Policy::Any,
        Policy::List,
        Policy::Several,
        Policy::Dns,
        Policy::InAny,
        Policy::InList,
    ] {
        let pod = Redirected::new(name, &policy.config())?;
        for rule in RuleId::ALL {
            let (of, owner, who, dials) = flows(rule);
            for dial in dials.iter().filter(|_| of == policy) {
                check(&pod, rule, owner, who, dial)?;
            }
        }
    }
    Ok(())
}

/// Makes a flow's connection; and what is expected of it.
fn make(pod: &Redirected, owner: Uid, who: Who, dial: &Dial) -> Result<(DialReport, Expected)> {
    if owner == WORLD {
        return Ok((pod.scene.world.dial(dial)?, Expected::arrived(who, dial)));
    }
    let dialled = pod.scene.dial_as(owner.0, owner.1, dial)?;
    Ok((dialled, Expected::of(who, dial)))
}

fn every_rule_decides_the_flows_that_reach_it() -> Tested {
    let mut wrong = Vec::new();
    each_flow("rules", |pod, rule, owner, who, dial| {
        let before = pod.hits()?;
        let (dialled, expected) = make(pod, owner, who, dial)?;
        let counted = moved(&before, &pod.hits()?);
        let flow = format!("{}: {owner:?} to {dial:?}", rule.name());
        if let Some(difference) = expected.difference(&dialled) {
            wrong.push(format!("{flow}: {difference}"));
        }
        if counted.iter().ne([(&rule.name(), &1)]) {
            wrong.push(format!("{flow}: counted {counted:?}"));
        }
        Ok(())
    })?;
    ensure!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

fn explain_names_the_rule_that_the_kernel_counts() -> Tested {
    each_flow("explain", |pod, rule, (uid, gid), who, dial| {
        let reader = pod.owner.reader()?;
        let source = dial.bind.map(|bound| bound.ip());
        let transport = if dial.mode == Mode::Udp {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        let question = Question {
            transport,
            owner: Owner { uid, gid },
            dst: dial.to,
            source,
        };
        let attached = pod.pod(&reader)?;
        let explained = if (uid, gid) == WORLD {
            let world = if dial.to.is_ipv4() {
                World::V4.into()
            } else {
                World::V6.into()
            };
            explain_inbound(&reader, &attached, world, dial.to)?
        } else {
            explain(&reader, &attached, &question)?
        };
        assert_eq!(
            explained.decision.rule, rule,
            "{uid}/{gid} to {dial:?}: {explained:?}"
        );
        for (of, text) in [
            (RuleId::Uid3, "--uid-owner 2003"),
            (RuleId::Gid2, "--gid-owner 2002"),
            (RuleId::GroupExcluded, "--gid-owner 1500"),
        ] {
            if rule == of {
                let listed = format!("-A ISTIO_OUTPUT -m owner {text} -j RETURN");
                assert_eq!(
                    live_rule(&reader, &attached, explained.decision.rule, &explained.flow)?,
                    listed
                );
            }
        }
        assert_eq!(
            explained.target.is_some(),
            who.is_redirect(),
            "{explained:?}"
        );
        Ok(())
    })
}

/// The table proves nothing if it holds without the programs as well.
fn a_detached_pod_fails_every_redirect_expectation() -> Tested {
    let mut detached = Vec::new();
    let mut redirects = 0;
    each_flow("detached", |pod, rule, owner, who, dial| {
        if !detached.contains(&pod.cgroup.id()) {
            pod.detach()?;
            detached.push(pod.cgroup.id());
        }
        let (dialled, expected) = make(pod, owner, who, dial)?;
        if who.is_redirect() {
            redirects += 1;
            let held = expected.difference(&dialled).is_none();
            ensure!(
                !held,
                "{} holds without the programs: {dialled:?}",
                rule.name()
            );
        }
        Ok(())
    })?;
    ensure!(
        redirects >= 30,
        "only {redirects} flows of the table are redirected"
    );
    Ok(())
}
