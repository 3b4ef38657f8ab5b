//! Policies: their ids, and the row and counters of a pod.

use super::flags::flag_set;
use crate::{
    chain::RuleId,
    net::{BeAddr, BePort},
};

/// The id of a compiled policy: the slot of its maps in each array of maps, less than
/// [`MAX_POLICIES`](super::MAX_POLICIES). Pods whose entries are equal share one id. An id is not
/// reused while its slots are filled; 0 means "no policy".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PolicyId(pub u32);

impl PolicyId {
    /// The id of a pod that is attached but not, or no longer, active: every connection is direct.
    pub const NONE: Self = Self(0);
}

/// The serial of a pod's row, new whenever the configuration or the entries change. A refresh of
/// addresses keeps it. No other pod has the same serial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Serial(pub u32);

impl Serial {
    /// No pod has this serial.
    pub const NONE: Self = Self(0);
}

flag_set! {
    /// Flags of a [`PolicyRow`].
    RowFlags {
        /// The included ranges are `*`.
        ANY_INCLUDED = 0, any_included;
        /// An included range was written with a loopback address.
        LOOPBACK_INCLUDED = 1, loopback_included;
        /// There are IPv4 ranges to look up.
        HAS_CIDRS4 = 2, has_cidrs4;
        /// There are IPv6 ranges to look up.
        HAS_CIDRS6 = 3, has_cidrs6;
        /// There are ports to look up.
        HAS_PORTS = 4, has_ports;
        /// There are owner groups to look up.
        HAS_GROUPS = 5, has_groups;
        /// Only the listed owner groups are redirected; without this flag the listed ones are
        /// excluded.
        ONLY_GROUPS = 6, only_groups;
        /// IPv6 is left alone.
        NO_IPV6 = 7, no_ipv6;
        /// DNS queries are captured.
        REDIRECT_DNS = 8, redirect_dns;
        /// DNS queries to every resolver are captured, not only to the listed ones.
        CAPTURE_ALL_DNS = 9, capture_all_dns;
        /// Inbound connections are redirected.
        INBOUND = 10, inbound;
        /// Inbound connections to every port are redirected.
        ANY_IN_PORT = 11, any_in_port;
        /// There are inbound ports to look up.
        HAS_IN_PORTS = 12, has_in_ports;
        /// The inbound mode is TPROXY.
        TPROXY = 13, tproxy;
        /// Shadow mode: programs decide and count, but redirect nothing.
        SHADOW = 14, shadow;
        /// IPv6 is on if the pod has any IPv6 address. Programs do not test this flag but
        /// [`Self::NO_IPV6`]; user space reads it back.
        DUAL_STACK = 15, dual_stack;
        /// There are excluded interfaces.
        HAS_INTERFACES = 16, has_interfaces;
        /// `lo` is an excluded interface.
        LO_EXCLUDED = 17, lo_excluded;
    }
}

impl RowFlags {
    /// The flags, and `flag` if `on`.
    #[must_use]
    pub const fn or_if(self, on: bool, flag: Self) -> Self {
        if on { self.or(flag) } else { self }
    }

    /// Whether there are ranges of one family to look up: IPv4 if `v4`, else IPv6.
    #[must_use]
    pub const fn has_cidrs(self, v4: bool) -> bool {
        if v4 {
            self.has_cidrs4()
        } else {
            self.has_cidrs6()
        }
    }
}

/// The most users, and the most groups, that a pod's proxy can have.
pub const PROXY_IDS: usize = 4;

/// The most excluded interfaces of a pod, counted as names in the list and as existing interfaces
/// that match.
pub const MAX_INTERFACES: usize = 8;

/// The size of an interface's name with the zero byte at its end (`IFNAMSIZ`,
/// include/uapi/linux/if.h).
pub const INTERFACE_NAME: usize = 16;

/// The policy of one pod. User space replaces the row with one system call, atomically for every
/// connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PolicyRow {
    /// The cookie of the pod's network namespace. Sockets of other namespaces below the pod's
    /// cgroup are left alone.
    pub netns: u64,
    /// The policy id, which finds the policy's ranges, ports and groups.
    pub policy: PolicyId,
    /// The serial of this row.
    pub serial: Serial,
    /// The flags of the policy.
    pub flags: RowFlags,
    /// The port that [`crate::chain::Verdict::Out`] leads to (`-p`, 15001).
    pub out_port: BePort,
    /// The port that [`crate::chain::Verdict::In`] leads to (`-z`, 15006).
    pub in_port: BePort,
    /// The tunnel port (`-e`, 15008).
    pub tunnel_port: BePort,
    /// Padding, always zero.
    pub reserved: [u16; 3],
    /// The proxy's users (`-u`) in list order, as ids of the initial user namespace; unused
    /// elements are [`Self::NO_ID`].
    pub proxy_uids: [u32; PROXY_IDS],
    /// The proxy's groups (`-g`), in the same form.
    pub proxy_gids: [u32; PROXY_IDS],
    /// The source address that an IPv4 connection of the pod is shown with, or a zero address.
    pub source4: BeAddr,
    /// The same for IPv6.
    pub source6: BeAddr,
    /// The first address of the IPv4 range that the rules call loopback, in network byte order
    /// (`--host-ipv4-loopback-cidr`, 127.0.0.1).
    pub loopback4: u32,
    /// The mask of that range, in network byte order.
    pub loopback4_mask: u32,
    /// The indexes of the excluded interfaces (`-c`) that exist in the pod's network namespace;
    /// unused elements are [`Self::NO_INTERFACE`].
    pub interfaces: [u32; MAX_INTERFACES],
    /// The names of the excluded interfaces as they were configured, padded with zero bytes.
    /// Programs do not read them; user space reads them back.
    pub interface_names: [[u8; INTERFACE_NAME]; MAX_INTERFACES],
}

impl PolicyRow {
    /// An id that no process can have: the kernel's own value for "no such id".
    pub const NO_ID: u32 = u32::MAX;

    /// An index that no interface can have: the kernel's indexes are positive `int`s, and 0 stands
    /// for any interface.
    pub const NO_INTERFACE: u32 = u32::MAX;

    /// Whether a datagram to this port may be captured: DNS is redirected and the port is 53.
    #[must_use]
    #[inline(always)]
    pub const fn may_capture_datagram(&self, port: BePort) -> bool {
        self.flags.redirect_dns() && port.to_network() == BePort::DNS.to_network()
    }

    /// Whether connections are sent to this port of the proxy.
    #[must_use]
    #[inline(always)]
    pub const fn is_capture_port(&self, port: BePort) -> bool {
        let raw = port.to_network();
        raw == self.out_port.to_network()
            || raw == self.in_port.to_network()
            || (self.flags.redirect_dns() && raw == BePort::DNS_PROXY.to_network())
    }

    /// Whether the pod's chain contains a rule. Rules for absent options are not in the chain.
    #[must_use]
    pub const fn has_rule(&self, rule: RuleId) -> bool {
        let [_, uid2, ..] = self.proxy_uids;
        let [_, gid2, ..] = self.proxy_gids;
        let id = match rule {
            RuleId::UidToSelfLater | RuleId::UidLater => uid2,
            RuleId::GidToSelfLater | RuleId::GidLater => gid2,
            RuleId::GroupExcluded => {
                return self.flags.has_groups() || self.flags.only_groups();
            }
            RuleId::Ipv6Off => return self.flags.no_ipv6(),
            RuleId::InterfaceExcluded => return self.flags.has_interfaces(),
            RuleId::Dns => return self.flags.redirect_dns(),
            RuleId::InIpv6Off => return self.flags.inbound() && self.flags.no_ipv6(),
            RuleId::InInterfaceExcluded => {
                return self.flags.inbound() && self.flags.has_interfaces();
            }
            RuleId::InTunnel => return self.flags.inbound() && !self.flags.tproxy(),
            RuleId::InLooped
            | RuleId::InPortExcluded
            | RuleId::InAnyIncluded
            | RuleId::InPortIncluded
            | RuleId::InDefault => return self.flags.inbound(),
            RuleId::NotUnicast
            | RuleId::PortExcluded
            | RuleId::Passthrough
            | RuleId::UidToSelf
            | RuleId::AppLoUid
            | RuleId::Uid
            | RuleId::GidToSelf
            | RuleId::AppLoGid
            | RuleId::Gid
            | RuleId::Loopback
            | RuleId::CidrExcluded
            | RuleId::PortIncluded
            | RuleId::CidrIncluded
            | RuleId::AnyIncluded
            | RuleId::Default => return true,
        };
        id != Self::NO_ID
    }
}

/// The counters of one pod on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Hits {
    /// Connections by the rule that decided them, at [`RuleId::index`].
    pub rules: [u64; Self::RULES],
    /// Handshakes whose original destination could not be passed on, because `FLOWS` was full.
    pub flow_lost: u64,
    /// Connections refused because the kernel had no memory to record their original destination.
    pub record_failed: u64,
    /// Connections in shadow mode that really arrived where the policy would send them.
    pub agreed: u64,
    /// Connections in shadow mode that arrived elsewhere.
    pub differed: u64,
    /// Connections in shadow mode whose real target is unknown: they were never established, or
    /// their source port was changed on the way.
    pub unknown: u64,
}

impl Hits {
    /// Number of rule counters: more than there are rules, so that a new rule does not move the
    /// fields behind.
    pub const RULES: usize = 48;
    /// Counters that are all zero.
    pub const ZERO: Self = Self {
        rules: [0; Self::RULES],
        flow_lost: 0,
        record_failed: 0,
        agreed: 0,
        differed: 0,
        unknown: 0,
    };

    /// The number of connections that one rule decided.
    #[must_use]
    pub fn of(&self, rule: RuleId) -> u64 {
        self.rules.get(rule.index()).copied().unwrap_or(0)
    }

    /// The sum of these counters and another CPU's.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (sum, more) in self.rules.iter_mut().zip(other.rules) {
            *sum = sum.wrapping_add(more);
        }
        self.flow_lost = self.flow_lost.wrapping_add(other.flow_lost);
        self.record_failed = self.record_failed.wrapping_add(other.record_failed);
        self.agreed = self.agreed.wrapping_add(other.agreed);
        self.differed = self.differed.wrapping_add(other.differed);
        self.unknown = self.unknown.wrapping_add(other.unknown);
        self
    }
}
