//! The attachments that the planner compares with.

use std::{collections::BTreeSet, sync::Arc};

use redirect_user::{config::RedirectConfig, sys::cgroup::CgroupId};

/// The attachments of a state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// Attachments in this version's layout of the maps.
    pub current_layout: Vec<Attached>,
    /// Cgroups whose attachment is in another layout. Nothing more can be known of them.
    pub other_layouts: BTreeSet<CgroupId>,
}

/// A cgroup that is attached in this version's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The cgroup.
    pub cgroup: CgroupId,
    /// Cookie of the network namespace whose connections are redirected.
    pub netns: u64,
    /// Configuration, as read from the maps.
    pub config: Arc<RedirectConfig>,
    /// The programs that it lacks and the reasons, as last checked; `None` if it lacks none.
    pub missing: Option<String>,
}
