//! The flows that reach each rule, with their policy, their identity, and the server that answers.

use redirect_common::chain::RuleId;
use redirect_testkit::{Dial, Mode};

use super::policy::{APP, GROUP, Ids, OTHERS, PROXY, Policy, SEVERAL, WORLD};
use crate::harness::{ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, FAR_V6, Server, at};

const OWN_V4: &str = "10.77.0.2";
const OWN_V6: &str = "fd00:77::2";

/// The flows that reach a rule, with their policy, their identity, and the server that answers. A new rule does not
/// compile without an arm here.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn flows(rule: RuleId) -> (Policy, Ids, Server, Vec<Dial>) {
    match rule {
        RuleId::NotUnicast => (
            Policy::Any,
            APP,
            Server::Absent,
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
            Server::World,
            three_forms(ELSEWHERE_V4, ELSEWHERE_V6, 5555),
        ),
        RuleId::Passthrough => (
            Policy::Any,
            PROXY,
            Server::App,
            vec![
                to(OWN_V4, 8080).from(at("127.0.0.6", 0)),
                to(OWN_V4, 8080).mapped().from(at("127.0.0.6", 0)),
                to(OWN_V6, 8080).from(at("::6", 0)),
                to("::1", 8080).from(at("::6", 0)),
            ],
        ),
        RuleId::UidToSelf => (Policy::Any, PROXY, Server::In, own_addresses()),
        RuleId::AppLoUid => {
            let dials = [own_addresses(), loopback()].concat();
            (Policy::Any, APP, Server::App, dials)
        }
        RuleId::Uid => (
            Policy::Any,
            PROXY,
            Server::World,
            three_forms(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::UidToSelfLater => (
            Policy::Several,
            (SEVERAL[1], APP.0),
            Server::In,
            own_addresses(),
        ),
        RuleId::UidLater => (
            Policy::Several,
            (SEVERAL[1], APP.0),
            Server::World,
            three_forms(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::GidToSelf => (Policy::List, GROUP, Server::In, own_addresses()),
        // No flow reaches the first: see `only_the_known_rule_is_unreachable` in redirect-common. A connection that
        // loops back is counted beside the rule of its outbound side: see `inbound`. These pods do not have the
        // conditions of the others: see `ipv6` and `paths::interfaces`.
        RuleId::AppLoGid
        | RuleId::Ipv6Off
        | RuleId::InIpv6Off
        | RuleId::InLooped
        | RuleId::InterfaceExcluded
        | RuleId::InInterfaceExcluded => (Policy::Any, APP, Server::Absent, Vec::new()),
        RuleId::InTunnel => (
            Policy::InAny,
            WORLD,
            Server::App,
            three_forms(OWN_V4, OWN_V6, 15008),
        ),
        RuleId::InPortExcluded => (
            Policy::InAny,
            WORLD,
            Server::App,
            three_forms(OWN_V4, OWN_V6, 5555),
        ),
        RuleId::InAnyIncluded => {
            let mut dials = three_forms(OWN_V4, OWN_V6, 8080);
            // A closed port, and the proxy's own two.
            for port in [9999, 15001, 15006] {
                dials.extend(three_forms(OWN_V4, OWN_V6, port));
            }
            (Policy::InAny, WORLD, Server::In, dials)
        }
        RuleId::InPortIncluded => (
            Policy::InList,
            WORLD,
            Server::In,
            three_forms(OWN_V4, OWN_V6, 8080),
        ),
        RuleId::InDefault => (
            Policy::InList,
            WORLD,
            Server::App,
            three_forms(OWN_V4, OWN_V6, 5555),
        ),
        RuleId::Gid => (
            Policy::Any,
            GROUP,
            Server::World,
            three_forms(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::GidToSelfLater => (
            Policy::Several,
            (APP.0, SEVERAL[1]),
            Server::In,
            own_addresses(),
        ),
        RuleId::GidLater => (
            Policy::Several,
            (APP.0, SEVERAL[1]),
            Server::World,
            three_forms(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::GroupExcluded => (
            Policy::Any,
            OTHERS,
            Server::World,
            three_forms(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::Dns => {
            let tcp = three_forms(FAR_V4, FAR_V6, 53);
            let udp = tcp.clone().into_iter().map(|dial| dial.mode(Mode::Udp));
            (
                Policy::Dns,
                APP,
                Server::Dns,
                tcp.iter().cloned().chain(udp).collect(),
            )
        }
        RuleId::Loopback => (Policy::List, APP, Server::App, loopback()),
        RuleId::CidrExcluded => (
            Policy::Any,
            APP,
            Server::World,
            three_forms(FAR_V4, FAR_V6, 80),
        ),
        RuleId::PortIncluded => (
            Policy::List,
            APP,
            Server::Out,
            three_forms(FAR_V4, FAR_V6, 443),
        ),
        RuleId::CidrIncluded => {
            let mut dials = three_forms(ELSEWHERE_V4, ELSEWHERE_V6, 80);
            dials.push(to("127.0.0.5", 8080));
            (Policy::List, APP, Server::Out, dials)
        }
        RuleId::AnyIncluded => (
            Policy::Any,
            APP,
            Server::Out,
            three_forms(ELSEWHERE_V4, ELSEWHERE_V6, 80),
        ),
        RuleId::Default => (
            Policy::List,
            APP,
            Server::World,
            three_forms(FAR_V4, FAR_V6, 80),
        ),
    }
}

fn to(ip: &str, port: u16) -> Dial {
    Dial::to(at(ip, port))
}

/// Dials by IPv4, IPv4-mapped and IPv6.
fn three_forms(v4: &str, v6: &str, port: u16) -> Vec<Dial> {
    vec![to(v4, port), to(v4, port).mapped(), to(v6, port)]
}

fn own_addresses() -> Vec<Dial> {
    let mut dials = three_forms(OWN_V4, OWN_V6, 8080);
    dials.push(to("127.0.0.5", 8080));
    dials
}

fn loopback() -> Vec<Dial> {
    let mut dials = three_forms("127.0.0.1", "::1", 8080);
    dials.extend(three_forms("0.0.0.0", "::", 8080));
    dials
}
