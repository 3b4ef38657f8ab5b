//! Owner groups: key and flags of the map `GROUPS`.

use super::{PolicyId, flags::flag_set};

/// Key of the map `GROUPS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct GroupKey {
    /// The policy that lists the group.
    pub policy: PolicyId,
    /// The group id, in the initial user namespace.
    pub gid: u32,
}

flag_set! {
    /// Properties of a group under a policy.
    GroupFlags {
        /// The group is listed. [`super::RowFlags::ONLY_GROUPS`] says whether listed groups are
        /// redirected or excluded.
        LISTED = 0, is_listed;
    }
}
