//! The configuration of one pod, as types.

use std::{fmt, net::Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use redirect_common::abi::{PROXY_IDS, PolicyRow};
use serde::{Serialize, Serializer};

use super::{dns::Dns, inbound::Inbound, interface::Interface, ports::PortRange};

/// The configuration of one pod. Its JSON form has the names of the fields; ports and ranges are
/// text in the syntax of the flags, and `*` stands for everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RedirectConfig {
    /// The proxy's port for outbound connections (`-p`).
    pub out_port: u16,
    /// The proxy's port for inbound connections, and for its calls to its own pod (`-z`).
    pub in_port: u16,
    /// The tunnel port, whose connections are never sent to `in_port` (`-e`).
    pub tunnel_port: u16,
    /// The proxy's users, whose connections are direct (`-u`).
    pub proxy_uids: ProxyIds,
    /// The proxy's groups, whose connections are direct (`-g`).
    pub proxy_gids: ProxyIds,
    /// Groups whose connections are redirected (`--outbound-owner-groups`).
    pub owner_groups: OwnerGroups,
    /// Groups whose connections are not redirected, if `owner_groups` is `*`
    /// (`--outbound-owner-groups-exclude`).
    pub owner_groups_exclude: Vec<u32>,
    /// Destinations that are redirected (`-i`).
    pub include: Include,
    /// Destinations that are not redirected (`-x`).
    #[serde(serialize_with = "as_text")]
    pub exclude: Vec<IpNet>,
    /// Destination ports that are redirected whatever the address (`-q`).
    pub include_ports: Vec<PortRange>,
    /// Destination ports that are never redirected (`-o`).
    pub exclude_ports: Vec<PortRange>,
    /// Interfaces that are left alone in both directions (`-c`).
    pub exclude_interfaces: Vec<Interface>,
    /// The IPv4 range that the rules call loopback (`--host-ipv4-loopback-cidr`).
    #[serde(serialize_with = "display")]
    pub loopback4: Ipv4Net,
    /// The DNS queries that are redirected.
    pub dns: Dns,
    /// Whether IPv6 is redirected if any address of the pod is IPv6, not only if the first one is
    /// (`--dual-stack`).
    pub dual_stack: bool,
    /// The inbound connections that are redirected (`-m`, `-b`, `-d`).
    pub inbound: Inbound,
    /// Shadow mode: programs decide and count, but redirect nothing (`--shadow`).
    pub shadow: bool,
}

/// The default range that the rules call loopback: 127.0.0.1/32.
pub const DEFAULT_LOOPBACK4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 32);

impl Default for RedirectConfig {
    /// The configuration of `istio-iptables` without arguments: it redirects nothing.
    fn default() -> Self {
        Self {
            out_port: 15001,
            in_port: 15006,
            tunnel_port: 15008,
            proxy_uids: 1337.into(),
            proxy_gids: 1337.into(),
            owner_groups: OwnerGroups::default(),
            owner_groups_exclude: Vec::new(),
            include: Include::default(),
            exclude: Vec::new(),
            include_ports: Vec::new(),
            exclude_ports: Vec::new(),
            exclude_interfaces: Vec::new(),
            loopback4: DEFAULT_LOOPBACK4,
            dns: Dns::default(),
            dual_stack: false,
            inbound: Inbound::default(),
            shadow: false,
        }
    }
}

impl RedirectConfig {
    /// Whether inbound connections are redirected. In shadow mode none are.
    #[must_use]
    pub const fn redirects_inbound(&self) -> bool {
        !self.inbound.is_none() && !self.shadow
    }
}

/// The ids of the proxy's users or groups: at least one, at most [`PROXY_IDS`]. The order matters:
/// only the first user is redirected to itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ProxyIds(Vec<u32>);

impl ProxyIds {
    /// Creates the list. `None` if it would have no id or too many.
    pub fn new(ids: Vec<u32>) -> Option<Self> {
        (1..=PROXY_IDS).contains(&ids.len()).then_some(Self(ids))
    }

    /// The first id.
    pub fn first(&self) -> u32 {
        self.0.first().copied().unwrap_or(PolicyRow::NO_ID)
    }

    /// All ids, in order.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// The form in which a [`PolicyRow`] stores ids of the initial user namespace.
    pub(crate) fn to_row(translated: &[u32]) -> [u32; PROXY_IDS] {
        let mut row = [PolicyRow::NO_ID; PROXY_IDS];
        for (slot, id) in row.iter_mut().zip(translated) {
            *slot = *id;
        }
        row
    }

    /// Creates the list from a [`PolicyRow`], whose ids `translate` turns into ids of the pod's
    /// user namespace.
    pub(crate) fn of_row(row: [u32; PROXY_IDS], translate: impl Fn(u32) -> u32) -> Self {
        let ids = row.into_iter().take_while(|id| *id != PolicyRow::NO_ID);
        Self(ids.map(translate).collect())
    }
}

impl From<u32> for ProxyIds {
    fn from(id: u32) -> Self {
        Self(vec![id])
    }
}

impl fmt::Display for ProxyIds {
    /// Writes the ids in the syntax of the flags.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// Destinations that are redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Include {
    /// All destinations: `*`.
    Any,
    /// Destinations in these ranges, none if the list is empty.
    Cidrs(Vec<IpNet>),
}

impl Default for Include {
    fn default() -> Self {
        Self::Cidrs(Vec::new())
    }
}

impl Include {
    /// Whether a range was written with a loopback address, which changes how connections over `lo`
    /// are treated. The written address matters, not the range: `127.0.0.1/8` has a loopback
    /// address, `126.0.0.0/7` has none.
    #[must_use]
    pub fn has_loopback(&self) -> bool {
        match self {
            Self::Any => false,
            Self::Cidrs(ranges) => ranges
                .iter()
                .any(|range| range.addr().to_canonical().is_loopback()),
        }
    }
}

impl Serialize for Include {
    /// Writes `"*"`, or a list of ranges.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("*"),
            Self::Cidrs(ranges) => as_text(ranges, serializer),
        }
    }
}

/// Groups whose connections are redirected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OwnerGroups {
    /// All groups: `*`.
    #[default]
    Any,
    /// The groups of a list, none if the list is empty.
    List(Vec<u32>),
}

impl Serialize for OwnerGroups {
    /// Writes `"*"`, or a list of gids.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("*"),
            Self::List(groups) => groups.serialize(serializer),
        }
    }
}

fn display<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_text<S: Serializer>(ranges: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ranges.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_a_question_about_the_written_address() {
        let cases = [
            ("127.0.0.1/8", true),
            ("127.0.0.0/8", true),
            ("126.0.0.0/7", false),
            ("0.0.0.0/0", false),
            ("::1/128", true),
            ("::/0", false),
            ("::ffff:127.0.0.1/128", true),
        ];
        for (text, expected) in cases {
            let include = Include::Cidrs(vec![text.parse().expect(text)]);
            assert_eq!(include.has_loopback(), expected, "{text}");
        }
        assert!(!Include::Any.has_loopback());
    }

    #[test]
    fn the_json_names_are_stable() {
        let config = RedirectConfig {
            include: Include::Any,
            exclude: vec!["127.0.0.1/8".parse().expect("range")],
            include_ports: vec![
                PortRange::single(80),
                PortRange {
                    first: 8000,
                    last: 9000,
                },
            ],
            ..RedirectConfig::default()
        };
        let json = serde_json::to_string(&config).expect("json");
        assert_eq!(
            json,
            "{\"out_port\":15001,\"in_port\":15006,\"tunnel_port\":15008,\"proxy_uids\":[1337],\
             \"proxy_gids\":[1337],\"owner_groups\":\"*\",\"owner_groups_exclude\":[],\
             \"include\":\"*\",\"exclude\":[\"127.0.0.1/8\"],\
             \"include_ports\":[\"80\",\"8000:9000\"],\"exclude_ports\":[],\
             \"exclude_interfaces\":[],\
             \"loopback4\":\"127.0.0.1/32\",\
             \"dns\":{\"redirect\":false,\"capture_all\":false,\"servers\":[]},\
             \"dual_stack\":false,\
             \"inbound\":{\"mode\":\"REDIRECT\",\"include_ports\":[],\"exclude_ports\":[]},\"shadow\":false}"
        );
    }
}
