//! Storage that the kernel keeps with a cgroup or with a socket, and frees with it.
#![expect(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "values are reached through raw pointers"
)]

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type, bpf_sock},
    helpers::{
        bpf_get_local_storage,
        generated::{bpf_sk_storage_delete, bpf_sk_storage_get},
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

/// One value per socket. Linux 5.2.
pub(crate) type SockStorage<V> = Storage<
    i32,
    V,
    { bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize },
    { BPF_F_NO_PREALLOC as usize },
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
