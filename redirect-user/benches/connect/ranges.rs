//! Excluded ranges like those of operators: mostly networks of offices, clouds and single hosts.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};

use crate::random::Random;

/// Prefix lengths, and how many of a hundred ranges have each.
const MIX: [(u8, usize); 7] = [
    (12, 2),
    (16, 13),
    (20, 15),
    (22, 10),
    (24, 35),
    (28, 10),
    (32, 15),
];

/// `count` different ranges, none of which contains `spared` or a loopback address.
pub(crate) fn ranges(count: u32, seed: u64, spared: IpAddr) -> Vec<IpNet> {
    let mut random = Random::new(seed);
    let mut seen = BTreeSet::new();
    let mut ranges = Vec::new();
    while ranges.len() < count as usize {
        let net = IpNet::V4(range(&mut random));
        if !net.contains(&spared) && !net.addr().is_loopback() && seen.insert(net) {
            ranges.push(net);
        }
    }
    ranges
}

fn range(random: &mut Random) -> Ipv4Net {
    let mut draw = random.below(100);
    let mut length = 32;
    for (candidate, share) in MIX {
        if draw < share {
            length = candidate;
            break;
        }
        draw -= share;
    }
    // 1.0.0.0 to 223.255.255.255 can be routed.
    let [b, c, d] = std::array::from_fn(|_| octet(random.below(256)));
    let first = octet(1 + random.below(223));
    Ipv4Net::new_assert(Ipv4Addr::new(first, b, c, d), length).trunc()
}

fn octet(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
