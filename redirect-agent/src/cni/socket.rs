//! The unix socket of the CNI server.

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

/// A listening socket. Dropping it removes its file.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Inode of the file: when it is to be removed, another agent's file may have its path.
    inode: u64,
}

impl Socket {
    /// Listens at a path, for root alone. Creates the directory if there is none, and replaces a socket that
    /// nobody listens at. Must be called in a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self> {
        let shown = path.display();
        let listening = || format!("listen at \"{shown}\" (--cni-socket)");
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            bail!("{}: it is not the path of a file", listening());
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(listening)?;
        check_free(path).with_context(listening)?;
        // The socket gets its name when its permissions are set, so that only root can ever connect.
        let mut draft = name.to_owned();
        draft.push(".new");
        let draft = dir.join(draft);
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
            // If that fails, the next agent finds a socket that nobody listens at.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Checks that the path is free, or has a socket that nobody listens at.
fn check_free(path: &Path) -> Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context("look at the existing file"),
    };
    if !file.file_type().is_socket() {
        bail!("a file that is not a socket is there; remove it, or choose another path");
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!("another agent listens there; stop that one, or choose another path"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error).context("connect to the existing socket"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static SERIAL: AtomicU32 = AtomicU32::new(0);

    struct TempDir(PathBuf);

    impl TempDir {
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

    impl Drop for TempDir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap_or_default();
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[tokio::test]
    async fn the_socket_is_for_root_alone_and_removed_when_dropped() {
        let dir = TempDir::new();
        let socket = Socket::bind(&dir.path()).unwrap();
        assert_eq!((mode(&dir.0), mode(&dir.path())), (0o700, 0o600));
        assert_eq!(dir.files(), 1);
        assert!(UnixStream::connect(dir.path()).is_ok());
        drop(socket);
        assert_eq!(dir.files(), 0);
    }

    #[tokio::test]
    async fn a_dead_agents_socket_is_replaced_and_a_live_ones_is_not() {
        let dir = TempDir::new();
        let live = Socket::bind(&dir.path()).unwrap();
        let error = format!("{:#}", Socket::bind(&dir.path()).unwrap_err());
        assert!(error.contains("another agent listens there"), "{error}");
        drop(live);
        // Killed agents leave these files: a socket, and one that did not get its name yet.
        drop(std::os::unix::net::UnixListener::bind(dir.path()).unwrap());
        drop(std::os::unix::net::UnixListener::bind(dir.0.join("cni.sock.new")).unwrap());
        let next = Socket::bind(&dir.path()).unwrap();
        assert!(UnixStream::connect(dir.path()).is_ok());
        drop(next);
        assert_eq!(dir.files(), 0);
    }

    #[tokio::test]
    async fn foreign_files_are_left_alone() {
        let dir = TempDir::new();
        fs::create_dir(&dir.0).unwrap();
        fs::write(dir.path(), "mine").unwrap();
        let error = format!("{:#}", Socket::bind(&dir.path()).unwrap_err());
        assert!(error.contains("a file that is not a socket"), "{error}");
        assert_eq!(fs::read_to_string(dir.path()).unwrap(), "mine");
        fs::remove_file(dir.path()).unwrap();
        let socket = Socket::bind(&dir.path()).unwrap();
        fs::remove_file(dir.path()).unwrap();
        fs::write(dir.path(), "mine").unwrap();
        drop(socket);
        assert_eq!(fs::read_to_string(dir.path()).unwrap(), "mine");
    }
}
