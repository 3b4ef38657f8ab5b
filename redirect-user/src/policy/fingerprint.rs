//! The fingerprint of a policy's entries: pods whose fingerprints are equal share the entries.
//!
//! A fingerprint is the sum of a keyed digest of each entry, so that a change of one entry among a
//! million changes it at once. Without the key such a sum would be weak: whoever chooses many
//! entries can find others with the same sum.

use ipnet::IpNet;
use redirect_common::{
    abi::{CidrFlags, Fingerprint, PortFlags, PortKey},
    net::BeAddr,
};
use sha2::{Digest as _, Sha256};

use super::CompiledPolicy;
use crate::sys::userns::{Extent, IdMap, IdMaps};

/// The secret key of fingerprints, of [`Meta`](redirect_common::abi::Meta).
#[derive(Clone, Copy, Debug)]
pub struct FingerprintKey(pub [u8; 16]);

/// A sum of digests, as four numbers that are added apart from each other.
type Sum = [u64; 4];

impl FingerprintKey {
    /// The fingerprint of these entries, and of the id maps that they were translated with.
    pub fn fingerprint(
        &self,
        cidrs: &[(IpNet, CidrFlags)],
        ports: &[(PortKey, PortFlags)],
        groups: &[u32],
        ids: &IdMaps,
    ) -> Fingerprint {
        // Not zero without entries.
        let mut sum = self.digest(b'0', &[]);
        for range in cidrs {
            sum = plus(sum, self.range(range));
        }
        for (key, flags) in ports {
            let PortKey {
                port,
                direction,
                protocol,
            } = *key;
            let number = u32::from(port.get());
            let numbers = [number, direction.into(), protocol.into(), flags.bits()];
            sum = plus(sum, self.digest(b'p', &numbers));
        }
        for gid in groups {
            sum = plus(sum, self.digest(b'g', &[*gid]));
        }
        for (kind, map) in [(0, &ids.uids), (1, &ids.gids)] {
            let extents = match map {
                IdMap::Same => &[],
                IdMap::Extents(extents) => extents.as_slice(),
            };
            for (line, extent) in (0..).zip(extents) {
                let Extent {
                    inside,
                    outside,
                    count,
                } = *extent;
                let numbers = [kind, line, inside, outside, count];
                sum = plus(sum, self.digest(b'i', &numbers));
            }
        }
        to_fingerprint(sum)
    }

    /// The fingerprint after a range was replaced: the one that the policy had, or the one that it
    /// has now, may be absent.
    pub fn replaced(
        &self,
        before: Fingerprint,
        old: Option<(IpNet, CidrFlags)>,
        new: Option<(IpNet, CidrFlags)>,
    ) -> Fingerprint {
        let mut sum = of_fingerprint(before);
        if let Some(old) = old {
            sum = minus(sum, self.range(&old));
        }
        if let Some(new) = new {
            sum = plus(sum, self.range(&new));
        }
        to_fingerprint(sum)
    }

    fn range(&self, (net, flags): &(IpNet, CidrFlags)) -> Sum {
        let length = u32::from(net.prefix_len());
        match net {
            IpNet::V4(net) => {
                let addr = u32::from(net.network());
                self.digest(b'4', &[addr, length, flags.bits()])
            }
            IpNet::V6(net) => {
                let [a, b, c, d] = BeAddr::from(net.network()).words();
                self.digest(b'6', &[a, b, c, d, length, flags.bits()])
            }
        }
    }

    fn digest(&self, kind: u8, numbers: &[u32]) -> Sum {
        let mut digest = Sha256::new_with_prefix(self.0);
        digest.update([kind]);
        for number in numbers {
            digest.update(number.to_le_bytes());
        }
        of_fingerprint(Fingerprint(digest.finalize().into()))
    }
}

const fn plus(a: Sum, b: Sum) -> Sum {
    let [a0, a1, a2, a3] = a;
    let [b0, b1, b2, b3] = b;
    [
        a0.wrapping_add(b0),
        a1.wrapping_add(b1),
        a2.wrapping_add(b2),
        a3.wrapping_add(b3),
    ]
}

fn minus(a: Sum, b: Sum) -> Sum {
    plus(a, b.map(u64::wrapping_neg))
}

#[expect(
    clippy::little_endian_bytes,
    reason = "a layout that only this file reads"
)]
fn of_fingerprint(Fingerprint(bytes): Fingerprint) -> Sum {
    let (words, _) = bytes.as_chunks();
    let mut sum = [0; 4];
    for (number, word) in sum.iter_mut().zip(words) {
        *number = u64::from_le_bytes(*word);
    }
    sum
}

#[expect(
    clippy::little_endian_bytes,
    reason = "a layout that only this file reads"
)]
fn to_fingerprint(sum: Sum) -> Fingerprint {
    let mut bytes = [0; 32];
    for (place, number) in bytes.chunks_exact_mut(8).zip(sum) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    Fingerprint(bytes)
}

impl CompiledPolicy {
    /// The fingerprint of all entries that are stored under the policy's id. The row belongs to one
    /// pod and is not part of it.
    pub fn fingerprint(&self, key: &FingerprintKey, ids: &IdMaps) -> Fingerprint {
        key.fingerprint(&self.cidrs, &self.ports, &self.groups, ids)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        config::{OwnerGroups, PortRange, RedirectConfig},
        policy::{PodNetwork, compile},
    };

    const KEY: FingerprintKey = FingerprintKey(*b"not so secret...");

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
            let Fingerprint(digest) = compiled(config).fingerprint(&KEY, &none);
            assert_eq!(
                compiled(config).fingerprint(&KEY, &none),
                Fingerprint(digest)
            );
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
            let Fingerprint(digest) = compiled(&plain).fingerprint(&KEY, &ids);
            assert!(seen.insert(digest), "{ids:?}");
        }
        let mut flagged = compiled(&configs[1]);
        flagged.cidrs[0].1 = CidrFlags::NONE;
        assert!(seen.insert(flagged.fingerprint(&KEY, &none).0));
        let mut flagged = compiled(&configs[4]);
        flagged.ports[0].1 = PortFlags::NONE;
        assert!(seen.insert(flagged.fingerprint(&KEY, &none).0));
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
            compiled(&one).fingerprint(&KEY, &none),
            compiled(&other).fingerprint(&KEY, &none)
        );
    }

    #[test]
    fn a_replaced_range_gives_the_fingerprint_of_all_entries() {
        let none = IdMaps::default();
        let with = |nets: &[&str]| {
            let exclude = nets.iter().map(|net| net.parse().expect("a range"));
            compiled(&RedirectConfig {
                exclude: exclude.collect(),
                ..RedirectConfig::default()
            })
        };
        let (few, more) = (with(&["10.0.0.0/8"]), with(&["10.0.0.0/8", "fd00::/8"]));
        let added = more.cidrs.last().copied();
        let [before, after] = [&few, &more].map(|policy| policy.fingerprint(&KEY, &none));
        assert_eq!(KEY.replaced(before, None, added), after);
        assert_eq!(KEY.replaced(after, added, None), before);
        assert_ne!(KEY.replaced(after, None, added), before);
        let other = FingerprintKey([0; 16]);
        assert_ne!(few.fingerprint(&other, &none), before);
    }
}
