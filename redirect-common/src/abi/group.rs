//! Owner groups: key and flags of the group map.

use super::{PolicyId, flags::flag_set};

/// Key of the group map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct GroupKey {
    /// Whose list.
    pub policy: PolicyId,
    /// The group, in the initial user namespace.
    pub gid: u32,
}

flag_set! {
    /// What a group is.
    GroupFlags {
        /// In the list, of whichever kind [`super::RowFlags`] say it is.
        LISTED = 0, is_listed;
    }
}
