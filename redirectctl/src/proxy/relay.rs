//! Copying between two connections until both directions have finished.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

/// The numbers of copied bytes. They can be read during the copy and after it was cut off.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

/// The size of a copy's buffer.
const BUFFER: usize = 32 * 1024;

/// Copies in both directions. The end of one direction shuts down only that direction. An error in either direction
/// ends both.
pub(crate) async fn relay(
    mut peer: TcpStream,
    mut upstream: TcpStream,
    copied: &Copied,
) -> io::Result<()> {
    let (from_peer, to_peer) = peer.split();
    let (from_upstream, to_upstream) = upstream.split();
    tokio::try_join!(
        copy(from_peer, to_upstream, &copied.sent),
        copy(from_upstream, to_peer, &copied.received),
    )?;
    Ok(())
}

async fn copy(
    mut from: impl AsyncRead + Unpin + Send,
    mut to: impl AsyncWrite + Unpin + Send,
    copied: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return match to.shutdown().await {
                // The other side has closed both directions already.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                other => other,
            };
        };
        to.write_all(bytes).await?;
        copied.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Relaxed);
    }
}
