//! The names of the maps, and their largest sizes.

/// The version of this layout; it is part of the pin path. It changes whenever a key, a row, a
/// flag, the numbering of the rules, or the set of maps or hooks changes: builds with the same
/// version run each other's maps and links.
pub const ABI_VERSION: u32 = 6;

/// A map of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapName {
    /// Attached cgroup → [`PolicyRow`](super::PolicyRow).
    Pods,
    /// Attached cgroup → [`Hits`](super::Hits), one per CPU.
    RuleHits,
    /// [`LocalKey`](super::LocalKey) → [`LocalFlags`](super::LocalFlags).
    Locals,
    /// [`PolicyId`](super::PolicyId) → a map of [`Cidr4Data`](super::Cidr4Data) by longest prefix →
    /// [`CidrFlags`](super::CidrFlags).
    Cidrs4,
    /// [`PolicyId`](super::PolicyId) → a map of [`Cidr6Data`](super::Cidr6Data) by longest prefix →
    /// [`CidrFlags`](super::CidrFlags).
    Cidrs6,
    /// [`PolicyId`](super::PolicyId) → a map of [`PortKey`](super::PortKey) →
    /// [`PortFlags`](super::PortFlags).
    Ports,
    /// [`PolicyId`](super::PolicyId) → a map of group id → [`GroupFlags`](super::GroupFlags).
    Groups,
    /// Socket → [`OrigDst`](super::OrigDst).
    OrigDst,
    /// [`StandInKey`](super::StandInKey) → [`Destination`](super::Destination).
    StandIns,
    /// Network namespace's cookie → the number of its stand-ins.
    StandInCounts,
    /// [`FlowKey`](super::FlowKey) → [`OrigDst`](super::OrigDst), for the duration of a handshake.
    Flows,
    /// [`FlowKey`](super::FlowKey) → [`OrigDst`](super::OrigDst), for the duration of a connection
    /// in shadow mode.
    ShadowFlows,
    /// [`ShadowDiffKey`](super::ShadowDiffKey) → the number of connections with that difference.
    ShadowDiffs,
    /// Socket → [`DnsPending`](super::DnsPending).
    DnsPending,
    /// Attached cgroup → [`PolicyRow`](super::PolicyRow), where inbound is redirected.
    Inbound,
    /// Attached cgroup → [`Hits`](super::Hits) of inbound connections, one per CPU.
    InHits,
    /// [`ListenerKey`](super::ListenerKey) → a listening socket of the proxy.
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

    /// The arrays of maps whose elements belong to one policy each. A policy has an element only
    /// where it has entries.
    pub const PER_POLICY: [Self; 4] = [Self::Cidrs4, Self::Cidrs6, Self::Ports, Self::Groups];

    /// The map's name in the object, in the kernel and in bpffs.
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

/// The most policies that the pods of a node can have. Pods with equal policies share one.
pub const MAX_POLICIES: u32 = 1 << 14;
/// The most ranges that one policy can have, per family.
pub const MAX_CIDRS: u32 = 1 << 20;
/// The most ports that one policy can have: all ports of both directions.
pub const MAX_PORTS: u32 = 1 << 17;
/// The most owner groups that one policy can list.
pub const MAX_GROUPS: u32 = 1 << 16;
/// The most addresses that all network namespaces of a node can have.
pub const MAX_LOCALS: usize = 1 << 16;
/// The most kinds of difference that shadow mode keeps for a node; the kernel evicts the least
/// recently seen.
pub const MAX_SHADOW_DIFFS: usize = 1 << 12;
/// The most pods of a node whose inbound connections can be redirected.
pub const MAX_INBOUND: usize = 1 << 12;
/// The most listening sockets that all proxies of a node can have at their inbound ports.
pub const MAX_LISTENERS: usize = 1 << 14;
/// The most connections in shadow mode that can be open at once on a node; the kernel evicts the
/// least recent ones.
pub const MAX_SHADOW_FLOWS: usize = 1 << 14;
/// The most stand-ins that all pods of a node can have. A stand-in is kept as long as a pod of its
/// network namespace is attached, because no event tells when the last socket of a connection is
/// gone.
pub const MAX_STAND_INS: usize = 1 << 18;
/// The most stand-ins that one network namespace can have, so that no namespace can take all of
/// them: 4,096 destinations. CPUs that count at the same time can exceed the limit by a few.
pub const MAX_STAND_INS_OF_ONE: u64 = 1 << 14;
/// The most network namespaces that can have stand-ins.
pub const MAX_NAMESPACES: usize = 1 << 12;
/// The most handshakes that can be in progress at once on a node.
pub const MAX_FLOWS: usize = 1 << 18;
