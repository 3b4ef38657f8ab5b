//! Safe accessors over the hooks' contexts.
//!
//! Every field is read with a volatile load: the compiler may otherwise merge two loads into
//! arithmetic on a context or socket pointer, which the verifier refuses.
#![expect(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "contexts are raw pointers, and the verifier checks every access through them"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "fields of a context are wider than the values they hold"
)]

use aya_ebpf::{
    bindings::{
        BPF_TCP_ESTABLISHED, bpf_sk_lookup, bpf_sock, bpf_sock_addr, bpf_sock_ops, bpf_sockopt,
        sockaddr,
    },
    helpers::generated::{bpf_bind, bpf_get_netns_cookie, bpf_sock_ops_cb_flags_set},
    programs::{SkLookupContext, SockAddrContext, SockOpsContext, SockoptContext},
};
use redirect_common::{
    facts::Transport,
    net::{BeAddr, BePort},
};

/// `AF_INET`.
const AF_INET: u32 = 2;
/// `AF_INET6`.
const AF_INET6: u32 = 10;
/// `IPPROTO_TCP`.
const IPPROTO_TCP: u32 = 6;
/// `IPPROTO_UDP`.
const IPPROTO_UDP: u32 = 17;

/// Reads a field through a raw pointer to it.
macro_rules! get {
    ($base:expr, $($field:tt).+) => {{
        let base = $base;
        // SAFETY: the verifier knows the context's layout and checks the access.
        unsafe { core::ptr::read_volatile(&raw const (*base).$($field).+) }
    }};
}

/// Writes a field through a raw pointer to it.
macro_rules! set {
    ($base:expr, $($field:tt).+, $value:expr) => {{
        let (base, value) = ($base, $value);
        // SAFETY: the verifier knows the context's layout and which fields may be written.
        unsafe { core::ptr::write_volatile(&raw mut (*base).$($field).+, value) }
    }};
}

/// Reads four words one by one: the verifier allows only word-sized access to addresses.
macro_rules! get_words {
    ($base:expr, $field:ident) => {{
        let base = $base;
        // SAFETY: as in `get`; the pointers stay inside the array.
        unsafe {
            let words = (&raw const (*base).$field).cast::<u32>();
            [
                core::ptr::read_volatile(words),
                core::ptr::read_volatile(words.wrapping_add(1)),
                core::ptr::read_volatile(words.wrapping_add(2)),
                core::ptr::read_volatile(words.wrapping_add(3)),
            ]
        }
    }};
}

/// Writes an address word by word, which is all the verifier allows.
macro_rules! set_words {
    ($base:expr, $field:ident, $addr:expr) => {{
        let (base, [a, b, c, d]) = ($base, $addr.words());
        // SAFETY: as in `set`; the pointers stay inside the array.
        unsafe {
            let words = (&raw mut (*base).$field).cast::<u32>();
            core::ptr::write_volatile(words, a);
            core::ptr::write_volatile(words.wrapping_add(1), b);
            core::ptr::write_volatile(words.wrapping_add(2), c);
            core::ptr::write_volatile(words.wrapping_add(3), d);
        }
    }};
}

/// An address of a socket, in whichever family it is.
const fn address(family: u32, v4: u32, v6: [u32; 4]) -> BeAddr {
    if family == AF_INET {
        BeAddr::from_network4(v4)
    } else {
        BeAddr::from_network6(v6)
    }
}

/// The address family a socket-address hook is for. Not the socket's: connect6 runs for
/// IPv4-mapped destinations.
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

    /// Whether the socket is a TCP socket (a multipath one is, subflow by subflow).
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

    /// What a TCP or UDP socket carries.
    #[inline(always)]
    pub(crate) fn transport(&self) -> Transport {
        // They have no bit in common. Not a comparison: the verifier would go on once for either.
        if get!(self.raw, protocol) & IPPROTO_UDP == 0 {
            Transport::Tcp
        } else {
            Transport::Udp
        }
    }

    /// Whether the socket has a peer. A TCP socket has none yet while it is being connected.
    #[inline(always)]
    pub(crate) fn is_connected(&self) -> bool {
        get!(self.sk(), state) == BPF_TCP_ESTABLISHED
    }

    #[inline(always)]
    pub(crate) fn sk(&self) -> *mut bpf_sock {
        get!(self.raw, __bindgen_anon_1.sk)
    }

    #[inline(always)]
    pub(crate) fn netns(&self) -> u64 {
        // SAFETY: the helper takes this context.
        unsafe { bpf_get_netns_cookie(self.raw.cast()) }
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

    /// The address the socket is bound to, or a zero address.
    #[inline(always)]
    pub(crate) fn bound(&self) -> BeAddr {
        let sk = self.sk();
        match self.family {
            Family::V4 => BeAddr::from_network4(get!(sk, src_ip4)),
            Family::V6 => BeAddr::from_network6(get_words!(sk, src_ip6)),
        }
    }

    /// The socket's own address and port.
    #[inline(always)]
    pub(crate) fn local(&self) -> (BeAddr, BePort) {
        // Host byte order.
        let port = get!(self.sk(), src_port) as u16;
        (self.bound(), BePort::new(port))
    }

    /// Its peer's; zeros if it has none.
    #[inline(always)]
    pub(crate) fn remote(&self) -> (BeAddr, BePort) {
        let sk = self.sk();
        let addr = match self.family {
            Family::V4 => BeAddr::from_network4(get!(sk, dst_ip4)),
            Family::V6 => BeAddr::from_network6(get_words!(sk, dst_ip6)),
        };
        (addr, BePort::from_network(get!(sk, dst_port)))
    }

    /// The index of the device the socket is bound to, or 0.
    #[inline(always)]
    pub(crate) fn device(&self) -> u32 {
        get!(self.sk(), bound_dev_if)
    }

    /// In sendmsg: the address the datagram is to be sent from, or a zero address.
    #[inline(always)]
    pub(crate) fn source(&self) -> BeAddr {
        match self.family {
            Family::V4 => BeAddr::from_network4(get!(self.raw, msg_src_ip4)),
            Family::V6 => BeAddr::from_network6(get_words!(self.raw, msg_src_ip6)),
        }
    }

    /// In sendmsg: replaces that address.
    #[inline(always)]
    pub(crate) fn set_source(&self, addr: BeAddr) {
        match self.family {
            Family::V4 => set!(self.raw, msg_src_ip4, addr.word4()),
            Family::V6 => set_words!(self.raw, msg_src_ip6, addr),
        }
    }

    /// In connect: binds the socket to an address, and to no port yet. Nothing happens to a socket
    /// that is bound to a port, nor if the address is not the namespace's.
    #[inline(always)]
    pub(crate) fn bind(&self, addr: BeAddr) {
        match (self.family, get!(self.sk(), family)) {
            (Family::V4, AF_INET) => self.bind_to(SockAddrIn::new(addr, BePort::default())),
            (Family::V6, AF_INET6) => self.bind_to(SockAddrIn6::new(addr, BePort::default())),
            // An IPv6 socket connected in the IPv4 form.
            _ => {}
        }
    }

    #[inline(always)]
    fn bind_to<T>(&self, mut addr: T) {
        let place: *mut sockaddr = (&raw mut addr).cast();
        // SAFETY: the helper takes this context, and an address of this size that it only reads.
        // When it fails the socket is as before.
        let _: i64 = unsafe { bpf_bind(self.raw, place, size_of::<T>() as i32) };
    }

    /// Replaces the address. An IPv4 address keeps the family of the hook: on an IPv6 socket it
    /// becomes IPv4-mapped.
    #[inline(always)]
    pub(crate) fn set_addr(&self, addr: BeAddr) {
        match self.family {
            Family::V4 => set!(self.raw, user_ip4, addr.word4()),
            Family::V6 => set_words!(self.raw, user_ip6, addr),
        }
    }

    /// Replaces the port.
    #[inline(always)]
    pub(crate) fn set_port(&self, port: BePort) {
        set!(self.raw, user_port, u32::from(port.to_network()));
    }
}

/// The context of `sock_ops`.
pub(crate) struct SockOps {
    raw: *mut bpf_sock_ops,
}

impl SockOps {
    #[inline(always)]
    pub(crate) const fn new(ctx: &SockOpsContext) -> Self {
        Self { raw: ctx.ops }
    }

    /// Which callback this is (`BPF_SOCK_OPS_*`).
    #[inline(always)]
    pub(crate) fn op(&self) -> u32 {
        get!(self.raw, op)
    }

    /// The first argument of the callback.
    #[inline(always)]
    pub(crate) fn arg0(&self) -> u32 {
        // SAFETY: as in `get`; the first of four arguments.
        unsafe { core::ptr::read_volatile((&raw const (*self.raw).__bindgen_anon_1).cast::<u32>()) }
    }

    /// The second argument of the callback.
    #[inline(always)]
    pub(crate) fn arg1(&self) -> u32 {
        // SAFETY: as in `get`; the second of four arguments.
        unsafe {
            core::ptr::read_volatile(
                (&raw const (*self.raw).__bindgen_anon_1)
                    .cast::<u32>()
                    .wrapping_add(1),
            )
        }
    }

    /// The socket; the kernel has none to give for some callbacks.
    #[inline(always)]
    pub(crate) fn sk(&self) -> Option<*mut bpf_sock> {
        let sk: *mut bpf_sock = get!(self.raw, __bindgen_anon_2.sk);
        if sk.is_null() { None } else { Some(sk) }
    }

    #[inline(always)]
    pub(crate) fn netns(&self) -> u64 {
        // SAFETY: the helper takes this context.
        unsafe { bpf_get_netns_cookie(self.raw.cast()) }
    }

    #[inline(always)]
    pub(crate) fn local(&self) -> (BeAddr, BePort) {
        let addr = address(
            get!(self.raw, family),
            get!(self.raw, local_ip4),
            get_words!(self.raw, local_ip6),
        );
        // This one is in host byte order.
        (addr, BePort::new(get!(self.raw, local_port) as u16))
    }

    #[inline(always)]
    pub(crate) fn remote(&self) -> (BeAddr, BePort) {
        let addr = address(
            get!(self.raw, family),
            get!(self.raw, remote_ip4),
            get_words!(self.raw, remote_ip6),
        );
        // Network byte order, in the upper half of 32 bits (include/uapi/linux/bpf.h).
        (
            addr,
            BePort::from_network((get!(self.raw, remote_port) >> 16) as u16),
        )
    }

    /// The context itself, for helpers.
    #[inline(always)]
    pub(crate) const fn raw(&self) -> *mut bpf_sock_ops {
        self.raw
    }

    /// Asks for a callback on every change of the connection's state.
    #[inline(always)]
    pub(crate) fn watch_state(&self) {
        const STATE_CB: u32 = aya_ebpf::bindings::BPF_SOCK_OPS_STATE_CB_FLAG;
        let flags = get!(self.raw, bpf_sock_ops_cb_flags) | STATE_CB;
        // SAFETY: the helper takes this context. It can only refuse unknown flags.
        let _: i64 = unsafe { bpf_sock_ops_cb_flags_set(self.raw, flags.cast_signed()) };
    }
}

/// The context of a socket lookup: a packet for which no connection was found.
pub(crate) struct SkLookup {
    raw: *mut bpf_sk_lookup,
}

impl SkLookup {
    #[inline(always)]
    pub(crate) const fn new(ctx: &SkLookupContext) -> Self {
        Self { raw: ctx.lookup }
    }

    #[inline(always)]
    pub(crate) fn is_tcp(&self) -> bool {
        get!(self.raw, protocol) == IPPROTO_TCP
    }

    /// Where the packet comes from.
    #[inline(always)]
    pub(crate) fn remote(&self) -> BeAddr {
        address(
            get!(self.raw, family),
            get!(self.raw, remote_ip4),
            get_words!(self.raw, remote_ip6),
        )
    }

    /// Whether it is a packet: a program's own question for a listener, which goes the same way, is
    /// asked from port 0.
    #[inline(always)]
    pub(crate) fn is_packet(&self) -> bool {
        get!(self.raw, remote_port) != 0
    }

    /// Where it goes.
    #[inline(always)]
    pub(crate) fn local(&self) -> (BeAddr, BePort) {
        let addr = address(
            get!(self.raw, family),
            get!(self.raw, local_ip4),
            get_words!(self.raw, local_ip6),
        );
        // Host byte order.
        (addr, BePort::new(get!(self.raw, local_port) as u16))
    }

    /// The index of the interface that it came in by; a call to an own address shows the one that
    /// has the address.
    #[inline(always)]
    pub(crate) fn device(&self) -> u32 {
        get!(self.raw, ingress_ifindex)
    }

    /// The context itself, for helpers.
    #[inline(always)]
    pub(crate) const fn raw(&self) -> *mut bpf_sk_lookup {
        self.raw
    }
}

/// An address and a port as system calls have them: `struct sockaddr_in`.
#[repr(C)]
pub(crate) struct SockAddrIn {
    family: u16,
    port: u16,
    addr: u32,
    zero: [u32; 2],
}

impl SockAddrIn {
    /// Of an IPv4 address.
    #[inline(always)]
    pub(crate) const fn new(addr: BeAddr, port: BePort) -> Self {
        Self {
            family: AF_INET as u16,
            port: port.to_network(),
            addr: addr.word4(),
            zero: [0; 2],
        }
    }
}

/// The same for IPv6: `struct sockaddr_in6`.
#[repr(C)]
pub(crate) struct SockAddrIn6 {
    family: u16,
    port: u16,
    flowinfo: u32,
    addr: [u32; 4],
    scope_id: u32,
}

impl SockAddrIn6 {
    /// Of an address of either family: IPv4 becomes IPv4-mapped.
    #[inline(always)]
    pub(crate) const fn new(addr: BeAddr, port: BePort) -> Self {
        Self {
            family: AF_INET6 as u16,
            port: port.to_network(),
            flowinfo: 0,
            addr: addr.words(),
            scope_id: 0,
        }
    }
}

/// The context of getsockopt.
pub(crate) struct SockOpt {
    raw: *mut bpf_sockopt,
}

impl SockOpt {
    #[inline(always)]
    pub(crate) const fn new(ctx: &SockoptContext) -> Self {
        Self { raw: ctx.sockopt }
    }

    #[inline(always)]
    pub(crate) fn level(&self) -> i32 {
        get!(self.raw, level)
    }

    #[inline(always)]
    pub(crate) fn name(&self) -> i32 {
        get!(self.raw, optname)
    }

    #[inline(always)]
    pub(crate) fn sk(&self) -> *mut bpf_sock {
        get!(self.raw, __bindgen_anon_1.sk)
    }

    /// The socket's own address and port.
    #[inline(always)]
    pub(crate) fn local(&self) -> (BeAddr, BePort) {
        let sk = self.sk();
        let addr = address(get!(sk, family), get!(sk, src_ip4), get_words!(sk, src_ip6));
        // Host byte order.
        (addr, BePort::new(get!(sk, src_port) as u16))
    }

    /// Its peer's.
    #[inline(always)]
    pub(crate) fn remote(&self) -> (BeAddr, BePort) {
        let sk = self.sk();
        let addr = address(get!(sk, family), get!(sk, dst_ip4), get_words!(sk, dst_ip6));
        (addr, BePort::from_network(get!(sk, dst_port)))
    }

    /// Whether it is a TCP socket. What a multipath listener accepts from a multipath client is
    /// not: it is above the TCP socket that a record is on.
    #[inline(always)]
    pub(crate) fn is_tcp(&self) -> bool {
        get!(self.sk(), protocol) == IPPROTO_TCP
    }

    /// Whether the socket listens.
    #[inline(always)]
    pub(crate) fn is_listening(&self) -> bool {
        get!(self.sk(), state) == aya_ebpf::bindings::BPF_TCP_LISTEN
    }

    /// Whether the kernel's own answer is a success.
    #[inline(always)]
    pub(crate) fn answered(&self) -> bool {
        get!(self.raw, retval) == 0
    }

    /// Makes `value` the answer. Nothing happens if the caller's buffer is too small.
    #[inline(always)]
    pub(crate) fn answer<T>(&self, value: T) {
        let start: *mut T = get!(self.raw, __bindgen_anon_2.optval).cast();
        let end: *mut T = get!(self.raw, __bindgen_anon_3.optval_end).cast();
        if start.wrapping_add(1) > end {
            return;
        }
        // SAFETY: the bounds were just checked, as the verifier demands.
        unsafe {
            start.write(value);
        }
        set!(self.raw, optlen, size_of::<T>() as i32);
        set!(self.raw, retval, 0);
    }

    /// Leaves the kernel's answer as it is. Without this, kernels before 5.16 fail calls whose
    /// buffer is larger than a page (upstream commit d8fe449a9c51).
    #[inline(always)]
    pub(crate) fn pass(&self) {
        if get!(self.raw, optlen) > 4096 {
            set!(self.raw, optlen, 0);
        }
    }
}

#[cfg(feature = "log")]
impl aya_ebpf::EbpfContext for SockAddr {
    fn as_ptr(&self) -> *mut core::ffi::c_void {
        self.raw.cast()
    }
}
