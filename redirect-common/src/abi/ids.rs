//! Ids of a pod's user namespace: key and value of the map that they are remembered in.

use super::PolicyId;

/// Key of one line of a policy's id maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct IdKey {
    /// Whose. A policy without any was given ids of the initial user namespace.
    pub policy: PolicyId,
    /// [`IdKey::UIDS`] or [`IdKey::GIDS`].
    pub kind: u32,
    /// Which line, from 0.
    pub line: u32,
}

impl IdKey {
    /// Of uids.
    pub const UIDS: u32 = 0;
    /// Of gids.
    pub const GIDS: u32 = 1;
}

/// A range of ids, as a line of `/proc/PID/uid_map` has it: its first id in the pod's user
/// namespace, the same one's in the initial user namespace, and how many there are.
pub type IdLine = [u32; 3];

/// The name of the map of id maps. Only user space reads it: rows and groups hold ids of the
/// initial user namespace, and users are shown those they gave.
pub const IDS: &str = "IDS";
/// The most lines all pods of a node can have; the kernel allows 340 for each map.
pub const MAX_IDS: u32 = 1 << 16;
