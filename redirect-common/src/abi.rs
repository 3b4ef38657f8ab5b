//! The maps: their names, keys and rows. Padding is explicit and sizes are asserted, because the
//! kernel compares keys byte by byte.

use crate::{
    chain::RuleId,
    net::{BeAddr, BePort},
};

/// The version of this layout; it is part of the pin path. Changes whenever a key, a row, a flag
/// or the numbering of the rules changes.
pub const ABI_VERSION: u32 = 1;

/// A map of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapName {
    /// Attached cgroup → [`PolicyRow`].
    Pods,
    /// Attached cgroup → [`Hits`], one per CPU.
    RuleHits,
    /// [`LocalKey`] → [`LocalFlags`].
    Locals,
    /// [`Cidr4Data`] by longest prefix → [`CidrFlags`].
    Cidrs4,
    /// [`Cidr6Data`] by longest prefix → [`CidrFlags`].
    Cidrs6,
    /// [`PortKey`] → [`PortFlags`].
    Ports,
    /// Socket → [`OrigDst`].
    OrigDst,
    /// [`FlowKey`] → [`OrigDst`], for the length of a handshake.
    Flows,
}

impl MapName {
    /// Every map.
    pub const ALL: [Self; 8] = [
        Self::Pods,
        Self::RuleHits,
        Self::Locals,
        Self::Cidrs4,
        Self::Cidrs6,
        Self::Ports,
        Self::OrigDst,
        Self::Flows,
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
            Self::OrigDst => "ORIG_DST",
            Self::Flows => "FLOWS",
        }
    }
}

/// The most ranges all pods of a node can have, per family.
pub const MAX_CIDRS: usize = 1 << 20;
/// The most port entries all pods of a node can have.
pub const MAX_PORTS: usize = 1 << 18;
/// The most addresses all network namespaces of a node can have.
pub const MAX_LOCALS: usize = 1 << 16;
/// The most handshakes under way at once on a node.
pub const MAX_FLOWS: usize = 1 << 18;

/// Names one compiled policy in the keys of the range and port maps. Never reused while its
/// entries exist; 0 is "no policy".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PolicyId(pub u32);

impl PolicyId {
    /// The id of a pod that is attached but not (or no longer) active: everything is direct.
    pub const NONE: Self = Self(0);
}

/// Switches of a [`PolicyRow`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct RowFlags(u32);

impl RowFlags {
    const ANY_INCLUDED: u32 = 1 << 0;
    const LOOPBACK_INCLUDED: u32 = 1 << 1;
    const HAS_CIDRS4: u32 = 1 << 2;
    const HAS_CIDRS6: u32 = 1 << 3;
    const HAS_PORTS: u32 = 1 << 4;

    const fn with(self, bit: u32, on: bool) -> Self {
        if on { Self(self.0 | bit) } else { self }
    }

    /// No switch set.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// The included ranges are `*`.
    #[must_use]
    pub const fn with_any_included(self, on: bool) -> Self {
        self.with(Self::ANY_INCLUDED, on)
    }

    /// An included range was written with a loopback address.
    #[must_use]
    pub const fn with_loopback_included(self, on: bool) -> Self {
        self.with(Self::LOOPBACK_INCLUDED, on)
    }

    /// There are ranges of this family to look up.
    #[must_use]
    pub const fn with_cidrs(self, v4: bool, v6: bool) -> Self {
        self.with(Self::HAS_CIDRS4, v4).with(Self::HAS_CIDRS6, v6)
    }

    /// There are ports to look up.
    #[must_use]
    pub const fn with_ports(self, on: bool) -> Self {
        self.with(Self::HAS_PORTS, on)
    }

    /// See [`Self::with_any_included`].
    #[must_use]
    pub const fn any_included(self) -> bool {
        self.0 & Self::ANY_INCLUDED != 0
    }

    /// See [`Self::with_loopback_included`].
    #[must_use]
    pub const fn loopback_included(self) -> bool {
        self.0 & Self::LOOPBACK_INCLUDED != 0
    }

    /// See [`Self::with_cidrs`].
    #[must_use]
    pub const fn has_cidrs(self, v4: bool) -> bool {
        self.0
            & (if v4 {
                Self::HAS_CIDRS4
            } else {
                Self::HAS_CIDRS6
            })
            != 0
    }

    /// See [`Self::with_ports`].
    #[must_use]
    pub const fn has_ports(self) -> bool {
        self.0 & Self::HAS_PORTS != 0
    }
}

/// One pod's policy. Replacing it is one system call and atomic for every connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PolicyRow {
    /// The pod's network namespace, for readers in user space; programs ask the socket.
    pub netns: u64,
    /// The first part of every range and port key.
    pub policy: PolicyId,
    /// Switches.
    pub flags: RowFlags,
    /// Where [`crate::chain::Verdict::Out`] goes (`-p`, 15001).
    pub out_port: BePort,
    /// Where [`crate::chain::Verdict::In`] goes (`-z`, 15006).
    pub in_port: BePort,
    /// The tunnel port (`-e`, 15008).
    pub tunnel_port: BePort,
    /// Zero.
    pub reserved: u16,
    /// The proxy's user (`-u`), in the initial user namespace.
    pub proxy_uid: u32,
    /// The proxy's group (`-g`), in the initial user namespace.
    pub proxy_gid: u32,
    /// The source address an IPv4 connection of the pod shows, or a zero address.
    pub self4: BeAddr,
    /// The same for IPv6.
    pub self6: BeAddr,
}

/// The counters of one pod on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Hits {
    /// Connections by the rule that decided them, at [`RuleId::index`].
    pub rules: [u64; Self::RULES],
    /// Handshakes whose original destination could not be handed over: `FLOWS` was full.
    pub flow_lost: u64,
    /// Connections refused because the kernel had no memory to record their destination.
    pub record_failed: u64,
}

impl Hits {
    /// Places for rules: more than there are, so that a new rule does not move the others.
    pub const RULES: usize = 48;
    /// All zero.
    pub const ZERO: Self = Self {
        rules: [0; Self::RULES],
        flow_lost: 0,
        record_failed: 0,
    };

    /// The hits of one rule.
    #[must_use]
    pub fn of(&self, rule: RuleId) -> u64 {
        self.rules.get(rule.index()).copied().unwrap_or(0)
    }

    /// The sum with another CPU's counters.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (sum, more) in self.rules.iter_mut().zip(other.rules) {
            *sum = sum.wrapping_add(more);
        }
        self.flow_lost = self.flow_lost.wrapping_add(other.flow_lost);
        self.record_failed = self.record_failed.wrapping_add(other.record_failed);
        self
    }
}

/// Data of an IPv4 range key, most significant first: the policy id, then the address in network
/// byte order. The prefix length counts both: 32 plus the range's own.
pub type Cidr4Data = [u32; 2];
/// Data of an IPv6 range key: the policy id, then the four words of the address.
pub type Cidr6Data = [u32; 5];
/// Bits that the policy id adds to a range's prefix length.
pub const POLICY_BITS: u32 = u32::BITS;

/// What a destination is by its ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct CidrFlags(u32);

impl CidrFlags {
    /// In no range.
    pub const NONE: Self = Self(0);
    /// In an excluded range.
    pub const EXCLUDED: Self = Self(1 << 0);
    /// In an included range.
    pub const INCLUDED: Self = Self(1 << 1);
    /// Written with a loopback address; only ever read back, see [`Self::own`].
    pub const LOOPBACK: Self = Self(1 << 2);
    /// How far the "written for this very prefix" copy of the flags is shifted.
    const OWN: u32 = 16;

    /// Both sets of flags.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// A stored value: `effective` over all prefixes that contain this one, and which of them
    /// were written for it, so that the configuration can be read back.
    #[must_use]
    pub const fn stored(effective: Self, own: Self) -> Self {
        Self(effective.0 | own.0 << Self::OWN)
    }

    /// The flags written for this very prefix.
    #[must_use]
    pub const fn own(self) -> Self {
        Self(self.0 >> Self::OWN)
    }

    /// Whether it is in an excluded range.
    #[must_use]
    pub const fn excluded(self) -> bool {
        self.0 & Self::EXCLUDED.0 != 0
    }

    /// Whether it is in an included range.
    #[must_use]
    pub const fn included(self) -> bool {
        self.0 & Self::INCLUDED.0 != 0
    }

    /// Whether it was written with a loopback address.
    #[must_use]
    pub const fn loopback(self) -> bool {
        self.0 & Self::LOOPBACK.0 != 0
    }
}

/// Key of the port map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct PortKey {
    /// Whose port.
    pub policy: PolicyId,
    /// The destination port.
    pub port: BePort,
    /// [`PortKey::OUTBOUND`].
    pub direction: u8,
    /// The IP protocol number.
    pub protocol: u8,
}

impl PortKey {
    /// Outbound, seen from the pod.
    pub const OUTBOUND: u8 = 0;
    /// `IPPROTO_TCP`.
    pub const TCP: u8 = 6;

    /// The key of an outbound TCP port.
    #[must_use]
    pub const fn outbound_tcp(policy: PolicyId, port: BePort) -> Self {
        Self {
            policy,
            port,
            direction: Self::OUTBOUND,
            protocol: Self::TCP,
        }
    }
}

/// What a port is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct PortFlags(u32);

impl PortFlags {
    /// In no list.
    pub const NONE: Self = Self(0);
    /// Never redirected (`-o`).
    pub const EXCLUDED: Self = Self(1 << 0);
    /// Always redirected unless excluded (`-q`).
    pub const INCLUDED: Self = Self(1 << 1);

    /// Both sets of flags.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the port is excluded.
    #[must_use]
    pub const fn excluded(self) -> bool {
        self.0 & Self::EXCLUDED.0 != 0
    }

    /// Whether the port is included.
    #[must_use]
    pub const fn included(self) -> bool {
        self.0 & Self::INCLUDED.0 != 0
    }
}

/// Key of the map of local addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct LocalKey {
    /// The network namespace's cookie, as `SO_NETNS_COOKIE` gives it.
    pub netns: u64,
    /// The address.
    pub addr: BeAddr,
}

/// What an address is to a network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct LocalFlags(u32);

impl LocalFlags {
    /// Somebody else's.
    pub const NONE: Self = Self(0);
    /// The namespace's own.
    pub const OWN: Self = Self(1 << 0);
    /// A subnet's broadcast address.
    pub const BROADCAST: Self = Self(1 << 1);

    /// Whether it is the namespace's own.
    #[must_use]
    pub const fn is_own(self) -> bool {
        self.0 & Self::OWN.0 != 0
    }

    /// Whether it is a broadcast address.
    #[must_use]
    pub const fn is_broadcast(self) -> bool {
        self.0 & Self::BROADCAST.0 != 0
    }
}

/// Key of a handshake under way, seen from the client. IPv4-mapped and IPv4 are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// The network namespace's cookie.
    pub netns: u64,
    /// The client's address.
    pub src: BeAddr,
    /// The address the client really connects to.
    pub dst: BeAddr,
    /// The client's port.
    pub src_port: BePort,
    /// The proxy's port.
    pub dst_port: BePort,
    /// Zero.
    pub reserved: u32,
}

/// Which end of a redirected connection a socket is, and how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Role(u8);

impl Role {
    /// The application's end; the decision is made, nothing is sent yet.
    pub const DECIDED: Self = Self(1);
    /// The application's end; the handshake has begun.
    pub const CLIENT: Self = Self(2);
    /// The proxy's end.
    pub const SERVER: Self = Self(3);

    /// Whether it is the application's end.
    #[must_use]
    pub const fn is_client(self) -> bool {
        self.0 == Self::DECIDED.0 || self.0 == Self::CLIENT.0
    }

    /// Equality that compiles to one comparison.
    #[must_use]
    pub const fn same(self, other: Self) -> bool {
        self.0 == other.0
    }
}

/// A redirected connection's original destination, kept with each of its two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct OrigDst {
    /// The address the application dialled.
    pub addr: BeAddr,
    /// The port the application dialled.
    pub port: BePort,
    /// The proxy's port the connection was sent to.
    pub target: BePort,
    /// Which end this is.
    pub role: Role,
    /// Zero.
    pub reserved: [u8; 3],
}

/// Where the running kernel keeps a socket's owner, from its BTF: byte offsets along
/// `sock.sk_socket → socket.file → file.f_cred → cred.{fsuid,fsgid}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct OwnerOffsets {
    /// Of `sk_socket` in `struct sock`.
    pub sk_socket: u32,
    /// Of `file` in `struct socket`.
    pub file: u32,
    /// Of `f_cred` in `struct file`.
    pub f_cred: u32,
    /// Of `fsuid` in `struct cred`.
    pub fsuid: u32,
    /// Of `fsgid` in `struct cred`.
    pub fsgid: u32,
}

/// What the redirector keeps about itself, in a map of its own. Only user space reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Meta {
    /// The policy id given out last.
    pub last_policy: PolicyId,
    /// Not zero while a change is under way. Found so by the next one, it means that its
    /// predecessor was killed and there may be something to collect.
    pub busy: u32,
}

/// The name of the map that holds [`Meta`].
pub const META: &str = "META";

/// The name of the object's [`OwnerOffsets`] global.
pub const OWNER_OFFSETS: &str = "OWNER_OFFSETS";
