//! A descriptor of a network namespace, in the form in which other parts of the program pass it on.

use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    sync::Arc,
};

use anyhow::{Context as _, Result};

/// A descriptor of an open network namespace. Clones share it.
#[derive(Clone, Debug)]
pub struct NetnsFile {
    file: Arc<File>,
    inode: u64,
}

impl NetnsFile {
    /// Opens the network namespace of the current thread.
    pub(super) fn current() -> Result<Self> {
        let open = || -> std::io::Result<Self> {
            let file = File::open("/proc/thread-self/ns/net")?;
            let inode = file.metadata()?.ino();
            Ok(Self {
                file: Arc::new(file),
                inode,
            })
        };
        open().context("open it")
    }

    /// The inode of the namespace's file, which is the same for every process in the namespace.
    pub const fn inode(&self) -> u64 {
        self.inode
    }
}

impl AsFd for NetnsFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl PartialEq for NetnsFile {
    fn eq(&self, other: &Self) -> bool {
        self.inode == other.inode
    }
}

impl Eq for NetnsFile {}
