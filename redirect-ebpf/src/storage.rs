//! Storage that the kernel keeps with a cgroup or a socket and frees together with it, and maps of
//! sockets, which are kept until they close.
#![expect(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "values are reached through raw pointers"
)]

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type,
        bpf_sk_lookup, bpf_sock, bpf_sock_ops,
    },
    helpers::{
        bpf_get_local_storage,
        generated::{
            bpf_map_lookup_elem, bpf_sk_assign, bpf_sk_release, bpf_sk_storage_delete,
            bpf_sk_storage_get, bpf_sock_hash_update,
        },
    },
};

/// The definition of a storage map, which the loader reads from the types of the fields.
#[repr(C)]
pub(crate) struct Storage<K, V, const KIND: usize, const FLAGS: usize> {
    r#type: *const [i32; KIND],
    key: *const K,
    value: *const V,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

/// Storage with one value per cgroup that a program is attached to. The key is the cgroup's id
/// alone, so that all programs of a pod share the value; aya's own type has a value per attach
/// type. Linux 5.9.
pub(crate) type CgroupStorage<V> =
    Storage<u64, V, { bpf_map_type::BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED as usize }, 0>;

/// The same with one value per CPU.
pub(crate) type PerCpuCgroupStorage<V> =
    Storage<u64, V, { bpf_map_type::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE_DEPRECATED as usize }, 0>;

/// Storage with one value per socket. A socket that a listening socket accepts gets a copy of the
/// listening socket's value. Linux 5.4.
pub(crate) type SockStorage<V> = Storage<
    i32,
    V,
    { bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize },
    { (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize },
>;

// SAFETY: the pointers are placeholders whose types the loader reads; no code dereferences them.
unsafe impl<K, V, const KIND: usize, const FLAGS: usize> Sync for Storage<K, V, KIND, FLAGS> {}

impl<K, V, const KIND: usize, const FLAGS: usize> Storage<K, V, KIND, FLAGS> {
    pub(crate) const fn new() -> Self {
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

impl<V, const KIND: usize> Storage<u64, V, KIND, 0> {
    /// The value of the cgroup that the running program is attached to. The kernel creates the
    /// value at attach, so the pointer is never null.
    #[inline(always)]
    pub(crate) fn get(&self) -> *mut V {
        // SAFETY: this is a map to the loader, and the flags must be zero.
        unsafe { bpf_get_local_storage(self.map(), 0) }.cast()
    }
}

impl<V: Copy> SockStorage<V> {
    /// The value of a socket, if it has one.
    #[inline(always)]
    pub(crate) fn get<'program>(&self, sk: *mut bpf_sock) -> Option<&'program mut V> {
        self.find(sk, 0)
    }

    /// The value of a socket, created as zeros if the socket has none. `None` if the kernel has no
    /// memory for it.
    #[inline(always)]
    pub(crate) fn get_or_insert_zeroed<'program>(
        &self,
        sk: *mut bpf_sock,
    ) -> Option<&'program mut V> {
        self.find(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
    }

    /// Sets the value of a socket. `false` if the kernel has no memory for it.
    #[inline(always)]
    pub(crate) fn insert(&self, sk: *mut bpf_sock, value: &V) -> bool {
        if let Some(slot) = self.get_or_insert_zeroed(sk) {
            *slot = *value;
            return true;
        }
        false
    }

    /// Removes the value of a socket, if it has one.
    #[inline(always)]
    pub(crate) fn remove(&self, sk: *mut bpf_sock) {
        // SAFETY: the helper takes the socket that a context holds, and fails only if there is
        // nothing to delete.
        let _: i64 = unsafe { bpf_sk_storage_delete(self.map(), sk.cast()) };
    }

    #[inline(always)]
    fn find<'program>(&self, sk: *mut bpf_sock, flags: u64) -> Option<&'program mut V> {
        // SAFETY: the helper takes the socket that a context holds, and fills a value that it
        // creates with zeros. The value lives as long as the socket, which the kernel holds while
        // the program runs. Only one hook of a socket runs at a time: the kernel calls hooks with
        // the socket locked.
        unsafe {
            bpf_sk_storage_get(self.map(), sk.cast(), core::ptr::null_mut(), flags)
                .cast::<V>()
                .as_mut()
        }
    }
}

/// A map of sockets by key. The kernel removes a socket that closes. Linux 5.7 for listening
/// sockets.
#[repr(C)]
pub(crate) struct SockHash<K, const MAX: usize> {
    r#type: *const [i32; bpf_map_type::BPF_MAP_TYPE_SOCKHASH as usize],
    key: *const K,
    // As wide as a socket's cookie, so that user space can identify the socket.
    value: *const u64,
    max_entries: *const [i32; MAX],
}

// SAFETY: as above: no code dereferences the pointers.
unsafe impl<K, const MAX: usize> Sync for SockHash<K, MAX> {}

impl<K, const MAX: usize> SockHash<K, MAX> {
    pub(crate) const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
        }
    }

    const fn map(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }

    /// Stores the socket that a callback is about. `false` if the key has a socket already, or if
    /// the map is full.
    #[inline(always)]
    pub(crate) fn insert(&self, key: &mut K, socket: *mut bpf_sock_ops) -> bool {
        // SAFETY: the helper takes the callback's context, this map and a key of its type.
        unsafe {
            bpf_sock_hash_update(
                socket,
                self.map(),
                (&raw mut *key).cast(),
                u64::from(BPF_NOEXIST),
            ) == 0
        }
    }

    /// Assigns a packet to the socket of a key. `false` if there is none, or if the socket does not
    /// accept the packet's family.
    #[inline(always)]
    pub(crate) fn assign(&self, key: &K, lookup: *mut bpf_sk_lookup) -> bool {
        // SAFETY: the map lookup takes a reference to the socket; the reference is released on
        // every path on which there is one.
        unsafe {
            let socket = bpf_map_lookup_elem(self.map(), (&raw const *key).cast());
            if socket.is_null() {
                return false;
            }
            // Without flags the kernel selects one of the sockets that share the port.
            let assigned = bpf_sk_assign(lookup.cast(), socket, 0) == 0;
            bpf_sk_release(socket);
            assigned
        }
    }
}
