//! The context of connect, sendmsg, recvmsg, getpeername and getsockname.
#![expect(
    unsafe_code,
    reason = "contexts are raw pointers, and the verifier checks every access through them"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "fields of a context are wider than the values they hold"
)]

use aya_ebpf::{
    bindings::{BPF_TCP_ESTABLISHED, bpf_sock, bpf_sock_addr, sockaddr},
    helpers::generated::bpf_bind,
    programs::SockAddrContext,
};
use redirect_common::{
    facts::Transport,
    net::{BeAddr, BePort},
};

use super::{
    SockAddrIn, SockAddrIn6,
    field::{
        AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, get, get_words, set, set_words, through_word,
    },
    netns,
};

/// The address family that a socket-address hook is for. The socket's family can differ: connect6
/// runs for IPv4-mapped destinations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// The `*4` hooks.
    V4,
    /// The `*6` hooks.
    V6,
}

/// The context of connect, sendmsg, recvmsg, getpeername and getsockname.
pub(crate) struct SockAddr {
    raw: *mut bpf_sock_addr,
    family: Family,
}

impl SockAddr {
    #[inline(always)]
    pub(crate) const fn new(ctx: &SockAddrContext, family: Family) -> Self {
        Self {
            raw: ctx.sock_addr,
            family,
        }
    }

    /// Whether the socket is a TCP socket. Each subflow of a multipath socket is one.
    #[inline(always)]
    pub(crate) fn is_tcp(&self) -> bool {
        get!(self.raw, protocol) == IPPROTO_TCP
    }

    /// The context itself, for helpers.
    #[inline(always)]
    pub(crate) const fn raw(&self) -> *mut bpf_sock_addr {
        self.raw
    }

    /// Whether the socket is a UDP socket.
    #[inline(always)]
    pub(crate) fn is_udp(&self) -> bool {
        get!(self.raw, protocol) == IPPROTO_UDP
    }

    /// The transport protocol of a TCP or UDP socket.
    #[inline(always)]
    pub(crate) fn transport(&self) -> Transport {
        // The two numbers have no bit in common. A comparison would make the verifier walk the rest
        // twice.
        if get!(self.raw, protocol) & IPPROTO_UDP == 0 {
            Transport::Tcp
        } else {
            Transport::Udp
        }
    }

    /// Whether the socket has a peer. A TCP socket that is still connecting has none yet.
    #[inline(always)]
    pub(crate) fn is_connected(&self) -> bool {
        get!(self.sk(), state) == BPF_TCP_ESTABLISHED
    }

    #[inline(always)]
    pub(crate) fn sk(&self) -> *mut bpf_sock {
        get!(self.raw, __bindgen_anon_1.sk)
    }

    /// The number of the socket's network namespace.
    #[inline(always)]
    pub(crate) fn netns(&self) -> u64 {
        netns::number(self.raw, || Some(self.sk()))
    }

    /// The address the call is about.
    #[inline(always)]
    pub(crate) fn addr(&self) -> BeAddr {
        match self.family {
            Family::V4 => BeAddr::from_network4(get!(self.raw, user_ip4)),
            Family::V6 => BeAddr::from_network6(get_words!(self.raw, user_ip6)),
        }
    }

    /// The port the call is about.
    #[inline(always)]
    pub(crate) fn port(&self) -> BePort {
        // The context has 32 bits for the port; the lower 16 hold it in network order.
        BePort::from_network(get!(self.raw, user_port) as u16)
    }

    /// The address that the socket is bound to, or a zero address.
    #[inline(always)]
    pub(crate) fn bound(&self) -> BeAddr {
        let sk = self.sk();
        match self.family {
            Family::V4 => BeAddr::from_network4(get!(sk, src_ip4)),
            Family::V6 => BeAddr::from_network6(get_words!(sk, src_ip6)),
        }
    }

    /// The socket's local address and port.
    #[inline(always)]
    pub(crate) fn local(&self) -> (BeAddr, BePort) {
        // Host byte order.
        let port = get!(self.sk(), src_port) as u16;
        (self.bound(), BePort::new(port))
    }

    /// The address and port of the socket's peer; zeros if it has none.
    #[inline(always)]
    pub(crate) fn remote(&self) -> (BeAddr, BePort) {
        let sk = self.sk();
        let addr = match self.family {
            Family::V4 => BeAddr::from_network4(get!(sk, dst_ip4)),
            Family::V6 => BeAddr::from_network6(get_words!(sk, dst_ip6)),
        };
        (addr, BePort::from_network(get!(sk, dst_port)))
    }

    /// The index of the device that the socket is bound to, or 0.
    #[inline(always)]
    pub(crate) fn device(&self) -> u32 {
        get!(self.sk(), bound_dev_if)
    }

    /// The address that sendmsg sends the datagram from, or a zero address.
    #[inline(always)]
    pub(crate) fn source(&self) -> BeAddr {
        match self.family {
            Family::V4 => BeAddr::from_network4(get!(self.raw, msg_src_ip4)),
            Family::V6 => BeAddr::from_network6(get_words!(self.raw, msg_src_ip6)),
        }
    }

    /// Replaces the address that sendmsg sends the datagram from.
    #[inline(always)]
    pub(crate) fn set_source(&self, addr: BeAddr) {
        match self.family {
            Family::V4 => set!(self.raw, msg_src_ip4, addr.word4()),
            Family::V6 => set_words!(self.raw, msg_src_ip6, addr),
        }
    }

    /// Binds the socket to an address in connect, without choosing a port yet. Has no effect on a
    /// socket that is bound to a port, nor if the address is not local to the namespace.
    #[inline(always)]
    pub(crate) fn bind(&self, addr: BeAddr) {
        match (self.family, get!(self.sk(), family)) {
            (Family::V4, AF_INET) => self.bind_to(SockAddrIn::new(addr, BePort::default())),
            (Family::V6, AF_INET6) => self.bind_to(SockAddrIn6::new(addr, BePort::default())),
            // An IPv6 socket that is connected through its IPv4 form.
            _ => {}
        }
    }

    #[inline(always)]
    fn bind_to<T>(&self, mut addr: T) {
        let pointer: *mut sockaddr = (&raw mut addr).cast();
        // SAFETY: the helper takes this context, and an address of this size that it only reads. If
        // it fails, the socket is unchanged.
        let _: i64 = unsafe { bpf_bind(self.raw, pointer, size_of::<T>() as i32) };
    }

    /// Replaces the address that the call is about. An IPv4 address keeps the family of the hook:
    /// on an IPv6 socket it becomes IPv4-mapped.
    #[inline(always)]
    pub(crate) fn set_addr(&self, addr: BeAddr) {
        match self.family {
            Family::V4 => set!(self.raw, user_ip4, addr.word4()),
            Family::V6 => set_words!(self.raw, user_ip6, addr),
        }
    }

    /// The same number, about which the verifier knows nothing any more: it is written over the address that the call is
    /// about and read back, and the address is restored. Only this run of the program sees the context.
    #[inline(always)]
    pub(crate) fn forget(&self, number: u32) -> u32 {
        match self.family {
            Family::V4 => through_word!(self.raw, user_ip4, number),
            Family::V6 => through_word!(self.raw, user_ip6, number),
        }
    }

    /// Replaces the port that the call is about.
    #[inline(always)]
    pub(crate) fn set_port(&self, port: BePort) {
        set!(self.raw, user_port, u32::from(port.to_network()));
    }
}

#[cfg(feature = "log")]
impl aya_ebpf::EbpfContext for SockAddr {
    fn as_ptr(&self) -> *mut core::ffi::c_void {
        self.raw.cast()
    }
}
