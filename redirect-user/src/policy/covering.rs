//! The inheritance of flags from prefixes to the prefixes they contain.
//!
//! The chain asks whether the destination is in any excluded range, but the trie answers with its
//! longest prefix only. So each prefix stores the union of the flags of all prefixes that contain
//! it, and one lookup gives the exact answer. Only the flags about the route are those of the
//! longest prefix alone.

use std::collections::BTreeMap;

use ipnet::IpNet;
use redirect_common::abi::CidrFlags;

/// The prefixes in address order, with the flags to store for each.
pub(super) fn inherit_flags(
    written: impl IntoIterator<Item = (IpNet, CidrFlags)>,
) -> Vec<(IpNet, CidrFlags)> {
    // A prefix sorts right before everything that it contains: by address, then by length.
    let mut own = BTreeMap::<IpNet, CidrFlags>::new();
    for (net, flags) in written {
        let entry = own.entry(net.trunc()).or_default();
        *entry = entry.or(flags);
    }
    let mut containing = Vec::<(IpNet, CidrFlags)>::new();
    own.into_iter()
        .map(|(net, own)| {
            while containing
                .last()
                .is_some_and(|(outer, _)| !outer.contains(&net))
            {
                containing.pop();
            }
            let effective = containing
                .last()
                .map_or(own, |(_, outer)| own.inside(*outer));
            containing.push((net, effective));
            let stored = CidrFlags::stored(effective, own, net.prefix_len());
            (net, stored)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_net() -> impl Strategy<Value = IpNet> {
        // Few distinct bits, so that ranges nest and overlap.
        prop_oneof![
            (any::<[bool; 4]>(), 0_u8..=32).prop_map(|(bits, length)| {
                let octets = bits.map(|bit| if bit { 0xa5 } else { 0x5a });
                IpNet::new(octets.into(), length).expect("a length up to 32")
            }),
            (any::<[bool; 2]>(), 0_u8..=128).prop_map(|(bits, length)| {
                let octets: [u8; 16] =
                    std::array::from_fn(|i| if bits[i % 2] { 0xa5 } else { 0x5a });
                IpNet::new(octets.into(), length).expect("a length up to 128")
            }),
        ]
    }

    fn any_flags() -> impl Strategy<Value = CidrFlags> {
        prop_oneof![
            Just(CidrFlags::EXCLUDED),
            Just(CidrFlags::INCLUDED),
            Just(CidrFlags::BY_EXCLUDED),
            Just(CidrFlags::BY_OTHER),
        ]
    }

    proptest! {
        #[test]
        fn the_longest_prefix_has_the_flags_of_every_prefix(
            written in prop::collection::vec((any_net(), any_flags()), 0..24),
            at in any_net(),
        ) {
            let closed = inherit_flags(written.clone());
            let addr = IpNet::from(at.addr());
            let longest = closed
                .iter()
                .filter(|(net, _)| net.contains(&addr))
                .max_by_key(|(net, _)| net.prefix_len())
                .map_or(CidrFlags::NONE, |(_, flags)| *flags);
            let every = written
                .iter()
                .filter(|(net, _)| net.contains(&addr))
                .fold(CidrFlags::NONE, |all, (_, flags)| all.or(*flags));
            prop_assert_eq!(longest.excluded(), every.excluded());
            prop_assert_eq!(longest.included(), every.included());
            let is_route = |flags: &CidrFlags| flags.is_by_excluded() || flags.is_by_other();
            let lengths = written
                .iter()
                .filter(|(net, flags)| net.contains(&addr) && is_route(flags))
                .map(|(net, _)| net.prefix_len());
            let routed = lengths.max().map_or(CidrFlags::NONE, |length| {
                written
                    .iter()
                    .filter(|(net, flags)| {
                        net.contains(&addr) && net.prefix_len() == length && is_route(flags)
                    })
                    .fold(CidrFlags::NONE, |all, (_, flags)| all.or(*flags))
            });
            prop_assert_eq!(longest.is_by_excluded(), routed.is_by_excluded());
            prop_assert_eq!(longest.is_by_other(), routed.is_by_other());
        }

        #[test]
        fn written_flags_are_read_back(
            written in prop::collection::vec((any_net(), any_flags()), 0..24),
        ) {
            let closed = inherit_flags(written.clone());
            for flag in [CidrFlags::EXCLUDED, CidrFlags::INCLUDED] {
                let mut before: Vec<_> = written.iter().filter(|(_, f)| *f == flag).map(|(n, _)| n.trunc()).collect();
                before.sort_unstable();
                before.dedup();
                let after: Vec<_> = closed
                    .iter()
                    .filter(|(_, f)| f.own().or(flag) == f.own())
                    .map(|(n, _)| *n)
                    .collect();
                prop_assert_eq!(before, after);
            }
        }
    }
}
