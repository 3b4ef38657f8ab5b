//! Files that commands read; `-` is standard input.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};

/// Reads the text of a file.
pub(super) fn read(file: &Path) -> Result<String> {
    let text = if file.as_os_str() == "-" {
        io::read_to_string(io::stdin())
    } else {
        fs::read_to_string(file)
    };
    text.with_context(|| format!("read {}", name(file)))
}

/// The name of the file in messages.
pub(super) fn name(file: &Path) -> String {
    if file.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        format!("\"{}\"", file.display())
    }
}
