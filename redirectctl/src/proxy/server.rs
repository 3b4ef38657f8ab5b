//! The listening socket, and accepting connections.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use super::{
    connection::handle,
    record::Record,
    shared::{Mode, Shared, Totals},
};

/// The number of connections that may wait for `accept`.
const BACKLOG: i32 = 4096;
/// The time that open connections have after a stop.
const GRACE: Duration = Duration::from_secs(2);

/// The forwarder.
pub struct Proxy {
    shared: Shared,
    grace: Duration,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shared, grace } = self;
        f.debug_struct("Proxy")
            .field("mode", &shared.mode)
            .field("grace", grace)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// Makes a proxy that calls `log` at the end of every connection.
    pub fn new(mode: Mode, log: impl FnMut(&Record) + Send + 'static) -> Self {
        Self {
            shared: Shared::new(mode, log),
            grace: GRACE,
        }
    }

    /// Takes original destinations from `origin` instead of the kernel.
    #[must_use]
    pub fn with_origin(
        mut self,
        origin: impl Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        self.shared.origin = Box::new(origin);
        self
    }

    /// Sets the time that open connections have after a stop.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Serves until `stop` is ready. Then accepts no more connections, gives open ones a short time to finish, and cuts
    /// off the rest.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send,
    ) -> io::Result<Totals> {
        let Self { shared, grace } = self;
        let shared = Arc::new(shared);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut connections = JoinSet::new();
        let mut full = false;
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => full = false,
                accepted = listener.accept(), if !full => match accepted {
                    Ok((peer, from)) => {
                        connections.spawn(handle(Arc::clone(&shared), peer, from));
                    }
                    Err(error) if is_about_the_peer(&error) => {}
                    // Out of descriptors or memory: accept again when a connection has ended.
                    Err(_) if !connections.is_empty() => full = true,
                    Err(error) => return Err(error),
                },
            }
        }
        drop(listener);
        let finish = async { while connections.join_next().await.is_some() {} };
        if timeout(grace, finish).await.is_err() {
            connections.shutdown().await;
        }
        Ok(shared.totals())
    }
}

/// Whether `accept` failed for one connection only: it returns the error of that connection.
fn is_about_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
        PermissionDenied,
    };
    [
        ConnectionAborted,
        HostUnreachable,
        Interrupted,
        NetworkDown,
        NetworkUnreachable,
        PermissionDenied,
    ]
    .contains(&error.kind())
}

/// Listens on `[::]:port` for both families, or on `0.0.0.0:port` on a machine without IPv6.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let bind = |domain, address: SocketAddr| -> io::Result<TcpListener> {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    match bind(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            bind(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into())
        }
        other => other,
    }
}
