//! The mangle table of `-m TPROXY`, equal byte for byte to the table of `istio-iptables` with its default mark.

use redirect_common::chain::RuleId;
use redirect_user::config::{InboundMode, InboundPorts, RedirectConfig};

use super::{Family, interfaces};

/// The mark of the proxy and of its connections (`-t`).
const MARK: u16 = 1337;
/// The mark of the proxy's calls to its own pod. Istio has no option for it.
const SELF_MARK: u16 = 1338;

const HEAD: &str = "\
* mangle
-N ISTIO_DIVERT
-N ISTIO_TPROXY
-N ISTIO_INBOUND
";

/// The table; empty unless inbound connections are redirected with TPROXY.
pub(super) fn mangle(config: &RedirectConfig, family: Family) -> String {
    let inbound = &config.inbound;
    if inbound.is_none() || inbound.mode != InboundMode::Tproxy {
        return String::new();
    }
    let (loopback, passthrough) = (family.loopback(config), family.passthrough());
    let port = config.in_port;
    let mut rules = interfaces::of_rule(RuleId::InInterfaceExcluded, config);
    for rule in &mut rules {
        rule.insert_str(0, "-A ");
    }
    rules.extend([
        format!("-A ISTIO_DIVERT -j MARK --set-mark {MARK}"),
        "-A ISTIO_DIVERT -j ACCEPT".to_owned(),
        format!(
            "-A ISTIO_TPROXY ! -d {loopback} -p tcp -j TPROXY --tproxy-mark {MARK}/0xffffffff --on-port {port}"
        ),
        "-A PREROUTING -p tcp -j ISTIO_INBOUND".to_owned(),
    ]);
    match &inbound.include_ports {
        InboundPorts::Any => {
            let excluded = inbound.exclude_ports.iter();
            rules.extend(
                excluded.map(|port| format!("-A ISTIO_INBOUND -p tcp --dport {port} -j RETURN")),
            );
            rules.extend(captured("-p tcp"));
        }
        InboundPorts::List(ports) => rules.extend(
            ports
                .iter()
                .flat_map(|port| captured(&format!("-p tcp --dport {port}"))),
        ),
    }
    rules.push(format!(
        "-A PREROUTING -p tcp -m mark --mark {MARK} -j CONNMARK --save-mark"
    ));
    rules.push(format!(
        "-A OUTPUT -p tcp -o lo -m mark --mark {MARK} -j RETURN"
    ));
    let uids = config.proxy_uids.as_slice().iter();
    let gids = config.proxy_gids.as_slice().iter();
    let owners = uids
        .map(|uid| format!("--uid-owner {uid}"))
        .chain(gids.map(|gid| format!("--gid-owner {gid}")));
    rules.extend(owners.map(|owner| {
        format!(
            "-A OUTPUT ! -d {loopback} -p tcp -o lo -m owner {owner} -j MARK --set-mark {SELF_MARK}"
        )
    }));
    rules.extend([
        format!("-A OUTPUT -p tcp -m connmark --mark {MARK} -j CONNMARK --restore-mark"),
        format!("-I ISTIO_INBOUND 1 -p tcp -m mark --mark {MARK} -j RETURN"),
        format!("-I ISTIO_INBOUND 2 -p tcp -s {passthrough} -i lo -j RETURN"),
        format!("-I ISTIO_INBOUND 3 -p tcp -i lo -m mark ! --mark {SELF_MARK} -j RETURN"),
        "COMMIT".to_owned(),
    ]);
    rules
        .iter()
        .fold(HEAD.to_owned(), |text, rule| text + rule + "\n")
}

/// The rules for connections that match: established ones first.
fn captured(matching: &str) -> [String; 2] {
    [
        format!(
            "-A ISTIO_INBOUND {matching} -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT"
        ),
        format!("-A ISTIO_INBOUND {matching} -j ISTIO_TPROXY"),
    ]
}
