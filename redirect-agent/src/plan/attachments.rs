//! What is attached.

use std::{collections::BTreeSet, sync::Arc};

use redirect_user::{config::RedirectConfig, sys::cgroup::CgroupId};

/// What is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// By this version's layout of the maps.
    pub current_layout: Vec<Attached>,
    /// The cgroups that a version with another layout decides about. Nothing more can be known of them.
    pub other_layouts: BTreeSet<CgroupId>,
}

/// A cgroup that is attached by this version's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The cgroup.
    pub cgroup: CgroupId,
    /// The cookie of the network namespace whose connections are redirected.
    pub netns: u64,
    /// The configuration, as it is read off the maps.
    pub config: Arc<RedirectConfig>,
}
