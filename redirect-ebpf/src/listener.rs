//! The IPv4 address at which a connection reaches the proxy, chosen by where the proxy listens
//! according to the kernel's table of sockets.
#![expect(unsafe_code, reason = "a helper takes and gives raw pointers")]

use aya_ebpf::{
    bindings::{
        BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
    },
    helpers::generated::{bpf_get_prandom_u32, bpf_sk_release, bpf_skc_lookup_tcp},
};
use redirect_common::{
    abi::{Destination, PER_DESTINATION},
    loopback_pool,
    net::{BeAddr, BePort},
};

use crate::{ctx::SockAddr, maps};

/// The flag that makes the helper search the socket's own network namespace.
#[expect(
    clippy::cast_sign_loss,
    reason = "the kernel looks at the lower 32 bits, with their sign"
)]
const OWN_NETNS: u64 = BPF_F_CURRENT_NETNS as u64;
/// The size of a connection's addresses and ports, which tells the helper that the addresses are
/// IPv4.
#[expect(clippy::cast_possible_truncation, reason = "the size is twelve bytes")]
const SIZE: u32 = size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>() as u32;

/// An address at which the proxy is reached.
pub(crate) enum ProxyAddress {
    /// A stand-in: the address encodes the connection's destination.
    StandIn(BeAddr),
    /// An address that does not encode the destination, so the connection needs a record.
    Plain(BeAddr),
}

/// Chooses the address to which an outbound IPv4 connection is redirected.
#[inline(always)]
pub(crate) fn choose(ctx: &SockAddr, destination: &Destination) -> ProxyAddress {
    if !listens_on_wildcard(ctx, destination.target) {
        return ProxyAddress::Plain(BeAddr::LOOPBACK4);
    }
    // A loopback address that the application has bound is shown to it unchanged, one that the
    // kernel chooses is not. Only a record distinguishes the two.
    if !ctx.bound().is_loopback() {
        let first = first_stand_in(ctx);
        for step in 0..PER_DESTINATION {
            let stand_in = destination.stand_in(first.wrapping_add(step));
            if maps::claim_stand_in(stand_in, destination) {
                return ProxyAddress::StandIn(stand_in.addr());
            }
        }
    }
    // SAFETY: the helper takes no argument.
    ProxyAddress::Plain(loopback_pool::address(unsafe { bpf_get_prandom_u32() }))
}

/// The number of the first stand-in to try for a connection: random, but always the same for a
/// bound port. So the kernel refuses a second connection from that port to that destination, as
/// without a redirect.
#[inline(always)]
fn first_stand_in(ctx: &SockAddr) -> u32 {
    let (_, port) = ctx.local();
    if port.to_network() == 0 {
        // SAFETY: the helper takes no argument.
        unsafe { bpf_get_prandom_u32() }
    } else {
        u32::from(port.get())
    }
}

/// Whether the socket that listens at `127.0.0.1` and `port` also listens at every other IPv4
/// address of the network namespace, because it listens on the wildcard address of IPv4 or of both
/// families. Linux 5.2.
#[inline(always)]
fn listens_on_wildcard(ctx: &SockAddr, port: BePort) -> bool {
    // No connection comes from port 0, so the lookup finds a listening socket.
    let mut connection = bpf_sock_tuple {
        __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 {
            ipv4: bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
                saddr: BeAddr::LOOPBACK4.word4(),
                daddr: BeAddr::LOOPBACK4.word4(),
                sport: 0,
                dport: port.to_network(),
            },
        },
    };
    // SAFETY: the helper takes this context, and reads only `SIZE` bytes of the connection.
    let found: *mut bpf_sock =
        unsafe { bpf_skc_lookup_tcp(ctx.raw().cast(), &raw mut connection, SIZE, OWN_NETNS, 0) };
    if found.is_null() {
        return false;
    }
    // SAFETY: not null, and the reference is held until it is released below.
    let address = unsafe { (*found).src_ip4 };
    // SAFETY: the reference has been held since the lookup, and is not used after this.
    let _: i64 = unsafe { bpf_sk_release(found.cast()) };
    address == BeAddr::ANY.word4()
}
