//! The records of stored policies: the fingerprint under which an equal policy is found, and the
//! number of entries.

use super::MapName;

/// A keyed digest of all entries of a policy. Policies with equal fingerprints have the same
/// entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// No policy has this fingerprint: the entries are being changed.
    pub const NONE: Self = Self([0; 32]);
}

/// The record of one policy. Only user space reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PolicyRecord {
    /// The fingerprint of the entries.
    pub fingerprint: Fingerprint,
    /// Number of IPv4 ranges.
    pub cidrs4: u32,
    /// Number of IPv6 ranges.
    pub cidrs6: u32,
    /// Number of ranges of both families that are listed as excluded, as included, or as both.
    pub listed: u32,
    /// Number of ranges that are listed as excluded.
    pub excluded: u32,
    /// Number of ranges that are listed as included.
    pub included: u32,
    /// Number of ports.
    pub ports: u32,
    /// Number of owner groups.
    pub groups: u32,
}

impl PolicyRecord {
    /// The number of entries in each map of the policy.
    #[must_use]
    pub const fn counts(&self) -> [(MapName, u32); 4] {
        [
            (MapName::Cidrs4, self.cidrs4),
            (MapName::Cidrs6, self.cidrs6),
            (MapName::Ports, self.ports),
            (MapName::Groups, self.groups),
        ]
    }
}

/// The name of the map from [`PolicyId`](super::PolicyId)s to [`PolicyRecord`]s. Only user space
/// reads it. The map contains a policy as long as all entries of that policy are present.
pub const POLICIES: &str = "POLICIES";
