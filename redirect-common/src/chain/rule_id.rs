//! The identities of the rules and their texts.

use super::{INBOUND, OUTPUT, Verdict};

/// Row C1 or D1 of the chain for one owner.
macro_rules! to_self {
    ($owner:literal) => {
        concat!(
            "-o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner ",
            $owner,
            " -j ISTIO_IN_REDIRECT"
        )
    };
}

/// Row C1 of the chain where DNS is captured.
macro_rules! to_self_but_dns {
    ($owner:literal) => {
        concat!(
            "-o lo ! -d 127.0.0.1/32 -p tcp -m multiport ! --dports 53,15008 -m owner ",
            $owner,
            " -j ISTIO_IN_REDIRECT"
        )
    };
}

/// A rule's identity. The discriminant is the index of the rule's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RuleId {
    /// IPv6, if it is left alone.
    Ipv6Off,
    /// Multicast and broadcast destinations.
    NotUnicast,
    /// An excluded interface.
    InterfaceExcluded,
    /// An excluded outbound port.
    PortExcluded,
    /// The proxy's inbound delivery to the application.
    Passthrough,
    /// The proxy's user dials its own pod.
    UidToSelf,
    /// Any other user's connection over loopback.
    AppLoUid,
    /// The proxy's first user.
    Uid,
    /// A later one of the proxy's users dials its own pod.
    UidToSelfLater,
    /// A later one of the proxy's users.
    UidLater,
    /// The proxy's group dials its own pod.
    GidToSelf,
    /// Any other group's connection over loopback.
    AppLoGid,
    /// The proxy's first group.
    Gid,
    /// A later one of the proxy's groups dials its own pod.
    GidToSelfLater,
    /// A later one of the proxy's groups.
    GidLater,
    /// An owner group that is not redirected.
    GroupExcluded,
    /// A query to a captured resolver.
    Dns,
    /// The loopback address itself.
    Loopback,
    /// An excluded range.
    CidrExcluded,
    /// An included outbound port.
    PortIncluded,
    /// An included range.
    CidrIncluded,
    /// Every destination, if all are included.
    AnyIncluded,
    /// The end of the outbound chain.
    Default,
    /// Inbound IPv6, if it is left alone.
    InIpv6Off,
    /// A connection of the pod to itself.
    InLooped,
    /// An excluded interface that a connection arrives by.
    InInterfaceExcluded,
    /// The tunnel port.
    InTunnel,
    /// An excluded inbound port.
    InPortExcluded,
    /// Every inbound port, if all are included.
    InAnyIncluded,
    /// An included inbound port.
    InPortIncluded,
    /// The end of the inbound chain.
    InDefault,
}

impl RuleId {
    /// Every rule, in evaluation order, the outbound chain first.
    pub const ALL: [Self; 31] = [
        Self::Ipv6Off,
        Self::NotUnicast,
        Self::InterfaceExcluded,
        Self::PortExcluded,
        Self::Passthrough,
        Self::UidToSelf,
        Self::AppLoUid,
        Self::Uid,
        Self::UidToSelfLater,
        Self::UidLater,
        Self::GidToSelf,
        Self::AppLoGid,
        Self::Gid,
        Self::GidToSelfLater,
        Self::GidLater,
        Self::GroupExcluded,
        Self::Dns,
        Self::Loopback,
        Self::CidrExcluded,
        Self::PortIncluded,
        Self::CidrIncluded,
        Self::AnyIncluded,
        Self::Default,
        Self::InIpv6Off,
        Self::InLooped,
        Self::InInterfaceExcluded,
        Self::InTunnel,
        Self::InPortExcluded,
        Self::InAnyIncluded,
        Self::InPortIncluded,
        Self::InDefault,
    ];

    /// The rule's name in text output, metrics and JSON, which never show its number.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv6Off => "ipv6-off",
            Self::NotUnicast => "not-unicast",
            Self::InterfaceExcluded => "interface-excluded",
            Self::PortExcluded => "port-excluded",
            Self::Passthrough => "passthrough",
            Self::UidToSelf => "uid-to-self",
            Self::AppLoUid => "app-lo-uid",
            Self::Uid => "uid",
            Self::UidToSelfLater => "uid-to-self-later",
            Self::UidLater => "uid-later",
            Self::GidToSelf => "gid-to-self",
            Self::AppLoGid => "app-lo-gid",
            Self::Gid => "gid",
            Self::GidToSelfLater => "gid-to-self-later",
            Self::GidLater => "gid-later",
            Self::GroupExcluded => "group-excluded",
            Self::Dns => "dns",
            Self::Loopback => "loopback",
            Self::CidrExcluded => "cidr-excluded",
            Self::PortIncluded => "port-included",
            Self::CidrIncluded => "cidr-included",
            Self::AnyIncluded => "any-included",
            Self::Default => "default",
            Self::InIpv6Off => "in-ipv6-off",
            Self::InLooped => "in-looped",
            Self::InInterfaceExcluded => "in-interface-excluded",
            Self::InTunnel => "in-tunnel",
            Self::InPortExcluded => "in-port-excluded",
            Self::InAnyIncluded => "in-any-included",
            Self::InPortIncluded => "in-port-included",
            Self::InDefault => "in-default",
        }
    }

    /// The iptables rule that this rule stands for, with `P`, `U`, `G` and `C` for the configured
    /// port, user, group and range, `U2` and `G2` for a later user or group, `E` for an owner group, and `NIC` for
    /// an interface. Loopback and passthrough addresses are shown for IPv4.
    #[must_use]
    pub const fn iptables(self) -> &'static str {
        match self {
            Self::Ipv6Off | Self::InIpv6Off => "(IPv6 is off: there are no ip6tables rules)",
            Self::NotUnicast => "(routing refuses it before netfilter)",
            Self::InterfaceExcluded => "-o NIC -j RETURN",
            Self::InInterfaceExcluded => "-i NIC -j RETURN",
            Self::PortExcluded | Self::InPortExcluded => "-p tcp --dport P -j RETURN",
            Self::Passthrough => "-o lo -s 127.0.0.6/32 -j RETURN",
            Self::UidToSelf => to_self!("--uid-owner U"),
            Self::AppLoUid => "-o lo -m owner ! --uid-owner U -j RETURN",
            Self::Uid => "-m owner --uid-owner U -j RETURN",
            Self::UidToSelfLater => to_self!("--uid-owner U2"),
            Self::UidLater => "-m owner --uid-owner U2 -j RETURN",
            Self::GidToSelf => to_self!("--gid-owner G"),
            Self::AppLoGid => "-o lo -m owner ! --gid-owner G -j RETURN",
            Self::Gid => "-m owner --gid-owner G -j RETURN",
            Self::GidToSelfLater => to_self!("--gid-owner G2"),
            Self::GidLater => "-m owner --gid-owner G2 -j RETURN",
            Self::GroupExcluded => "-m owner [!] --gid-owner E -j RETURN",
            Self::Dns => "-p tcp --dport 53 -j REDIRECT --to-ports 15053",
            Self::Loopback => "-d 127.0.0.1/32 -j RETURN",
            Self::CidrExcluded => "-d C -j RETURN",
            Self::PortIncluded => "-p tcp --dport P -j ISTIO_REDIRECT",
            Self::CidrIncluded => "-d C -j ISTIO_REDIRECT",
            Self::AnyIncluded => "-j ISTIO_REDIRECT",
            Self::Default => "(end of ISTIO_OUTPUT: policy ACCEPT)",
            Self::InLooped => "(nat PREROUTING does not see what loops back)",
            Self::InTunnel => "-p tcp --dport 15008 -j RETURN",
            Self::InAnyIncluded => "-p tcp -j ISTIO_IN_REDIRECT",
            Self::InPortIncluded => "-p tcp --dport P -j ISTIO_IN_REDIRECT",
            Self::InDefault => "(end of ISTIO_INBOUND: policy ACCEPT)",
        }
    }

    /// The iptables rule if DNS is captured. Most rules are the same as without.
    #[must_use]
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rules that differ are named here, the others in `iptables`"
    )]
    pub const fn iptables_with_dns(self) -> &'static str {
        match self {
            Self::UidToSelf => to_self_but_dns!("--uid-owner U"),
            Self::UidToSelfLater => to_self_but_dns!("--uid-owner U2"),
            Self::AppLoUid => "-o lo -p tcp ! --dport 53 -m owner ! --uid-owner U -j RETURN",
            Self::AppLoGid => "-o lo -p tcp ! --dport 53 -m owner ! --gid-owner G -j RETURN",
            _ => self.iptables(),
        }
    }

    /// The iptables chain that contains the rule.
    #[must_use]
    pub const fn chain(self) -> &'static str {
        if matches!(self, Self::InterfaceExcluded) {
            "OUTPUT"
        } else if matches!(self, Self::InInterfaceExcluded) {
            "PREROUTING"
        } else if self.is_inbound() {
            "ISTIO_INBOUND"
        } else if matches!(self, Self::Dns) {
            "ISTIO_OUTPUT_DNS"
        } else {
            "ISTIO_OUTPUT"
        }
    }

    /// Whether the rule is in [`INBOUND`] rather than in [`OUTPUT`].
    #[must_use]
    pub const fn is_inbound(self) -> bool {
        self.index() > Self::Default.index()
    }

    /// The verdict for a connection that the rule matches.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        if self.is_inbound() {
            INBOUND.verdict(self)
        } else {
            OUTPUT.verdict(self)
        }
    }

    /// The index of the rule's counter.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}
