//! The built-in proxy over real sockets on loopback. Only the original destination is injected, in place of the
//! kernel's answer.
#![expect(
    clippy::panic_in_result_fn,
    reason = "a failed assertion fails the test"
)]

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::mpsc,
    time::Duration,
};

use redirectctl::proxy::{Ending, Mode, Proxy, Record, Registry, Totals, listen};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

const LONG: Duration = Duration::from_secs(20);

type Outcome = anyhow::Result<()>;
type Origin = io::Result<SocketAddr>;

struct Running {
    address: SocketAddr,
    records: mpsc::Receiver<Record>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<Totals>>,
}

impl Running {
    async fn end(self) -> anyhow::Result<(Totals, Vec<Record>)> {
        drop(self.stop);
        let totals = timeout(LONG, self.task).await???;
        Ok((totals, self.records.iter().collect()))
    }
}

fn start(
    mode: Mode,
    origin: impl Fn(&TcpStream) -> Origin + Send + Sync + 'static,
) -> anyhow::Result<Running> {
    let listener = StdListener::bind("127.0.0.1:0")?;
    start_on(listener, mode, origin)
}

fn start_on(
    listener: StdListener,
    mode: Mode,
    origin: impl Fn(&TcpStream) -> Origin + Send + Sync + 'static,
) -> anyhow::Result<Running> {
    let address = listener.local_addr()?;
    let (sender, records) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let log = move |record: &Record| drop(sender.send(record.clone()));
    let proxy = Proxy::new(mode, log)
        .with_origin(origin)
        .with_grace(Duration::from_millis(200));
    let task = tokio::spawn(proxy.serve(listener, async { drop(stopped.await) }));
    Ok(Running {
        address,
        records,
        stop,
        task,
    })
}

/// Bytes that differ by position, so that a gap or a swap is found.
fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let byte = |at: u32| u8::try_from(at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24);
    (0_u32..)
        .take(length)
        .map(|at| byte(at).unwrap_or_default())
        .collect()
}

#[tokio::test]
async fn a_megabyte_passes_in_each_direction_with_half_close() -> Outcome {
    let (request, response) = (pattern(1 << 20, 1), pattern(1 << 20, 2));
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let destination = server.local_addr()?;
    let proxy = start(Mode::AllowAny, move |_| Ok(destination))?;

    // The server answers only after the end of the request.
    let (expected, answer) = (request.clone(), response.clone());
    let serving = tokio::spawn(async move {
        let (mut stream, _) = server.accept().await?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await?;
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        io::Result::Ok(got == expected)
    });
    let mut client = TcpStream::connect(proxy.address).await?;
    let peer = client.local_addr()?;
    client.write_all(&request).await?;
    client.shutdown().await?;
    let mut got = Vec::new();
    timeout(LONG, client.read_to_end(&mut got)).await??;
    assert!(got == response, "{} bytes of the response", got.len());
    assert!(serving.await??, "the request is complete");

    let (totals, records) = proxy.end().await?;
    assert_eq!(
        totals,
        Totals {
            forwarded: 1,
            ..Totals::default()
        }
    );
    let expected = Record {
        ending: Ending::Forwarded,
        peer,
        original_destination: Some(destination),
        sent: 1 << 20,
        received: 1 << 20,
        reason: None,
    };
    assert_eq!(records, [expected]);
    Ok(())
}

#[tokio::test]
async fn the_server_may_finish_first_and_still_receive() -> Outcome {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let destination = server.local_addr()?;
    let proxy = start(Mode::AllowAny, move |_| Ok(destination))?;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = server.accept().await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await?;
        io::Result::Ok(got)
    });
    let mut client = TcpStream::connect(proxy.address).await?;
    let mut got = Vec::new();
    timeout(LONG, client.read_to_end(&mut got)).await??;
    assert_eq!(got, b"hello");
    client.write_all(b"late").await?;
    client.shutdown().await?;
    assert_eq!(serving.await??, b"late");
    let (_, records) = proxy.end().await?;
    assert_eq!((records[0].sent, records[0].received), (4, 5));
    Ok(())
}

/// Dials the proxy and reads until the connection is closed or reset.
async fn dial(address: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let mut client = TcpStream::connect(address).await?;
    let mut got = Vec::new();
    match timeout(LONG, client.read_to_end(&mut got)).await? {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error.into()),
        _ => Ok(got),
    }
}

#[tokio::test]
async fn an_unregistered_destination_is_blackholed() -> Outcome {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let destination = server.local_addr()?;
    let registry = Registry::parse(&format!("127.0.0.1:{}", destination.port().wrapping_add(1)))?;
    let proxy = start(Mode::RegistryOnly(registry), move |_| Ok(destination))?;
    assert_eq!(dial(proxy.address).await?, b"");
    let (totals, records) = proxy.end().await?;
    assert_eq!(
        totals,
        Totals {
            blackholed: 1,
            ..Totals::default()
        }
    );
    assert_eq!(records[0].original_destination, Some(destination));
    assert_eq!(records[0].reason.as_deref(), Some("not registered"));
    assert!(
        timeout(Duration::from_millis(50), server.accept())
            .await
            .is_err(),
        "the proxy has not dialled"
    );
    Ok(())
}

#[tokio::test]
async fn a_registered_destination_is_forwarded() -> Outcome {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let destination = server.local_addr()?;
    let registry = Registry::parse(&format!("127.0.0.0/8:{}", destination.port()))?;
    let proxy = start(Mode::RegistryOnly(registry), move |_| Ok(destination))?;
    let serving = tokio::spawn(async move { server.accept().await?.0.write_all(b"hi").await });
    assert_eq!(dial(proxy.address).await?, b"hi");
    serving.await??;
    assert_eq!(proxy.end().await?.0.forwarded, 1);
    Ok(())
}

#[tokio::test]
async fn a_refused_destination_is_named_with_its_cause() -> Outcome {
    let destination = StdListener::bind("127.0.0.1:0")?.local_addr()?;
    let proxy = start(Mode::AllowAny, move |_| Ok(destination))?;
    assert_eq!(dial(proxy.address).await?, b"");
    let (totals, records) = proxy.end().await?;
    assert_eq!(totals.refused, 1);
    let reason = records[0].reason.clone().unwrap_or_default();
    assert!(
        reason.starts_with("connect: Connection refused"),
        "{reason}"
    );
    Ok(())
}

#[tokio::test]
async fn a_connection_that_was_not_redirected_is_closed() -> Outcome {
    let proxy = start(Mode::AllowAny, TcpStream::local_addr)?;
    assert_eq!(dial(proxy.address).await?, b"");
    let (totals, records) = proxy.end().await?;
    assert_eq!(totals.loops, 1);
    assert_eq!(
        records[0].reason.as_deref(),
        Some("dialled directly, not redirected")
    );
    Ok(())
}

#[tokio::test]
async fn a_connection_without_original_destination_is_closed() -> Outcome {
    let proxy = start(Mode::AllowAny, |_| Err(io::Error::other("no record")))?;
    assert_eq!(dial(proxy.address).await?, b"");
    let (totals, records) = proxy.end().await?;
    assert_eq!(totals.unknown, 1);
    assert_eq!(records[0].original_destination, None);
    assert_eq!(
        records[0].reason.as_deref(),
        Some("read SO_ORIGINAL_DST: no record")
    );
    Ok(())
}

#[tokio::test]
async fn a_proxy_whose_connections_come_back_stops_soon() -> Outcome {
    // A connection to 0.0.0.0 arrives at 127.0.0.1, which is not the dialled address, as after a redirection.
    let listener = listen(0)?;
    let destination = SocketAddr::from(([0, 0, 0, 0], listener.local_addr()?.port()));
    let mut proxy = start_on(listener, Mode::AllowAny, move |_| Ok(destination))?;
    proxy.address = SocketAddr::from(([127, 0, 0, 1], destination.port()));
    assert_eq!(dial(proxy.address).await?, b"");
    let (totals, records) = proxy.end().await?;
    assert_eq!(
        totals,
        Totals {
            loops: 5,
            ..Totals::default()
        },
        "{records:?}"
    );
    assert!(records.iter().all(|record| {
        record
            .reason
            .as_deref()
            .is_some_and(|reason| reason.contains("-u"))
    }));
    Ok(())
}

#[tokio::test]
async fn one_listener_serves_both_families() -> Outcome {
    let listener = listen(0)?;
    let port = listener.local_addr()?.port();
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let destination = server.local_addr()?;
    let mut proxy = start_on(listener, Mode::AllowAny, move |_| Ok(destination))?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            drop(stream.write_all(b"hi").await);
        }
    });
    for address in ["127.0.0.1", "::1"] {
        proxy.address = SocketAddr::new(address.parse()?, port);
        assert_eq!(dial(proxy.address).await?, b"hi", "{address}");
    }
    let (_, records) = proxy.end().await?;
    assert!(
        records[0].peer.is_ipv4(),
        "an IPv4-mapped peer is shown as IPv4"
    );
    assert!(records[1].peer.is_ipv6());
    Ok(())
}

#[tokio::test]
async fn a_stop_cuts_off_and_logs_open_connections() -> Outcome {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let destination = server.local_addr()?;
    let proxy = start(Mode::AllowAny, move |_| Ok(destination))?;
    let mut client = TcpStream::connect(proxy.address).await?;
    client.write_all(b"ping").await?;
    let (mut stream, _) = server.accept().await?;
    let mut got = [0; 4];
    stream.read_exact(&mut got).await?;
    let (totals, records) = proxy.end().await?;
    assert_eq!(totals.forwarded, 1);
    assert_eq!(
        (records[0].sent, records[0].reason.as_deref()),
        (4, Some("stopped"))
    );
    assert!(
        timeout(LONG, client.read(&mut got))
            .await?
            .is_ok_and(|count| count == 0)
    );
    Ok(())
}
