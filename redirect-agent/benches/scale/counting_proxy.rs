//! A proxy that counts the bytes and the connections to the API server.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use redirect_fake_apiserver::ApiServer;
use redirect_testkit::GuardedFolder;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};

/// A proxy that counts bytes and connections.
#[derive(Clone, Debug)]
pub(crate) struct CountingProxy {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
}

/// A kubeconfig for an API server behind a proxy. Dropping it removes the file.
pub(crate) struct Kubeconfig {
    pub(crate) file: PathBuf,
    _guard: GuardedFolder,
}

#[derive(Debug, Default)]
struct Seen {
    up: AtomicU64,
    down: AtomicU64,
    opened: Mutex<Vec<Instant>>,
}

impl CountingProxy {
    /// A proxy to this server. It runs until the process ends.
    pub(crate) fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let seen = Arc::<Seen>::default();
        let counted = Arc::clone(&seen);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, pass_on(listener, server, counted))
        });
        Ok(Self { address, seen })
    }

    /// A kubeconfig for this server through the proxy.
    pub(crate) fn kubeconfig(&self, server: &ApiServer) -> Result<Kubeconfig> {
        let folder = std::env::temp_dir().join(format!("redirect-scale-{}", std::process::id()));
        let guard = GuardedFolder::guard(&folder)?;
        let file = folder.join("kubeconfig");
        let text = server.kubeconfig();
        let text = text.replace(&server.address().to_string(), &self.address.to_string());
        fs::create_dir(&folder)
            .and_then(|()| fs::write(&file, text))
            .context("write a kubeconfig")?;
        Ok(Kubeconfig {
            file,
            _guard: guard,
        })
    }

    /// Bytes to the server so far.
    pub(crate) fn up(&self) -> u64 {
        self.seen.up.load(Ordering::Relaxed)
    }

    /// Bytes from the server so far.
    pub(crate) fn down(&self) -> u64 {
        self.seen.down.load(Ordering::Relaxed)
    }

    /// Times at which connections were opened.
    pub(crate) fn opened(&self) -> Vec<Instant> {
        let opened = self.seen.opened.lock();
        opened.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pass_on(
    listener: std::net::TcpListener,
    server: SocketAddr,
    seen: Arc<Seen>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        let opened = seen.opened.lock();
        opened
            .unwrap_or_else(PoisonError::into_inner)
            .push(Instant::now());
        let seen = Arc::clone(&seen);
        spawn_local(async move {
            // If the server is down, the client's connection is closed, as a balancer in front of it does.
            if let Ok(server) = TcpStream::connect(server).await {
                let (client_reads, client_writes) = client.into_split();
                let (server_reads, server_writes) = server.into_split();
                tokio::join!(
                    pump(client_reads, server_writes, &seen.up),
                    pump(server_reads, client_writes, &seen.down)
                );
            }
        });
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) {
    let mut buffer = vec![0; 16384];
    while let Ok(read) = from.read(&mut buffer).await {
        count.fetch_add(u64::try_from(read).unwrap_or_default(), Ordering::Relaxed);
        let bytes = buffer.get(..read).unwrap_or_default();
        if read == 0 || to.write_all(bytes).await.is_err() {
            break;
        }
    }
    // The other end may be gone.
    to.shutdown().await.unwrap_or_default();
}
