//! The socket that the plugin finds the agent at.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind},
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use tokio::net::UnixListener;

use crate::accept::Listener;

/// A listening socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// The file's inode: by the time it is to be removed it may be another agent's.
    inode: u64,
}

impl Socket {
    /// Listens at a path, for root alone. The folder is made if there is none; a socket that nobody
    /// listens at any more is replaced. Has to be called in a runtime.
    pub fn bind(path: &Path) -> Result<Self> {
        let shown = path.display();
        let listening = || format!("listen at \"{shown}\" (--cni-socket)");
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            bail!("{}: it is not the path of a file", listening());
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(listening)?;
        check_free(path).with_context(listening)?;
        // It appears under its name when it is whole: nobody but root ever finds it open.
        let mut draft = name.to_owned();
        draft.push(".new");
        let draft = folder.join(draft);
        if draft.symlink_metadata().is_ok() {
            fs::remove_file(&draft).with_context(listening)?;
        }
        let listener = UnixListener::bind(&draft).with_context(listening)?;
        let inode = fs::set_permissions(&draft, Permissions::from_mode(0o600))
            .and_then(|()| fs::metadata(&draft))
            .and_then(|draft_file| fs::rename(&draft, path).map(|()| draft_file.ino()))
            .with_context(listening)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            inode,
        })
    }
}

impl Listener for Socket {
    const PEER: &'static str = "the CNI plugin";
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        let (stream, _) = self.listener.accept().await?;
        Ok(stream)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_own = fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if is_own {
            // If it cannot be, the next agent finds that nobody listens there.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Whether there is nothing, or a socket that nobody listens at.
fn check_free(path: &Path) -> Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context("look what is there"),
    };
    if !file.file_type().is_socket() {
        bail!("there is a file that is no socket: remove it, or choose another path");
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!("another agent listens there: stop that one, or choose another path"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error).context("ask who listens there"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static SERIAL: AtomicU32 = AtomicU32::new(0);

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let name = format!("redirect-cni-socket-{}-{serial}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn path(&self) -> PathBuf {
            self.0.join("cni.sock")
        }

        fn files(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap_or_default();
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[tokio::test]
    async fn the_socket_is_for_root_alone_and_removed_when_dropped() {
        let folder = Folder::new();
        let socket = Socket::bind(&folder.path()).unwrap();
        assert_eq!((mode(&folder.0), mode(&folder.path())), (0o700, 0o600));
        assert_eq!(folder.files(), 1);
        assert!(UnixStream::connect(folder.path()).is_ok());
        drop(socket);
        assert_eq!(folder.files(), 0);
    }

    #[tokio::test]
    async fn a_dead_agents_socket_is_replaced_and_a_live_ones_is_not() {
        let folder = Folder::new();
        let live = Socket::bind(&folder.path()).unwrap();
        let error = format!("{:#}", Socket::bind(&folder.path()).unwrap_err());
        assert!(error.contains("another agent listens there"), "{error}");
        drop(live);
        // As if it had been killed: the file stays, also that of a socket that was never finished.
        drop(std::os::unix::net::UnixListener::bind(folder.path()).unwrap());
        drop(std::os::unix::net::UnixListener::bind(folder.0.join("cni.sock.new")).unwrap());
        let next = Socket::bind(&folder.path()).unwrap();
        assert!(UnixStream::connect(folder.path()).is_ok());
        drop(next);
        assert_eq!(folder.files(), 0);
    }

    #[tokio::test]
    async fn foreign_files_are_left_alone() {
        let folder = Folder::new();
        fs::create_dir(&folder.0).unwrap();
        fs::write(folder.path(), "mine").unwrap();
        let error = format!("{:#}", Socket::bind(&folder.path()).unwrap_err());
        assert!(error.contains("a file that is no socket"), "{error}");
        assert_eq!(fs::read_to_string(folder.path()).unwrap(), "mine");
        fs::remove_file(folder.path()).unwrap();
        let socket = Socket::bind(&folder.path()).unwrap();
        fs::remove_file(folder.path()).unwrap();
        fs::write(folder.path(), "mine").unwrap();
        drop(socket);
        assert_eq!(fs::read_to_string(folder.path()).unwrap(), "mine");
    }
}
