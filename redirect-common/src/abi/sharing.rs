//! Policies that pods share: key of the map that they are found in again.

/// What tells whether two policies have the same entries: the SHA-256 digest of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Fingerprint(pub [u8; 32]);

/// The name of the map from fingerprints to [`PolicyId`](super::PolicyId)s. Only user space reads it. A
/// policy is in it as long as it is whole.
pub const POLICIES: &str = "POLICIES";
/// The most policies that all pods of a node can have.
pub const MAX_POLICIES: u32 = 1 << 16;
