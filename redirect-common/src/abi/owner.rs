//! The offsets with which programs find a socket's owner in kernel memory.

/// Byte offsets of the fields that lead to a socket's owner, from the running kernel's BTF:
/// `sock.sk_socket → socket.file → file.f_cred → cred.{fsuid,fsgid}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct OwnerOffsets {
    /// Offset of `sk_socket` in `struct sock`.
    pub sk_socket: u32,
    /// Offset of `file` in `struct socket`.
    pub file: u32,
    /// Offset of `f_cred` in `struct file`.
    pub f_cred: u32,
    /// Offset of `fsuid` in `struct cred`.
    pub fsuid: u32,
    /// Offset of `fsgid` in `struct cred`.
    pub fsgid: u32,
}

/// The name of the object's global variable that holds the [`OwnerOffsets`].
pub const OWNER_OFFSETS: &str = "OWNER_OFFSETS";
