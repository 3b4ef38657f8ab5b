//! Storage that the kernel keeps with a cgroup or with a socket, and frees with it; and sockets
//! themselves, kept until they close.
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

/// A map's definition: the loader reads it from the types of the fields.
#[repr(C)]
pub(crate) struct Storage<K, V, const KIND: usize, const FLAGS: usize> {
    r#type: *const [i32; KIND],
    key: *const K,
    value: *const V,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

/// One value per cgroup that a program is attached to. The key is the cgroup's id alone, so that
/// all programs of a pod share the value; aya's own type has a value per attach type. Linux 5.9.
pub(crate) type CgroupStorage<V> =
    Storage<u64, V, { bpf_map_type::BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED as usize }, 0>;

/// The same, with a value per CPU.
pub(crate) type PerCpuCgroupStorage<V> =
    Storage<u64, V, { bpf_map_type::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE_DEPRECATED as usize }, 0>;

/// One value per socket, which what a listening socket accepts gets a copy of. Linux 5.4.
pub(crate) type SockStorage<V> = Storage<
    i32,
    V,
    { bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize },
    { (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize },
>;

// SAFETY: the pointers are placeholders whose types the loader reads; nothing dereferences them.
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
    /// The value of the cgroup that the running program is attached to. The kernel made it at
    /// attach: it is never null.
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

    /// The value of a socket, made of zeros if it has none. `None` if the kernel has no memory for
    /// it.
    #[inline(always)]
    pub(crate) fn get_or_make<'program>(&self, sk: *mut bpf_sock) -> Option<&'program mut V> {
        self.find(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
    }

    /// Gives a socket a value. `false` if the kernel has no memory for it.
    #[inline(always)]
    pub(crate) fn insert(&self, sk: *mut bpf_sock, value: &V) -> bool {
        if let Some(place) = self.get_or_make(sk) {
            *place = *value;
            return true;
        }
        false
    }

    /// Takes a socket's value away, if it has one.
    #[inline(always)]
    pub(crate) fn remove(&self, sk: *mut bpf_sock) {
        // SAFETY: the helper takes the socket that a context holds, and fails only if there is
        // nothing to delete.
        let _: i64 = unsafe { bpf_sk_storage_delete(self.map(), sk.cast()) };
    }

    #[inline(always)]
    fn find<'program>(&self, sk: *mut bpf_sock, flags: u64) -> Option<&'program mut V> {
        // SAFETY: the helper takes the socket that a context holds, and makes a value of zeros if
        // it makes one. The value lives as long as the socket, which the kernel holds while the
        // program runs. Only one hook of a socket runs at a time: the kernel calls them with the
        // socket locked.
        unsafe {
            bpf_sk_storage_get(self.map(), sk.cast(), core::ptr::null_mut(), flags)
                .cast::<V>()
                .as_mut()
        }
    }
}

/// Sockets by key. A socket that closes is gone by itself. Linux 5.7 for those that listen.
#[repr(C)]
pub(crate) struct SockHash<K, const MAX: usize> {
    r#type: *const [i32; bpf_map_type::BPF_MAP_TYPE_SOCKHASH as usize],
    key: *const K,
    // As wide as a socket's cookie, so that user space can ask which socket it is.
    value: *const u64,
    max_entries: *const [i32; MAX],
}

// SAFETY: as above: nothing dereferences the pointers.
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

    /// Stores the socket that a callback is about. `false` if there is one at this key already, or
    /// no room.
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

    /// Gives a lookup the socket of a key. `false` if there is none, or if it does not take the
    /// packet's family.
    #[inline(always)]
    pub(crate) fn assign(&self, key: &K, lookup: *mut bpf_sk_lookup) -> bool {
        // SAFETY: the lookup takes a reference to the socket; it is given back on every path on
        // which there is one.
        unsafe {
            let socket = bpf_map_lookup_elem(self.map(), (&raw const *key).cast());
            if socket.is_null() {
                return false;
            }
            // Without flags the kernel chooses among the sockets that share the port.
            let assigned = bpf_sk_assign(lookup.cast(), socket, 0) == 0;
            bpf_sk_release(socket);
            assigned
        }
    }
}
