//! The table of hooks: the programs, their purposes, and the kernel versions that introduced the
//! hooks.
//!
//! Loading, attaching, pinning, the feature probes and the documentation all walk this table.

/// A kernel version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The first number, 5 of 5.15.
    pub major: u16,
    /// The second number, 15 of 5.15.
    pub minor: u16,
}

impl core::fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { major, minor } = self;
        write!(f, "{major}.{minor}")
    }
}

const fn since(major: u16, minor: u16) -> KernelVersion {
    KernelVersion { major, minor }
}

/// The oldest kernel that the redirector runs on, and that tests run in. The newest of its needs, the
/// storage of a cgroup that all hooks share and the socket lookup, are of Linux 5.9.
pub const FLOOR: KernelVersion = since(5, 10);

/// A program, named by the hook it is attached to. The order of the variants is the order of
/// attaching: programs that pass on the original destination come before programs that redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Passes the original destination from the client's socket to the accepted one.
    SockOps,
    /// Answers `SO_ORIGINAL_DST`.
    GetSockOpt,
    /// Shows both ends the peer that they would see under iptables, IPv4.
    GetPeerName4,
    /// The same, IPv6.
    GetPeerName6,
    /// Shows both ends their own address as under iptables, IPv4.
    GetSockName4,
    /// The same, IPv6.
    GetSockName6,
    /// Makes answers of the mesh's resolver come from the resolver that was queried, IPv4.
    RecvMsg4,
    /// The same, IPv6 and IPv4-mapped.
    RecvMsg6,
    /// Decides about queries of unconnected sockets, IPv4 and IPv4-mapped.
    SendMsg4,
    /// The same, IPv6.
    SendMsg6,
    /// Decides and redirects, IPv4.
    Connect4,
    /// Decides and redirects, IPv6 and IPv4-mapped.
    Connect6,
    /// Decides about inbound connections and redirects them. The program is attached to a network
    /// namespace, and loaded anew for each pod.
    SkLookup,
}

impl Hook {
    /// Every hook of a cgroup, in the order of attaching.
    pub const ALL: [Self; 12] = [
        Self::SockOps,
        Self::GetSockOpt,
        Self::GetPeerName4,
        Self::GetPeerName6,
        Self::GetSockName4,
        Self::GetSockName6,
        Self::RecvMsg4,
        Self::RecvMsg6,
        Self::SendMsg4,
        Self::SendMsg6,
        Self::Connect4,
        Self::Connect6,
    ];

    /// The program's name, which its pins have too. It has at most 15 bytes, or the kernel cuts it.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::SockOps => "sock_ops",
            Self::GetSockOpt => "get_sockopt",
            Self::GetPeerName4 => "get_peername4",
            Self::GetPeerName6 => "get_peername6",
            Self::GetSockName4 => "get_sockname4",
            Self::GetSockName6 => "get_sockname6",
            Self::RecvMsg4 => "recv_msg4",
            Self::RecvMsg6 => "recv_msg6",
            Self::SendMsg4 => "send_msg4",
            Self::SendMsg6 => "send_msg6",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::SkLookup => "inbound",
        }
    }

    /// The purpose of the program, in one line.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::SockOps => {
                "hands the original destination from the client's socket to the accepted one"
            }
            Self::GetSockOpt => "answers SO_ORIGINAL_DST",
            Self::GetPeerName4 | Self::GetPeerName6 => {
                "both ends see the peer they would see under iptables"
            }
            Self::GetSockName4 | Self::GetSockName6 => {
                "both ends see their own address as under iptables"
            }
            Self::RecvMsg4 | Self::RecvMsg6 => {
                "answers of the mesh's resolver come from the resolver that was asked"
            }
            Self::SendMsg4 => "decides about unconnected queries of IPv4 and IPv4-mapped",
            Self::SendMsg6 => "decides about unconnected queries of IPv6",
            Self::Connect4 => "decides and redirects IPv4",
            Self::Connect6 => "decides and redirects IPv6 and IPv4-mapped",
            Self::SkLookup => "decides and redirects inbound (`-b`), in the network namespace",
        }
    }

    /// The hook's attach type: a value of `enum bpf_attach_type` (include/uapi/linux/bpf.h).
    #[must_use]
    pub const fn attach_type(self) -> u32 {
        match self {
            Self::SockOps => 3,
            Self::Connect4 => 10,
            Self::Connect6 => 11,
            Self::SendMsg4 => 14,
            Self::SendMsg6 => 15,
            Self::RecvMsg4 => 19,
            Self::RecvMsg6 => 20,
            Self::GetSockOpt => 21,
            Self::GetPeerName4 => 29,
            Self::GetPeerName6 => 30,
            Self::GetSockName4 => 31,
            Self::GetSockName6 => 32,
            Self::SkLookup => 36,
        }
    }

    /// The kernel version that introduced this hook; all hooks together need [`FLOOR`].
    #[must_use]
    pub const fn since(self) -> KernelVersion {
        match self {
            Self::SockOps => since(4, 16),
            Self::GetSockOpt => since(5, 3),
            Self::GetPeerName4 | Self::GetPeerName6 | Self::GetSockName4 | Self::GetSockName6 => {
                since(5, 8)
            }
            Self::RecvMsg4 | Self::RecvMsg6 => since(5, 2),
            Self::SendMsg4 | Self::SendMsg6 => since(4, 18),
            Self::Connect4 | Self::Connect6 => since(4, 17),
            Self::SkLookup => since(5, 9),
        }
    }
}
