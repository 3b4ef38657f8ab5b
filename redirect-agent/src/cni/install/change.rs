//! Replacing a file atomically.

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// A file that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The change, as a verb.
    pub verb: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// Replaces the contents of a file atomically.
pub(super) fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let writing = || format!("write \"{}\"", path.display());
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{}: it is not the path of a file", writing());
    };
    // Runtimes read no file with this extension.
    let mut draft = name.to_owned();
    draft.push(".redirect-agent");
    let draft = dir.join(draft);
    let write = || {
        let mut file = File::create(&draft)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(dir)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        fs::remove_file(&draft).unwrap_or_default();
    }
    written.with_context(writing)
}
