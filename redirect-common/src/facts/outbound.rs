//! The facts of an outbound flow.

use core::hint::black_box;

use super::fact::{Fact, Facts};
use crate::{
    abi::{CidrFlags, GroupFlags, LocalFlags, PolicyRow, PortFlags},
    net::{BeAddr, BePort},
};

/// The creator of a socket, as ids of the initial user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The `fsuid` of the socket file's credentials.
    pub uid: u32,
    /// The `fsgid` of the socket file's credentials.
    pub gid: u32,
}

/// The transport protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// Datagrams. Only those that can be DNS queries are flows: see
    /// [`PolicyRow::may_capture_datagram`].
    Udp,
}

/// One connection, or one datagram of an unconnected socket, as a hook sees it.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The transport protocol.
    pub transport: Transport,
    /// The dialled address [as packets carry it](BeAddr::effective_dst); IPv4-mapped addresses are
    /// IPv4.
    pub dst: BeAddr,
    /// The dialled port.
    pub port: BePort,
    /// The address that the socket is bound to, or a zero address.
    pub source: BeAddr,
    /// The index of the device that the socket is bound to (`SO_BINDTODEVICE`), or 0.
    pub device: u32,
    /// The owner of the socket's file, if it has a file.
    pub owner: Option<Owner>,
}

/// The index of the device `lo`: the first one of every network namespace (`LOOPBACK_IFINDEX`,
/// `include/net/net_namespace.h`).
const LO: u32 = 1;

/// The lookups that gathering facts needs. Programs implement them with the maps, `explain` with
/// the same maps through system calls, and tests with plain values.
pub trait PolicyView {
    /// The policy row of the pod.
    fn row(&self) -> &PolicyRow;
    /// The flags of the longest prefix that contains `addr`, which are the union over all prefixes
    /// that contain it.
    fn cidr(&self, addr: BeAddr) -> CidrFlags;
    /// The flags of an outbound TCP port.
    fn port(&self, port: BePort) -> PortFlags;
    /// The flags of an inbound TCP port.
    fn in_port(&self, port: BePort) -> PortFlags;
    /// The flags of an owner group.
    fn group(&self, gid: u32) -> GroupFlags;
    /// The flags of `addr` in the pod's network namespace.
    fn local(&self, addr: BeAddr) -> LocalFlags;
}

/// Gathers every fact about `flow`. All lookups happen here, before the first rule.
#[inline(always)]
pub fn gather<V: PolicyView>(view: &V, flow: &Flow) -> Facts {
    let row = view.row();
    let dst = flow.dst;

    let local = if dst.is_loopback() {
        LocalFlags::LOCAL
    } else {
        view.local(dst)
    };
    let ports = if row.flags.has_ports() {
        view.port(flow.port)
    } else {
        PortFlags::NONE
    };
    let cidrs = if row.flags.has_cidrs(dst.is_v4()) {
        view.cidr(dst)
    } else {
        CidrFlags::NONE
    };

    let group = match flow.owner {
        Some(owner) if row.flags.has_groups() => view.group(owner.gid),
        _ => GroupFlags::NONE,
    };

    let passthrough = flow.source.same(BeAddr::PASSTHROUGH4)
        || flow.source.same(BeAddr::PASSTHROUGH6)
        || (flow.source.is_any() && (dst.same(BeAddr::PASSTHROUGH6) | cidrs.is_from_passthrough()));
    let via_lo = local.is_local() | cidrs.local() | same(flow.device, LO);
    let by_excluded = leaves_by_excluded(row, flow.device, via_lo, cidrs);
    let udp = matches!(flow.transport, Transport::Udp);
    let v4 = dst.is_v4();

    Facts::NONE
        .and_if(row.flags.no_ipv6() && !v4, Fact::Ipv6Off)
        .and_if(
            dst.is_not_unicast() || local.is_broadcast(),
            Fact::NotUnicast,
        )
        // Hidden from the compiler, which would turn it into a branch for the verifier to walk.
        .and_if(black_box(by_excluded), Fact::InterfaceExcluded)
        .and_if(ports.excluded(), Fact::PortExcluded)
        .and_if(via_lo, Fact::ViaLo)
        .and_if(passthrough, Fact::SourcePassthrough)
        .or(owner_facts(row, flow.owner))
        .and_if(
            group.is_listed() != row.flags.only_groups(),
            Fact::GroupExcluded,
        )
        .and_if(
            row.flags.redirect_dns() && same_port(flow.port, BePort::DNS),
            Fact::DnsPort,
        )
        .and_if(udp, Fact::Udp)
        .and_if(
            row.flags.capture_all_dns() || cidrs.dns_server(),
            Fact::DnsServer,
        )
        .and_if(is_dst_loopback(row, dst), Fact::DstLoopback)
        .and_if(same_port(flow.port, row.tunnel_port), Fact::PortTunnel)
        .and_if(row.flags.loopback_included(), Fact::LoopbackIncluded)
        .and_if(cidrs.excluded(), Fact::CidrExcluded)
        .and_if(ports.included(), Fact::PortIncluded)
        .and_if(cidrs.included(), Fact::CidrIncluded)
        .and_if(row.flags.any_included(), Fact::AnyIncluded)
}

/// Whether a packet leaves by an excluded interface. The interface is `lo` if `via_lo`, else the
/// device that the socket is bound to, else the device of the route.
#[inline(always)]
fn leaves_by_excluded(row: &PolicyRow, device: u32, via_lo: bool, cidrs: CidrFlags) -> bool {
    row.flags.has_interfaces()
        && if via_lo {
            row.flags.lo_excluded()
        } else if device != 0 {
            is_excluded(row, device)
        } else {
            cidrs.is_by_excluded()
        }
}

/// Whether the interface with this index is excluded.
#[inline(always)]
pub(super) fn is_excluded(row: &PolicyRow, index: u32) -> bool {
    is_one_of(index, row.interfaces)
}

/// Whether `dst` is in the range that the rules call loopback.
#[inline(always)]
fn is_dst_loopback(row: &PolicyRow, dst: BeAddr) -> bool {
    if dst.is_v4() {
        same(dst.word4() & row.loopback4_mask, row.loopback4)
    } else {
        dst.same(BeAddr::LOOPBACK6)
    }
}

/// The facts about the proxy's users and groups that hold for the owner. No process has the id that
/// stands for an absent one.
#[inline(always)]
fn owner_facts(row: &PolicyRow, owner: Option<Owner>) -> Facts {
    let Some(Owner { uid, gid }) = owner else {
        return Facts::NONE;
    };
    let [uid1, later_uids @ ..] = row.proxy_uids;
    let [gid1, later_gids @ ..] = row.proxy_gids;
    Facts::NONE
        .and_if(same(uid, uid1), Fact::ProxyUid)
        .and_if(is_one_of(uid, later_uids), Fact::ProxyUidLater)
        .and_if(same(gid, gid1), Fact::ProxyGid)
        .and_if(is_one_of(gid, later_gids), Fact::ProxyGidLater)
}

#[inline(always)]
fn same_port(a: BePort, b: BePort) -> bool {
    same(a.to_network().into(), b.to_network().into())
}

/// Compares two words without a branch.
#[inline(always)]
fn same(a: u32, b: u32) -> bool {
    is_one_of(a, [b])
}

/// Whether a word is one of some others, without a branch. BPF has only branches for a comparison, and the verifier walks
/// both sides of each.
#[inline(always)]
fn is_one_of<const N: usize>(word: u32, others: [u32; N]) -> bool {
    let mut highest = 0;
    for other in others {
        // Of the differences of two 32-bit words, only 0 - 1 has the highest of 64 bits set. Without `black_box` the
        // compiler recognizes the comparison and emits a branch again.
        highest |= black_box(u64::from(word ^ other)).wrapping_sub(1);
    }
    highest >> 63 != 0
}
