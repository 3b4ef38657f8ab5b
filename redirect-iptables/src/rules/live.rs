//! The iptables rule that a rule of the table stands for in an attached pod, with the values of the pod and of one
//! flow.

use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;
use redirect_common::{
    chain::RuleId,
    facts::{Flow, Transport},
    net::BeAddr,
};
use redirect_user::{
    node::{Pod, Reader},
    policy::{excluded_interfaces, loopback4},
    sys::userns::IdMap,
};

use super::dns::dns_redirect;

/// The rule that decided a flow, as iptables would list it in this pod.
pub fn live_rule(reader: &Reader, pod: &Pod, rule: RuleId, flow: &Flow) -> Result<String> {
    let ids = reader.ids(pod)?;
    let mut text = if pod.row.flags.redirect_dns() {
        rule.iptables_with_dns().to_owned()
    } else {
        rule.iptables().to_owned()
    };
    if matches!(flow.transport, Transport::Udp) {
        text = text.replace("-p tcp", "-p udp");
    }
    if flow.dst.is_v4() {
        text = text.replace("127.0.0.1/32", &loopback4(&pod.row).to_string());
    } else {
        text = text
            .replace("127.0.0.1/32", "::1/128")
            .replace("127.0.0.6/32", "::6/128");
    }
    if rule == RuleId::GroupExcluded {
        return group_rule(reader, pod, flow, &ids.gids);
    }
    if rule == RuleId::Dns {
        let server = (!pod.row.flags.capture_all_dns()).then(|| flow.dst.into());
        return Ok(format!("-A {}", dns_redirect(flow.transport, server)));
    }
    let about_ranges = matches!(rule, RuleId::CidrExcluded | RuleId::CidrIncluded);
    let range = if about_ranges {
        widest_range(reader, pod, rule, flow.dst)?
    } else {
        None
    };
    let names = excluded_interfaces(&pod.row);
    let ([uid, ..], [gid, ..]) = (pod.row.proxy_uids, pod.row.proxy_gids);
    // Of the later users and groups, the owner is the one that matched.
    let (later_uid, later_gid) = flow
        .owner
        .map_or((uid, gid), |owner| (owner.uid, owner.gid));
    let words = text.split(' ').map(|word| match word {
        "P" => flow.port.get().to_string(),
        "U" => id_in_pod(&ids.uids, uid).to_string(),
        "U2" => id_in_pod(&ids.uids, later_uid).to_string(),
        "G" => id_in_pod(&ids.gids, gid).to_string(),
        "G2" => id_in_pod(&ids.gids, later_gid).to_string(),
        "NIC" => match names.as_slice() {
            [one] => one.to_string(),
            // The prefixes do not tell which of several interfaces it was.
            _ => "NIC".to_owned(),
        },
        "C" => range.map_or_else(|| "C".to_owned(), |net| net.to_string()),
        "15008" => pod.row.tunnel_port.get().to_string(),
        "53,15008" => format!("53,{}", pod.row.tunnel_port.get()),
        other => other.to_owned(),
    });
    let text = words.collect::<Vec<_>>().join(" ");
    Ok(if text.starts_with('(') {
        text
    } else {
        format!("-A {} {text}", rule.chain())
    })
}

/// An id in the pod's user namespace.
fn id_in_pod(map: &IdMap, id: u32) -> u32 {
    map.inside(id).unwrap_or(id)
}

/// The rule that excludes the owner's group: a rule for this group, or one rule for all groups that are not listed.
fn group_rule(reader: &Reader, pod: &Pod, flow: &Flow, gids: &IdMap) -> Result<String> {
    let groups = if pod.row.flags.only_groups() {
        let mut groups = reader.maps().groups(pod.row.policy)?;
        groups.sort_unstable();
        let not = |text, gid| format!("{text}-m owner ! --gid-owner {} ", id_in_pod(gids, gid));
        groups.into_iter().fold(String::new(), not)
    } else {
        flow.owner.map_or_else(String::new, |owner| {
            format!("-m owner --gid-owner {} ", id_in_pod(gids, owner.gid))
        })
    };
    Ok(format!("-A ISTIO_OUTPUT {groups}-j RETURN"))
}

/// The widest configured range that contains `dst` and belongs to the rule.
fn widest_range(reader: &Reader, pod: &Pod, rule: RuleId, dst: BeAddr) -> Result<Option<IpNet>> {
    let addr = IpAddr::from(dst);
    let cidrs = reader.maps().cidrs(pod.row.policy)?;
    Ok(cidrs
        .into_iter()
        .filter(|(net, flags)| {
            let own = flags.own();
            net.contains(&addr)
                && if rule == RuleId::CidrExcluded {
                    own.excluded()
                } else {
                    own.included()
                }
        })
        .map(|(net, _)| net)
        .min_by_key(IpNet::prefix_len))
}
