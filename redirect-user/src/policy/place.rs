//! Where a pod is: what its row says besides the configuration.

use redirect_common::{abi::PolicyRow, net::BeAddr};
use thiserror::Error;

use crate::sys::{
    netns::{Netns, OwnRange},
    userns::{IdMap, IdMaps},
};

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its network namespace.
    pub(super) netns: u64,
    /// The source address that an IPv4 connection to the outside shows, or a zero address.
    pub(super) self4: BeAddr,
    /// The same for IPv6.
    pub(super) self6: BeAddr,
    /// Its any-IP ranges.
    pub(super) ranges: Vec<OwnRange>,
    /// Its ids.
    pub(super) ids: IdMaps,
}

impl From<&Netns> for Place {
    fn from(netns: &Netns) -> Self {
        Self {
            netns: netns.cookie,
            self4: netns.source4.map_or(BeAddr::ANY, BeAddr::from),
            self6: netns.source6.map_or(BeAddr::ANY, BeAddr::from),
            ranges: netns.ranges.clone(),
            ids: netns.ids.clone(),
        }
    }
}

impl Place {
    /// The place of a pod that is attached, by its row, its any-IP ranges and its ids.
    pub const fn of_row(row: &PolicyRow, ranges: Vec<OwnRange>, ids: IdMaps) -> Self {
        Self {
            netns: row.netns,
            self4: row.self4,
            self6: row.self6,
            ranges,
            ids,
        }
    }

    /// The place after its namespace's addresses have changed.
    #[must_use]
    pub fn moved(&self, netns: &Netns) -> Self {
        Self {
            ids: self.ids.clone(),
            ..Self::from(netns)
        }
    }

    /// A row with the addresses of this place.
    pub const fn row(&self, row: &PolicyRow) -> PolicyRow {
        PolicyRow {
            self4: self.self4,
            self6: self.self6,
            ..*row
        }
    }

    /// Its any-IP ranges.
    pub fn ranges(&self) -> &[OwnRange] {
        &self.ranges
    }

    /// Its ids.
    pub const fn ids(&self) -> &IdMaps {
        &self.ids
    }
}

/// An id that does not exist in the pod's user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("use {kind} {id}: the pod's user namespace has no such id, only these: {existing}")]
pub struct NoSuchId {
    /// `uid` or `gid`.
    pub kind: &'static str,
    /// The id.
    pub id: u32,
    /// The ids that exist.
    pub existing: IdMap,
}

impl IdMaps {
    /// What a uid of a pod is in the first user namespace.
    pub fn uid(&self, id: u32) -> Result<u32, NoSuchId> {
        outside("uid", &self.uids, id)
    }

    /// What a gid of a pod is in the first user namespace.
    pub fn gid(&self, id: u32) -> Result<u32, NoSuchId> {
        outside("gid", &self.gids, id)
    }
}

fn outside(kind: &'static str, map: &IdMap, id: u32) -> Result<u32, NoSuchId> {
    map.outside(id).ok_or_else(|| NoSuchId {
        kind,
        id,
        existing: map.clone(),
    })
}
