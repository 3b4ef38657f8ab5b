//! Id maps of pods' user namespaces: key and value of the map `IDS` that stores them.

use super::PolicyId;

/// Key of one line of a policy's id maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct IdKey {
    /// The policy that the line belongs to. A policy without lines was configured with ids of the
    /// initial user namespace.
    pub policy: PolicyId,
    /// [`IdKey::UIDS`] or [`IdKey::GIDS`].
    pub kind: u32,
    /// The line's number, from 0.
    pub line: u32,
}

impl IdKey {
    /// The kind of a line that maps user ids.
    pub const UIDS: u32 = 0;
    /// The kind of a line that maps group ids.
    pub const GIDS: u32 = 1;
}

/// A range of ids, in the order of a line of `/proc/PID/uid_map`: the first id in the pod's user
/// namespace, the corresponding id in the initial user namespace, and the number of ids.
pub type IdLine = [u32; 3];

/// The name of the map that stores id maps. Only user space reads it: rows and groups hold ids of
/// the initial user namespace, and users are shown the ids that they configured.
pub const IDS: &str = "IDS";
/// The most lines that all pods of a node can have; the kernel allows 340 per id map.
pub const MAX_IDS: u32 = 1 << 16;
