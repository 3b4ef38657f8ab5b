//! Policies that pods share: the key under which an existing policy is found.

/// The SHA-256 digest of all entries of a policy. Policies with equal fingerprints have the same
/// entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Fingerprint(pub [u8; 32]);

/// The name of the map from fingerprints to [`PolicyId`](super::PolicyId)s. Only user space reads
/// it. The map contains a policy as long as all entries of that policy are present.
pub const POLICIES: &str = "POLICIES";
/// The most policies that all pods of a node can have.
pub const MAX_POLICIES: u32 = 1 << 16;
