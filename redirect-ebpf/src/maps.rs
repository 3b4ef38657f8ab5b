//! The maps of the object, and safe access to them.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST, bpf_sk_lookup, bpf_sock, bpf_sock_ops},
    btf_maps::{ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuHashMap, lpm_trie},
    helpers::generated::bpf_ktime_get_ns,
    macros::btf_map,
};
use redirect_common::{
    abi::{
        Cidr4Data, Cidr6Data, CidrFlags, Destination, DnsPending, FlowKey, GroupFlags, Hits,
        ListenerKey, LocalFlags, LocalKey, MAX_FLOWS, MAX_INBOUND, MAX_LISTENERS, MAX_LOCALS,
        MAX_NAMESPACES, MAX_POLICIES, MAX_SHADOW_DIFFS, MAX_SHADOW_FLOWS, MAX_STAND_INS,
        MAX_STAND_INS_OF_ONE, OrigDst, PolicyId, PolicyRow, PortFlags, PortKey, ShadowDiffKey,
        StandIn, StandInKey,
    },
    chain::RuleId,
    facts::PolicyView,
    net::{BeAddr, BePort},
};

use crate::storage::{CgroupStorage, PerCpuCgroupStorage, SockHash, SockStorage};

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static PODS: CgroupStorage<PolicyRow> = CgroupStorage::new();

#[btf_map]
static RULE_HITS: PerCpuCgroupStorage<Hits> = PerCpuCgroupStorage::new();

#[btf_map]
static LOCALS: HashMap<LocalKey, LocalFlags, MAX_LOCALS, NO_PREALLOC> = HashMap::new();

/// An array with a map for each policy. The array tells the verifier the shape of the maps; user
/// space makes each as large as it has to be, which Linux allows since 5.10 (commit 134fede4eecf
/// upstream).
type ByPolicy<M> = ArrayOfMaps<M, { MAX_POLICIES as usize }>;

#[btf_map]
static CIDRS4: ByPolicy<LpmTrie<Cidr4Data, CidrFlags, 1>> = ByPolicy::new();

#[btf_map]
static CIDRS6: ByPolicy<LpmTrie<Cidr6Data, CidrFlags, 1>> = ByPolicy::new();

#[btf_map]
static PORTS: ByPolicy<HashMap<PortKey, PortFlags, 1, NO_PREALLOC>> = ByPolicy::new();

#[btf_map]
static GROUPS: ByPolicy<HashMap<u32, GroupFlags, 1, NO_PREALLOC>> = ByPolicy::new();

#[btf_map]
static ORIG_DST: SockStorage<OrigDst> = SockStorage::new();

#[btf_map]
static STAND_INS: HashMap<StandInKey, Destination, MAX_STAND_INS, NO_PREALLOC> = HashMap::new();

#[btf_map]
static STAND_IN_COUNTS: HashMap<u64, u64, MAX_NAMESPACES, NO_PREALLOC> = HashMap::new();

#[btf_map]
static FLOWS: HashMap<FlowKey, OrigDst, MAX_FLOWS, NO_PREALLOC> = HashMap::new();

#[btf_map]
static REHEARSED: LruHashMap<FlowKey, OrigDst, MAX_SHADOW_FLOWS> = LruHashMap::new();

#[btf_map]
static DIFFERENCES: LruHashMap<ShadowDiffKey, u64, MAX_SHADOW_DIFFS> = LruHashMap::new();

#[btf_map]
static DNS_ASKED: SockStorage<DnsPending> = SockStorage::new();

#[btf_map]
static INBOUND: HashMap<u64, PolicyRow, MAX_INBOUND, NO_PREALLOC> = HashMap::new();

#[btf_map]
static IN_HITS: PerCpuHashMap<u64, Hits, MAX_INBOUND, NO_PREALLOC> = PerCpuHashMap::new();

#[btf_map]
static LISTENERS: SockHash<ListenerKey, MAX_LISTENERS> = SockHash::new();

/// The cgroup id of the pod that the lookup program is loaded for: a lookup has neither a cgroup
/// nor a network namespace to read it from. The loader fills it in
/// (`redirect_common::abi::INBOUND_POD`).
#[unsafe(no_mangle)]
static INBOUND_POD: u64 = 0;

/// The policy row of the cgroup that the running program is attached to.
#[inline(always)]
pub(crate) fn row<'program>() -> &'program PolicyRow {
    // SAFETY: never null, and valid until the program ends. User space replaces the whole value
    // instead of writing into it, so the value does not change under the reference.
    unsafe { &*PODS.get() }
}

#[inline(always)]
fn hits() -> *mut Hits {
    RULE_HITS.get()
}

/// Counts a connection under its rule.
#[inline(always)]
pub(crate) fn count(rule: RuleId) {
    // SAFETY: the counters of this CPU; programs run with migration disabled.
    if let Some(slot) = unsafe { (*hits()).rules.get_mut(rule.index()) } {
        *slot = slot.wrapping_add(1);
    }
}

/// Counts a handshake whose original destination is lost.
#[inline(always)]
pub(crate) fn count_flow_lost() {
    // SAFETY: as above.
    let slot = unsafe { &mut (*hits()).flow_lost };
    *slot = slot.wrapping_add(1);
}

/// Counts a connection in shadow mode: whether it arrived where the policy would send it, or `None`
/// if that is unknown.
#[inline(always)]
pub(crate) fn count_shadow(agreed: Option<bool>) {
    // SAFETY: as above.
    let hits = unsafe { &mut *hits() };
    let slot = match agreed {
        Some(true) => &mut hits.agreed,
        Some(false) => &mut hits.differed,
        None => &mut hits.unknown,
    };
    *slot = slot.wrapping_add(1);
}

/// Stores the decision about a connection in shadow mode. `false` if there is no memory.
#[inline(always)]
pub(crate) fn insert_shadow_flow(key: &FlowKey, record: &OrigDst) -> bool {
    REHEARSED.insert(key, record, 0).is_ok()
}

/// The stored decision about a connection in shadow mode.
#[inline(always)]
pub(crate) fn shadow_flow(key: &FlowKey) -> Option<OrigDst> {
    // SAFETY: copied at once; an entry is written once, before the connection can be accepted.
    unsafe { REHEARSED.get(key) }.copied()
}

/// Removes the decision about a connection in shadow mode. `false` if the other end has removed it
/// already, or if newer connections have evicted it.
#[inline(always)]
pub(crate) fn remove_shadow_flow(key: &FlowKey) -> bool {
    REHEARSED.remove(key).is_ok()
}

/// Counts a difference between a decision in shadow mode and the connection's real target.
#[inline(always)]
pub(crate) fn note_shadow_diff(key: &ShadowDiffKey) {
    if let Some(count) = DIFFERENCES.get_ptr_mut(key) {
        // SAFETY: the kernel keeps an entry's memory while a program runs. Two CPUs can count at
        // the same time and lose one count, but the kinds of difference matter more than the
        // counts.
        let count = unsafe { &mut *count };
        *count = count.wrapping_add(1);
    } else if DIFFERENCES.insert(key, 1, 0).is_err() {
        // The map has no room for this kind; the pod's counters contain the connection all the
        // same.
    }
}

/// Counts a connection that was refused because its original destination could not be recorded.
#[inline(always)]
pub(crate) fn count_record_failed() {
    // SAFETY: as above.
    let slot = unsafe { &mut (*hits()).record_failed };
    *slot = slot.wrapping_add(1);
}

#[inline(always)]
fn inbound_pod() -> u64 {
    // SAFETY: a valid static. Volatile, or the compiler would use the zero written above.
    unsafe { core::ptr::read_volatile(&raw const INBOUND_POD) }
}

/// The policy row of the pod that the lookup program is loaded for, if the pod's inbound
/// connections are redirected.
#[inline(always)]
pub(crate) fn inbound_row<'program>() -> Option<&'program PolicyRow> {
    // SAFETY: user space replaces the value as a whole, and waits for the programs that use the old
    // value before it writes another one.
    unsafe { INBOUND.get(inbound_pod()) }
}

/// Counts an inbound connection under its rule.
#[inline(always)]
pub(crate) fn count_inbound(rule: RuleId) {
    if let Some(hits) = IN_HITS.get_ptr_mut(inbound_pod())
        // SAFETY: the counters of this CPU; programs run with migration disabled.
        && let Some(slot) = unsafe { (*hits).rules.get_mut(rule.index()) }
    {
        *slot = slot.wrapping_add(1);
    }
}

/// Stores a socket that begins to listen at the proxy's inbound port. `false` if the map has no
/// free slot for it.
#[inline(always)]
pub(crate) fn insert_listener(mut key: ListenerKey, socket: *mut bpf_sock_ops) -> bool {
    for slot in 0..ListenerKey::SLOTS {
        key.slot = slot;
        if LISTENERS.insert(&mut key, socket) {
            return true;
        }
    }
    false
}

/// Assigns a packet to the first of these listening sockets that accepts it. `false` if there is
/// none.
#[inline(always)]
pub(crate) fn assign_listener(mut key: ListenerKey, lookup: *mut bpf_sk_lookup) -> bool {
    for slot in 0..ListenerKey::SLOTS {
        key.slot = slot;
        if LISTENERS.assign(&key, lookup) {
            return true;
        }
    }
    false
}

/// The record of a socket, if it has one.
#[inline(always)]
pub(crate) fn record<'program>(sk: *mut bpf_sock) -> Option<&'program mut OrigDst> {
    ORIG_DST.get(sk)
}

/// Stores the record of a socket's original destination. `false` if the kernel has no memory for
/// it.
#[inline(always)]
pub(crate) fn set_record(sk: *mut bpf_sock, record: &OrigDst) -> bool {
    ORIG_DST.insert(sk, record)
}

/// Removes a socket's record, if any: a socket can be connected anew.
#[inline(always)]
pub(crate) fn clear_record(sk: *mut bpf_sock) {
    ORIG_DST.remove(sk);
}

/// Remembers that a socket has queried a resolver. `false` if the kernel has no memory for it.
#[inline(always)]
pub(crate) fn add_pending_query(sk: *mut bpf_sock, server: BeAddr) -> bool {
    let Some(pending) = DNS_ASKED.get_or_insert_zeroed(sk) else {
        return false;
    };
    let pending = pending.of(server);
    // SAFETY: the helper takes no argument and cannot fail.
    pending.add_query(server, unsafe { bpf_ktime_get_ns() });
    true
}

/// The resolver that an answer from `proxy` stands for, if the socket has queried one.
#[inline(always)]
pub(crate) fn next_resolver(sk: *mut bpf_sock, proxy: BeAddr) -> Option<BeAddr> {
    DNS_ASKED.get(sk)?.of(proxy).next_resolver()
}

/// Makes a stand-in stand for a destination in the pod's network namespace. `false` if it stands
/// for another one already, or if the namespace has too many stand-ins.
#[inline(always)]
pub(crate) fn claim_stand_in(stand_in: StandIn, destination: &Destination) -> bool {
    let key = StandInKey::new(row().netns, stand_in);
    if let Some(other) = stand_in_destination(&key) {
        return other.same(*destination);
    }
    if !count_stand_in(key.netns) {
        return false;
    }
    STAND_INS
        .insert(key, destination, u64::from(BPF_NOEXIST))
        .is_ok()
        // Another CPU was faster.
        || stand_in_destination(&key).is_some_and(|other| other.same(*destination))
}

/// Counts a stand-in of a network namespace. `false` if the namespace has too many.
#[inline(always)]
fn count_stand_in(netns: u64) -> bool {
    let Some(count) = STAND_IN_COUNTS.get_ptr_mut(netns) else {
        return STAND_IN_COUNTS.insert(netns, 1, 0).is_ok();
    };
    // SAFETY: the kernel keeps an entry's memory while a program runs. Two CPUs can count at the
    // same time and lose one count.
    let count = unsafe { &mut *count };
    if *count >= MAX_STAND_INS_OF_ONE {
        return false;
    }
    *count = count.wrapping_add(1);
    true
}

/// The destination that a stand-in stands for.
#[inline(always)]
fn stand_in_destination(key: &StandInKey) -> Option<Destination> {
    // SAFETY: an entry is written once, before any connection is made to its address.
    unsafe { STAND_INS.get(key) }.copied()
}

/// The destination of a redirected connection, if the address and port of the proxy's end encode
/// it.
#[inline(always)]
pub(crate) fn destination(addr: BeAddr, port: BePort) -> Option<Destination> {
    let destination = stand_in_destination(&StandInKey::new(row().netns, StandIn::of(addr)?))?;
    (destination.target.to_network() == port.to_network()).then_some(destination)
}

/// The same for the local address and port of a socket: the port is 0 once the socket was reset.
#[inline(always)]
pub(crate) fn destination_of_local((addr, port): (BeAddr, BePort)) -> Option<Destination> {
    let destination = stand_in_destination(&StandInKey::new(row().netns, StandIn::of(addr)?))?;
    let is_reset = port.to_network() == 0;
    (is_reset || destination.target.to_network() == port.to_network()).then_some(destination)
}

/// Stores a record for the duration of a handshake. `false` if the map is full.
#[inline(always)]
pub(crate) fn insert_flow(key: &FlowKey, record: &OrigDst) -> bool {
    FLOWS.insert(key, record, 0).is_ok()
}

/// The record of a handshake in progress.
#[inline(always)]
pub(crate) fn flow(key: &FlowKey) -> Option<OrigDst> {
    // SAFETY: copied at once; an entry is written once, before the handshake can end.
    unsafe { FLOWS.get(key) }.copied()
}

/// Removes the record of a handshake, unless the other end has removed it already.
#[inline(always)]
pub(crate) fn remove_flow(key: &FlowKey) {
    if FLOWS.remove(key).is_err() {
        // There is no record to remove.
    }
}

/// A pod's policy, read from its row and from the other maps.
pub(crate) struct MapPolicy<'program>(pub(crate) &'program PolicyRow);

#[inline(always)]
fn port_flags(policy: PolicyId, key: PortKey) -> PortFlags {
    let Some(ports) = PORTS.get(policy.0) else {
        return PortFlags::NONE;
    };
    // SAFETY: an integer, copied at once.
    unsafe { ports.get(key) }
        .copied()
        .unwrap_or(PortFlags::NONE)
}

impl PolicyView for MapPolicy<'_> {
    #[inline(always)]
    fn row(&self) -> &PolicyRow {
        self.0
    }

    #[inline(always)]
    fn cidr(&self, addr: BeAddr) -> CidrFlags {
        let policy = self.0.policy.0;
        let flags = if addr.is_v4() {
            let key = lpm_trie::Key::new(u32::BITS, addr.word4());
            CIDRS4.get(policy).and_then(|ranges| ranges.get(&key))
        } else {
            let key = lpm_trie::Key::new(128, addr.words());
            CIDRS6.get(policy).and_then(|ranges| ranges.get(&key))
        };
        flags.copied().unwrap_or(CidrFlags::NONE)
    }

    #[inline(always)]
    fn port(&self, port: BePort) -> PortFlags {
        port_flags(self.0.policy, PortKey::outbound_tcp(port))
    }

    #[inline(always)]
    fn in_port(&self, port: BePort) -> PortFlags {
        port_flags(self.0.policy, PortKey::inbound_tcp(port))
    }

    #[inline(always)]
    fn group(&self, gid: u32) -> GroupFlags {
        let Some(groups) = GROUPS.get(self.0.policy.0) else {
            return GroupFlags::NONE;
        };
        // SAFETY: an integer, copied at once.
        unsafe { groups.get(gid) }
            .copied()
            .unwrap_or(GroupFlags::NONE)
    }

    #[inline(always)]
    fn local(&self, addr: BeAddr) -> LocalFlags {
        let key = LocalKey {
            netns: self.0.netns,
            addr,
        };
        // SAFETY: an integer, copied at once.
        unsafe { LOCALS.get(key) }
            .copied()
            .unwrap_or(LocalFlags::NONE)
    }
}
