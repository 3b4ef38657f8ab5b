//! The state of the redirector as a whole, stored in the map `META`.

/// The state of the redirector as a whole: numbering, changes in progress, and the pinned build.
/// Only user space reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Meta {
    /// The number that was assigned last as a row's serial.
    pub last_number: u32,
    /// Not zero while a change is in progress. If the next change finds it so, the previous one was
    /// killed and may have left entries to collect.
    pub busy: u32,
    /// The build that the pinned programs are of: the first bytes of the digest of its object.
    /// Builds with the same layout can take over from each other.
    pub build: u64,
    /// A random key that no pod knows, so that no pod can choose entries whose
    /// [`Fingerprint`](super::Fingerprint) is that of another policy.
    pub fingerprint_key: [u8; 16],
}

/// The name of the map that holds [`Meta`].
pub const META: &str = "META";
