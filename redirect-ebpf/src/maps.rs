//! The maps, and safe access to them.
#![expect(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "map values are reached through raw pointers"
)]

use core::{ffi::c_void, marker::PhantomData};

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type, bpf_sock},
    btf_maps::{HashMap, LpmTrie, lpm_trie},
    helpers::{
        bpf_get_local_storage,
        generated::{bpf_sk_storage_delete, bpf_sk_storage_get},
    },
    macros::btf_map,
};
use redirect_common::{
    abi::{
        Cidr4Data, Cidr6Data, CidrFlags, FlowKey, Hits, LocalFlags, LocalKey, MAX_CIDRS, MAX_FLOWS,
        MAX_LOCALS, MAX_PORTS, OrigDst, POLICY_BITS, PolicyRow, PortFlags, PortKey,
    },
    chain::RuleId,
    facts::PolicyView,
    net::{BeAddr, BePort},
};

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// Storage of the cgroup a program is attached to, keyed by the cgroup's id alone, so that all
/// programs of a pod share one value. (aya's own type has a value per attach type.) Linux 5.9.
#[repr(C)]
struct CgroupStorage<T, const KIND: usize> {
    r#type: *const [i32; KIND],
    key: *const u64,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; 0],
    _value: PhantomData<T>,
}

// SAFETY: the pointers are placeholders whose types the loader reads; nothing dereferences them.
unsafe impl<T, const KIND: usize> Sync for CgroupStorage<T, KIND> {}

impl<T, const KIND: usize> CgroupStorage<T, KIND> {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
            _value: PhantomData,
        }
    }

    /// The value of the attached cgroup. The kernel made it at attach: this cannot fail.
    #[inline(always)]
    fn get(&self) -> *mut T {
        // SAFETY: `self` is a map to the loader, and the flags must be zero.
        unsafe { bpf_get_local_storage((&raw const *self).cast_mut().cast(), 0) }.cast()
    }
}

/// Storage of a socket; freed with it. Linux 5.2.
#[repr(C)]
struct SockStorage<T> {
    r#type: *const [i32; bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; NO_PREALLOC],
}

// SAFETY: as above.
unsafe impl<T> Sync for SockStorage<T> {}

impl<T> SockStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }

    const fn map(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

#[btf_map]
static PODS: CgroupStorage<
    PolicyRow,
    { bpf_map_type::BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED as usize },
> = CgroupStorage::new();

#[btf_map]
static RULE_HITS: CgroupStorage<
    Hits,
    { bpf_map_type::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE_DEPRECATED as usize },
> = CgroupStorage::new();

#[btf_map]
static LOCALS: HashMap<LocalKey, LocalFlags, MAX_LOCALS, NO_PREALLOC> = HashMap::new();

#[btf_map]
static CIDRS4: LpmTrie<Cidr4Data, CidrFlags, MAX_CIDRS> = LpmTrie::new();

#[btf_map]
static CIDRS6: LpmTrie<Cidr6Data, CidrFlags, MAX_CIDRS> = LpmTrie::new();

#[btf_map]
static PORTS: HashMap<PortKey, PortFlags, MAX_PORTS, NO_PREALLOC> = HashMap::new();

#[btf_map]
static ORIG_DST: SockStorage<OrigDst> = SockStorage::new();

#[btf_map]
static FLOWS: HashMap<FlowKey, OrigDst, MAX_FLOWS, NO_PREALLOC> = HashMap::new();

/// The policy row of the cgroup the running program is attached to.
#[inline(always)]
pub(crate) fn row<'program>() -> &'program PolicyRow {
    // SAFETY: never null, and valid until the program ends. User space replaces the whole value
    // instead of writing into it, so it does not change under the reference.
    unsafe { &*PODS.get() }
}

#[inline(always)]
fn hits() -> *mut Hits {
    RULE_HITS.get()
}

/// Counts a connection under its rule.
#[inline(always)]
pub(crate) fn count(rule: RuleId) {
    // SAFETY: this CPU's own counters; programs run with migration off.
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

/// Counts a connection refused because its destination could not be recorded.
#[inline(always)]
pub(crate) fn count_record_failed() {
    // SAFETY: as above.
    let slot = unsafe { &mut (*hits()).record_failed };
    *slot = slot.wrapping_add(1);
}

/// The record of a socket, if it has one.
#[inline(always)]
pub(crate) fn record<'program>(sk: *mut bpf_sock) -> Option<&'program mut OrigDst> {
    // SAFETY: the helper takes the socket the context holds; a value lives as long as the socket,
    // which the kernel holds while the program runs. Only one hook of a socket runs at a time:
    // the kernel calls them with the socket locked.
    unsafe { storage(sk, 0).as_mut() }
}

/// # Safety
///
/// `sk` must be the socket that a context holds.
#[inline(always)]
unsafe fn storage(sk: *mut bpf_sock, flags: u64) -> *mut OrigDst {
    // SAFETY: the caller's promise; without an initial value the helper makes one of zeros.
    unsafe { bpf_sk_storage_get(ORIG_DST.map(), sk.cast(), core::ptr::null_mut(), flags) }.cast()
}

/// Records a socket's original destination. `false` if the kernel has no memory for it.
#[inline(always)]
pub(crate) fn set_record(sk: *mut bpf_sock, record: &OrigDst) -> bool {
    // SAFETY: as above; with the create flag the helper gives a zeroed value to fill in.
    let value = unsafe { storage(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE)).as_mut() };
    if let Some(value) = value {
        *value = *record;
        return true;
    }
    false
}

/// Forgets a socket's record, if any: a socket can be connected anew.
#[inline(always)]
pub(crate) fn clear_record(sk: *mut bpf_sock) {
    // SAFETY: as above. It fails only if there is nothing to delete.
    let _: i64 = unsafe { bpf_sk_storage_delete(ORIG_DST.map(), sk.cast()) };
}

/// Keeps a record for the length of a handshake. `false` if the map is full.
#[inline(always)]
pub(crate) fn insert_flow(key: &FlowKey, record: &OrigDst) -> bool {
    FLOWS.insert(key, record, 0).is_ok()
}

/// The record of a handshake under way.
#[inline(always)]
pub(crate) fn flow(key: &FlowKey) -> Option<OrigDst> {
    // SAFETY: copied at once; an entry is written once, before the handshake can end.
    unsafe { FLOWS.get(key) }.copied()
}

/// Forgets a handshake.
#[inline(always)]
pub(crate) fn remove_flow(key: &FlowKey) {
    if FLOWS.remove(key).is_err() {
        // There was nothing to remove: the other end was faster.
    }
}

/// The policy of the attached cgroup for sockets of one network namespace.
pub(crate) struct MapPolicy<'program> {
    pub(crate) row: &'program PolicyRow,
    pub(crate) netns: u64,
}

impl PolicyView for MapPolicy<'_> {
    #[inline(always)]
    fn row(&self) -> &PolicyRow {
        self.row
    }

    #[inline(always)]
    fn cidr(&self, addr: BeAddr) -> CidrFlags {
        let id = self.row.policy.0;
        let flags = if addr.is_v4() {
            let data = [id, addr.word4()];
            CIDRS4.get(&lpm_trie::Key::new(POLICY_BITS.wrapping_add(32), data))
        } else {
            let [a, b, c, d] = addr.words();
            CIDRS6.get(&lpm_trie::Key::new(
                POLICY_BITS.wrapping_add(128),
                [id, a, b, c, d],
            ))
        };
        flags.copied().unwrap_or(CidrFlags::NONE)
    }

    #[inline(always)]
    fn port(&self, port: BePort) -> PortFlags {
        let key = PortKey::outbound_tcp(self.row.policy, port);
        // SAFETY: an integer, copied at once.
        unsafe { PORTS.get(key) }
            .copied()
            .unwrap_or(PortFlags::NONE)
    }

    #[inline(always)]
    fn local(&self, addr: BeAddr) -> LocalFlags {
        let key = LocalKey {
            netns: self.netns,
            addr,
        };
        // SAFETY: an integer, copied at once.
        unsafe { LOCALS.get(key) }
            .copied()
            .unwrap_or(LocalFlags::NONE)
    }
}
