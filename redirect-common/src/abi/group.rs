//! Owner groups: flags of a policy's map in `GROUPS`, whose key is a group id of the initial user
//! namespace.

use super::flags::flag_set;

flag_set! {
    /// Properties of a group under a policy.
    GroupFlags {
        /// The group is listed. [`super::RowFlags::ONLY_GROUPS`] says whether listed groups are
        /// redirected or excluded.
        LISTED = 0, is_listed;
    }
}
