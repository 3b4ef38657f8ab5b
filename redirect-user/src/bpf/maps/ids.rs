//! The id maps of policies.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use redirect_common::abi::{IdKey, MAX_IDS, PolicyId};

use super::{
    open::{check_stored, ignore_missing, optional},
    pinned_maps::Maps,
};
use crate::sys::userns::{Extent, IdMap, IdMaps};

impl Maps {
    /// Stores the id maps with which the ids of a policy were translated.
    pub fn set_ids(&mut self, policy: PolicyId, ids: &IdMaps) -> Result<()> {
        let IdMaps { uids, gids } = ids;
        for (kind, map) in [(IdKey::UIDS, uids), (IdKey::GIDS, gids)] {
            let extents = match map {
                IdMap::Same => &[],
                IdMap::Extents(extents) => extents.as_slice(),
            };
            for (line, extent) in (0..).zip(extents) {
                let key = IdKey { policy, kind, line };
                let Extent {
                    inside,
                    outside,
                    count,
                } = *extent;
                let result = self.ids.insert(key, [inside, outside, count], 0);
                let most = usize::try_from(MAX_IDS)?;
                check_stored(
                    result,
                    || "the pod's ids".to_owned(),
                    most,
                    "lines of id maps",
                )?;
            }
        }
        Ok(())
    }

    /// The id maps with which the ids of a policy were translated.
    pub fn ids(&self, policy: PolicyId) -> Result<IdMaps> {
        let map = |kind| -> Result<IdMap> {
            let mut extents = Vec::new();
            for line in 0.. {
                let found = optional(self.ids.get(&IdKey { policy, kind, line }, 0));
                let Some([inside, outside, count]) = found.context("look up the pod's ids")? else {
                    break;
                };
                extents.push(Extent {
                    inside,
                    outside,
                    count,
                });
            }
            // No policy has ids of a namespace without id maps.
            Ok(if extents.is_empty() {
                IdMap::Same
            } else {
                IdMap::Extents(extents)
            })
        };
        Ok(IdMaps {
            uids: map(IdKey::UIDS)?,
            gids: map(IdKey::GIDS)?,
        })
    }

    /// Removes the id maps of policies.
    pub(super) fn drop_ids(&mut self, policies: &BTreeSet<PolicyId>) -> Result<()> {
        for key in self.id_keys()? {
            if policies.contains(&key.policy) {
                ignore_missing(self.ids.remove(&key)).context("remove the pod's ids")?;
            }
        }
        Ok(())
    }

    /// The policies that have id maps.
    pub(super) fn policies_with_ids(&self) -> Result<BTreeSet<PolicyId>> {
        Ok(self.id_keys()?.into_iter().map(|key| key.policy).collect())
    }

    fn id_keys(&self) -> Result<Vec<IdKey>> {
        let keys = self.ids.keys();
        keys.collect::<Result<_, _>>().context("list the pods' ids")
    }
}
