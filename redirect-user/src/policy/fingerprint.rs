//! The fingerprint of a policy's entries: pods whose fingerprints are equal share the entries.

use redirect_common::abi::{Fingerprint, PortKey};
use sha2::{Digest as _, Sha256};

use super::CompiledPolicy;
use crate::sys::userns::{Extent, IdMap, IdMaps};

impl CompiledPolicy {
    /// The digest of all entries that are stored under the policy's id, and of the id maps they
    /// were translated with. The row belongs to one pod and is not part of the digest.
    pub fn fingerprint(&self, ids: &IdMaps) -> Fingerprint {
        let mut digest = Sha256::new();
        let mut line = |text: String| digest.update(text + "\n");
        for (net, flags) in &self.cidrs {
            line(format!("range {net} {:x}", flags.bits()));
        }
        for (key, flags) in &self.ports {
            let PortKey {
                policy: _,
                port,
                direction,
                protocol,
            } = *key;
            let (port, flags) = (port.get(), flags.bits());
            line(format!("port {port} {direction} {protocol} {flags:x}"));
        }
        let mut groups = self.groups.clone();
        groups.sort_unstable();
        for group in groups {
            line(format!("group {group}"));
        }
        for (kind, map) in [("uids", &ids.uids), ("gids", &ids.gids)] {
            let extents = match map {
                IdMap::Same => &[],
                IdMap::Extents(extents) => extents.as_slice(),
            };
            for Extent {
                inside,
                outside,
                count,
            } in extents
            {
                line(format!("{kind} {inside} {outside} {count}"));
            }
        }
        Fingerprint(digest.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use redirect_common::abi::{CidrFlags, PortFlags};

    use super::*;
    use crate::{
        config::{OwnerGroups, PortRange, RedirectConfig},
        policy::{PodNetwork, compile},
    };

    fn compiled(config: &RedirectConfig) -> CompiledPolicy {
        let row = redirect_common::abi::PolicyRow::default();
        compile(config, &PodNetwork::of_row(&row, &[], IdMaps::default())).expect("ids that exist")
    }

    #[test]
    fn every_stored_entry_changes_the_fingerprint() {
        let plain = RedirectConfig::default();
        let configs = [
            plain.clone(),
            RedirectConfig {
                exclude: vec!["10.0.0.0/8".parse().expect("a range")],
                ..plain.clone()
            },
            RedirectConfig {
                exclude: vec!["10.0.0.0/9".parse().expect("a range")],
                ..plain.clone()
            },
            RedirectConfig {
                exclude: vec!["a00::/8".parse().expect("a range")],
                ..plain.clone()
            },
            RedirectConfig {
                exclude_ports: vec![PortRange::single(80)],
                ..plain.clone()
            },
            RedirectConfig {
                include_ports: vec![PortRange::single(80)],
                ..plain.clone()
            },
            RedirectConfig {
                owner_groups: OwnerGroups::List(vec![80]),
                ..plain.clone()
            },
        ];
        let mut seen = BTreeSet::new();
        let none = IdMaps::default();
        for config in &configs {
            let Fingerprint(digest) = compiled(config).fingerprint(&none);
            assert_eq!(compiled(config).fingerprint(&none), Fingerprint(digest));
            assert!(seen.insert(digest), "{config:?}");
        }
        let shifted = |inside| IdMaps {
            uids: IdMap::Extents(vec![Extent {
                inside,
                outside: 100_000,
                count: 1,
            }]),
            gids: IdMap::Same,
        };
        let swapped = IdMaps {
            gids: shifted(0).uids,
            uids: IdMap::Same,
        };
        for ids in [shifted(0), shifted(1), swapped] {
            let Fingerprint(digest) = compiled(&plain).fingerprint(&ids);
            assert!(seen.insert(digest), "{ids:?}");
        }
        let mut flagged = compiled(&configs[1]);
        flagged.cidrs[0].1 = CidrFlags::NONE;
        assert!(seen.insert(flagged.fingerprint(&none).0));
        let mut flagged = compiled(&configs[4]);
        flagged.ports[0].1 = PortFlags::NONE;
        assert!(seen.insert(flagged.fingerprint(&none).0));
    }

    #[test]
    fn fields_of_the_row_do_not_change_the_fingerprint() {
        let one = RedirectConfig {
            owner_groups: OwnerGroups::List(vec![3, 4]),
            ..RedirectConfig::default()
        };
        let other = RedirectConfig {
            owner_groups: OwnerGroups::List(vec![4, 3]),
            out_port: 16001,
            shadow: true,
            ..one.clone()
        };
        let none = IdMaps::default();
        assert_eq!(
            compiled(&one).fingerprint(&none),
            compiled(&other).fingerprint(&none)
        );
    }
}
