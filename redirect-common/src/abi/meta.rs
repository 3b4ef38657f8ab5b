//! The redirector's record of itself.

/// What the redirector keeps about itself, in a map of its own. Only user space reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Meta {
    /// The number given out last, as a policy's id or a row's serial.
    pub last_number: u32,
    /// Not zero while a change is under way. Found so by the next one, it means that its
    /// predecessor was killed and there may be something to collect.
    pub busy: u32,
    /// Which build the pinned programs are of: the beginning of the digest of its object. Builds whose
    /// layout is the same can take over from each other.
    pub build: u64,
}

/// The name of the map that holds [`Meta`].
pub const META: &str = "META";
