//! The pool of loopback addresses over which redirected IPv4 connections without a stand-in are
//! distributed.
//!
//! A connection to one address and port needs a source port of its own: 28,232 with the default
//! range. A proxy that listens on the wildcard address accepts connections at all of 127/8, so each
//! further address adds another range of source ports.

use core::net::Ipv4Addr;

use crate::net::BeAddr;

/// The number of addresses, a power of two: 450,000 source ports, for more connections than a pod's
/// memory has room for. The kernel keeps some state per address, so thousands of addresses would
/// make connecting slower.
pub const SIZE: u8 = 16;
/// The first address of the pool, a multiple of [`SIZE`]. Neither 127.0.0.1, nor Istio's 127.0.0.6,
/// nor a name server's 127.53/16 is near.
pub const FIRST: Ipv4Addr = Ipv4Addr::new(127, 128, 0, 16);

/// The address for a number. Evenly distributed numbers give evenly distributed addresses.
#[must_use]
pub fn address(number: u32) -> BeAddr {
    const MASK: u8 = SIZE - 1;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only the lowest bits are used"
    )]
    let offset = number as u8 & MASK;
    let [a, b, c, first] = FIRST.octets();
    Ipv4Addr::new(a, b, c, first | offset).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_the_pool_is_a_loopback_address() {
        let mut seen = [false; 256];
        for number in (0..1000).chain([u32::MAX]) {
            let addr = address(number);
            assert!(addr.is_v4() && addr.is_loopback() && !addr.is_not_unicast());
            assert!(!addr.same(BeAddr::LOOPBACK4) && !addr.same(BeAddr::PASSTHROUGH4));
            let [.., last] = addr.octets();
            seen[usize::from(last)] = true;
        }
        let count = seen.into_iter().filter(|seen| *seen).count();
        assert_eq!(count, usize::from(SIZE));
    }
}
