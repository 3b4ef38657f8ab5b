//! The state of the redirector as a whole, stored in the map `META`.

/// The state of the redirector as a whole: numbering, changes in progress, and the pinned build.
/// Only user space reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Meta {
    /// The number that was assigned last as a row's serial.
    pub last_number: u32,
    /// A count of the beginnings and ends of changes, so that it is odd while a change is in progress. If
    /// the next writer finds it odd, the previous one was killed and may have left entries to collect. A
    /// reader that finds another count after reading has read parts of two states.
    pub changes: u32,
    /// The build that the pinned programs are of: the first bytes of the digest of its object.
    /// Builds with the same layout can take over from each other.
    pub build: u64,
    /// A random key that no pod knows, so that no pod can choose entries whose
    /// [`Fingerprint`](super::Fingerprint) is that of another policy.
    pub fingerprint_key: [u8; 16],
}

impl Meta {
    /// Whether a change is in progress, or was interrupted.
    #[must_use]
    pub const fn is_changing(self) -> bool {
        self.changes % 2 == 1
    }

    /// The same state at the beginning of a change, or at its end. The count moves even if it is as odd
    /// as that of an interrupted change before.
    #[must_use]
    pub const fn marked(self, is_changing: bool) -> Self {
        let step = if self.is_changing() == is_changing {
            2
        } else {
            1
        };
        Self {
            changes: self.changes.wrapping_add(step),
            ..self
        }
    }
}

/// The name of the map that holds [`Meta`].
pub const META: &str = "META";
