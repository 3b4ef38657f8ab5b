//! Errors and files of the kernel in readable form.

use std::{fs, io};

use anyhow::Error;
use rustix::io::Errno;

/// The text of a file in /proc or /sys, if it can be read.
pub(super) fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Whether the cause of an error is EPERM. (EACCES is the verifier's error for a bad program.)
pub(super) fn is_denied(error: &Error) -> bool {
    error.chain().any(|cause| {
        let plain = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        let errno = cause
            .downcast_ref::<Errno>()
            .map(|errno| errno.raw_os_error());
        plain.or(errno) == Some(Errno::PERM.raw_os_error())
    })
}

/// The text of an error with its causes.
pub(super) fn chain(error: &Error) -> String {
    format!("{error:#}")
}
