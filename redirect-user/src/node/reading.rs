//! Consistent reading without a lock: what has changed while it was read is read again.
//!
//! A reader takes no lock, so that a slow one stops nobody. Writers count the beginnings and ends of their changes
//! in `META`, and a reader compares the count before and after.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, thread, time::Duration};

use anyhow::Result;

use super::reader::Reader;
use crate::sys::dir_lock::DirLock;

/// The pauses between attempts to read, in milliseconds: half a second together.
const PAUSES: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// The identity of a state, and its count of changes.
#[derive(PartialEq, Eq)]
struct Generation {
    /// The inode of the pin of `META`.
    pin: Option<u64>,
    changes: u32,
}

impl Reader {
    /// Calls `read` with the state in a state directory, again until no writer has changed the state
    /// meanwhile. `None` if there is no state. If writers change it all the time, the last call of `read`
    /// holds the lock, so `read` must neither print nor wait.
    #[expect(
        clippy::disallowed_methods,
        reason = "no event tells that a writer has ended its change"
    )]
    pub fn read<T>(
        state_dir: &Path,
        mut read: impl FnMut(&Self) -> Result<T>,
    ) -> Result<Option<T>> {
        for pause in PAUSES {
            let Some(reader) = Self::open(state_dir)? else {
                return Ok(None);
            };
            let before = reader.generation()?;
            // A count that is odd without a lock is that of a writer that was killed, and stays.
            let is_quiet = before.changes.is_multiple_of(2) || !DirLock::is_held(state_dir)?;
            if is_quiet {
                let result = read(&reader);
                if reader.generation()? == before {
                    return result.map(Some);
                }
            }
            thread::sleep(Duration::from_millis(pause));
        }
        let Some(_lock) = DirLock::shared(state_dir, DirLock::PATIENCE)? else {
            return Ok(None);
        };
        match Self::open(state_dir)? {
            Some(reader) => read(&reader).map(Some),
            None => Ok(None),
        }
    }

    fn generation(&self) -> Result<Generation> {
        let pin = fs::metadata(self.pins().meta()).ok();
        Ok(Generation {
            pin: pin.map(|pin| pin.ino()),
            changes: self.maps().meta()?.changes,
        })
    }
}
