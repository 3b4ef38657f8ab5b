//! How programs find a socket's owner in kernel memory.

/// Where the running kernel keeps a socket's owner, from its BTF: byte offsets along
/// `sock.sk_socket → socket.file → file.f_cred → cred.{fsuid,fsgid}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct OwnerOffsets {
    /// Of `sk_socket` in `struct sock`.
    pub sk_socket: u32,
    /// Of `file` in `struct socket`.
    pub file: u32,
    /// Of `f_cred` in `struct file`.
    pub f_cred: u32,
    /// Of `fsuid` in `struct cred`.
    pub fsuid: u32,
    /// Of `fsgid` in `struct cred`.
    pub fsgid: u32,
}

/// The name of the object's [`OwnerOffsets`] global.
pub const OWNER_OFFSETS: &str = "OWNER_OFFSETS";
