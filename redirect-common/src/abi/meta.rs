//! The redirector's record of itself.

use super::PolicyId;

/// What the redirector keeps about itself, in a map of its own. Only user space reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Meta {
    /// The policy id given out last.
    pub last_policy: PolicyId,
    /// Not zero while a change is under way. Found so by the next one, it means that its
    /// predecessor was killed and there may be something to collect.
    pub busy: u32,
}

/// The name of the map that holds [`Meta`].
pub const META: &str = "META";
