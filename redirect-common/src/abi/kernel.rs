//! The abilities of the running kernel on which programs depend, and the offsets that replace them.

use super::flags::flag_set;

flag_set! {
    /// Abilities that the oldest kernels lack. The loader tries them and writes the set into a
    /// frozen constant of the object, whose value the verifier knows: it does not walk the paths
    /// of an ability that the kernel lacks, and the compiled program does not contain them.
    KernelFeatures {
        /// `bpf_get_netns_cookie` in `sock_ops` programs, and `SO_NETNS_COOKIE`. Linux 5.15
        /// (commit 6cf1770d63dd upstream). Without it, a network namespace is known by its inode.
        NETNS_COOKIE = 0, netns_cookie;
        /// `bpf_sk_lookup.ingress_ifindex`. Linux 5.17 (commit f89315650ba3 upstream). Without
        /// it, `-c` cannot exclude inbound connections.
        INGRESS_IFINDEX = 1, ingress_ifindex;
    }
}

/// The name of the object's global variable that holds the [`KernelFeatures`].
pub const KERNEL_FEATURES: &str = "KERNEL_FEATURES";

/// Byte offsets of the fields that lead to the inode of a socket's network namespace, from the
/// running kernel's BTF: `sock.skc_net → net.ns.inum`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NetnsOffsets {
    /// Offset of the pointer to `struct net` in `struct sock`.
    pub net: u32,
    /// Offset of `ns.inum` in `struct net`.
    pub inode: u32,
}

/// The name of the object's global variable that holds the [`NetnsOffsets`].
pub const NETNS_OFFSETS: &str = "NETNS_OFFSETS";
