//! Which maps there are, and how large they may become.

/// The version of this layout; it is part of the pin path. Changes whenever a key, a row, a flag, the
/// numbering of the rules, or the set of maps or hooks changes: builds with the same version run each
/// other's maps and links.
pub const ABI_VERSION: u32 = 5;

/// A map of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapName {
    /// Attached cgroup → [`PolicyRow`](super::PolicyRow).
    Pods,
    /// Attached cgroup → [`Hits`](super::Hits), one per CPU.
    RuleHits,
    /// [`LocalKey`](super::LocalKey) → [`LocalFlags`](super::LocalFlags).
    Locals,
    /// [`Cidr4Data`](super::Cidr4Data) by longest prefix → [`CidrFlags`](super::CidrFlags).
    Cidrs4,
    /// [`Cidr6Data`](super::Cidr6Data) by longest prefix → [`CidrFlags`](super::CidrFlags).
    Cidrs6,
    /// [`PortKey`](super::PortKey) → [`PortFlags`](super::PortFlags).
    Ports,
    /// [`GroupKey`](super::GroupKey) → [`GroupFlags`](super::GroupFlags).
    Groups,
    /// Socket → [`OrigDst`](super::OrigDst).
    OrigDst,
    /// [`StandInKey`](super::StandInKey) → [`Destination`](super::Destination).
    StandIns,
    /// Network namespace → how many stand-ins it has.
    StandInCounts,
    /// [`FlowKey`](super::FlowKey) → [`OrigDst`](super::OrigDst), for the length of a handshake.
    Flows,
    /// [`FlowKey`](super::FlowKey) → [`OrigDst`](super::OrigDst), for the length of a connection in
    /// shadow mode.
    ShadowFlows,
    /// [`ShadowDiffKey`](super::ShadowDiffKey) → how often it was seen.
    ShadowDiffs,
    /// Socket → [`DnsPending`](super::DnsPending).
    DnsPending,
    /// Attached cgroup → [`PolicyRow`](super::PolicyRow), where inbound is redirected.
    Inbound,
    /// Attached cgroup → [`Hits`](super::Hits) of inbound connections, one per CPU.
    InHits,
    /// [`ListenerKey`](super::ListenerKey) → a socket of the proxy that listens.
    Listeners,
}

impl MapName {
    /// Every map.
    pub const ALL: [Self; 17] = [
        Self::Pods,
        Self::RuleHits,
        Self::Locals,
        Self::Cidrs4,
        Self::Cidrs6,
        Self::Ports,
        Self::Groups,
        Self::OrigDst,
        Self::StandIns,
        Self::StandInCounts,
        Self::Flows,
        Self::ShadowFlows,
        Self::ShadowDiffs,
        Self::DnsPending,
        Self::Inbound,
        Self::InHits,
        Self::Listeners,
    ];

    /// The map's name in the object, in the kernel and on bpffs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pods => "PODS",
            Self::RuleHits => "RULE_HITS",
            Self::Locals => "LOCALS",
            Self::Cidrs4 => "CIDRS4",
            Self::Cidrs6 => "CIDRS6",
            Self::Ports => "PORTS",
            Self::Groups => "GROUPS",
            Self::OrigDst => "ORIG_DST",
            Self::StandIns => "STAND_INS",
            Self::StandInCounts => "STAND_IN_COUNTS",
            Self::Flows => "FLOWS",
            Self::ShadowFlows => "REHEARSED",
            Self::ShadowDiffs => "DIFFERENCES",
            Self::DnsPending => "DNS_ASKED",
            Self::Inbound => "INBOUND",
            Self::InHits => "IN_HITS",
            Self::Listeners => "LISTENERS",
        }
    }
}

/// The most ranges all pods of a node can have, per family.
pub const MAX_CIDRS: usize = 1 << 20;
/// The most port entries all pods of a node can have.
pub const MAX_PORTS: usize = 1 << 18;
/// The most owner groups all pods of a node can list.
pub const MAX_GROUPS: usize = 1 << 16;
/// The most addresses all network namespaces of a node can have.
pub const MAX_LOCALS: usize = 1 << 16;
/// The most kinds of difference that shadow mode keeps for a node; the kernel forgets the least
/// recently seen.
pub const MAX_SHADOW_DIFFS: usize = 1 << 12;
/// The most pods of a node whose inbound is redirected.
pub const MAX_INBOUND: usize = 1 << 12;
/// The most listening sockets that all proxies of a node can have at their inbound ports.
pub const MAX_LISTENERS: usize = 1 << 14;
/// The most connections in shadow mode that are open at once on a node; the kernel forgets the least
/// recent ones.
pub const MAX_SHADOW_FLOWS: usize = 1 << 14;
/// The most loopback addresses that stand for destinations, of all pods of a node. They are kept as long as a
/// pod of their network namespace is attached, because nothing tells when the last socket of a connection is gone.
pub const MAX_STAND_INS: usize = 1 << 18;
/// The most of them that one network namespace can have, so that none can take all: 4,096 destinations. CPUs that
/// count at once may let it have a few more.
pub const MAX_STAND_INS_OF_ONE: u64 = 1 << 14;
/// The most network namespaces that can have any.
pub const MAX_NAMESPACES: usize = 1 << 12;
/// The most handshakes under way at once on a node.
pub const MAX_FLOWS: usize = 1 << 18;
