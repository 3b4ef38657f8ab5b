//! At which IPv4 address the proxy is reached: where it listens is asked of the kernel's own table of sockets.
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

/// The socket's own network namespace.
#[expect(
    clippy::cast_sign_loss,
    reason = "the kernel looks at 32 bits of it, with their sign"
)]
const OWN_NETNS: u64 = BPF_F_CURRENT_NETNS as u64;
/// The size of a connection's addresses and ports, which tells the helper that they are IPv4.
#[expect(clippy::cast_possible_truncation, reason = "it is twelve bytes")]
const SIZE: u32 = size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>() as u32;

/// Where the proxy is reached.
pub(crate) enum ProxyAddress {
    /// At an address that stands for the connection's destination.
    StandIn(BeAddr),
    /// At one that says nothing.
    Plain(BeAddr),
}

/// Where an outbound connection is redirected to.
#[inline(always)]
pub(crate) fn place(ctx: &SockAddr, destination: &Destination) -> ProxyAddress {
    if !is_everywhere(ctx, destination.target) {
        return ProxyAddress::Plain(BeAddr::LOOPBACK4);
    }
    // A loopback address that was bound to is shown as it is; one that the kernel chooses is not. Which of both it
    // was, only a record tells.
    if !ctx.bound().is_loopback() {
        let first = number(ctx);
        for step in 0..PER_DESTINATION {
            let stand_in = destination.stand_in(first.wrapping_add(step));
            if maps::claim_stand_in(stand_in, destination) {
                return ProxyAddress::StandIn(stand_in.addr());
            }
        }
    }
    // SAFETY: the helper takes nothing.
    ProxyAddress::Plain(loopback_pool::address(unsafe { bpf_get_prandom_u32() }))
}

/// Which of its destination's addresses a connection goes to: any, but always the same one from a port that was
/// bound. So the kernel refuses a second connection from that port to that destination, as without a redirect.
#[inline(always)]
fn number(ctx: &SockAddr) -> u32 {
    let (_, port) = ctx.local();
    if port.to_network() == 0 {
        // SAFETY: the helper takes nothing.
        unsafe { bpf_get_prandom_u32() }
    } else {
        u32::from(port.get())
    }
}

/// Whether whoever listens at `127.0.0.1` and a port listens at every other IPv4 address of the
/// network namespace too: on the wildcard address, of IPv4 or of both families. Linux 5.2.
#[inline(always)]
fn is_everywhere(ctx: &SockAddr, port: BePort) -> bool {
    // A connection that cannot be: from port 0. So it is a listener that is found.
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
    // SAFETY: the helper takes this context, and reads no more of the connection than it is told.
    let found: *mut bpf_sock =
        unsafe { bpf_skc_lookup_tcp(ctx.raw().cast(), &raw mut connection, SIZE, OWN_NETNS, 0) };
    if found.is_null() {
        return false;
    }
    // SAFETY: not null, and held until it is released.
    let address = unsafe { (*found).src_ip4 };
    // SAFETY: held since the lookup, and not used after this.
    let _: i64 = unsafe { bpf_sk_release(found.cast()) };
    address == BeAddr::ANY.word4()
}
