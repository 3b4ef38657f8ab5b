//! A site: a pod for many connections, with a world in which every address answers on the same ports.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use redirect_testkit::{FlowListener, Identity, PROXY_ID, Pod, Side, Worker, wait_until};

use crate::harness::{DNS_PORT, SECOND_V4, SECOND_V6, Surroundings};

/// The ports of the application and the world. Some of their neighbours are closed, some are open.
pub(super) const OPEN: [u16; 17] = [
    1, 53, 80, 443, 1000, 1001, 1002, 5000, 5001, 5002, 5003, 8080, 15001, 15006, 15008, 15108,
    65535,
];
/// The proxy's ports for outbound connections; a policy has one of them.
pub(super) const OUT_PORTS: [u16; 2] = [15001, 15101];
/// The proxy's ports for inbound connections; a policy has one of them.
pub(super) const IN_PORTS: [u16; 2] = [15006, 15106];

/// The ports at which the application and the world answer datagrams.
pub(super) const DATAGRAMS: [u16; 2] = [53, 80];

/// The role of a listener, for its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    App,
    Proxy,
    Dns,
    World,
}

/// The name of a listener: `world6:80`, `dns4:15053 datagrams`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    role: Role,
    at: SocketAddr,
    datagrams: bool,
}

impl Name {
    /// Whether the listener is the proxy's, at a port of the policy.
    pub(super) fn takes_from(&self, capture: [u16; 2]) -> bool {
        self.role == Role::Proxy && capture.contains(&self.at.port())
    }

    fn listener(&self) -> FlowListener {
        FlowListener {
            side: if self.role == Role::World {
                Side::World
            } else {
                Side::Pod
            },
            datagrams: self.datagrams,
            // The rules recognise answers of the mesh's resolver by the socket's owner.
            owner: if self.role == Role::Dns { PROXY_ID } else { 0 },
            at: self.at,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::App => "app",
            Role::Proxy => "proxy",
            Role::Dns => "dns",
            Role::World => "world",
        };
        let family = if self.at.is_ipv4() { 4 } else { 6 };
        let datagrams = if self.datagrams { " datagrams" } else { "" };
        write!(f, "{role}{family}:{}{datagrams}", self.at.port())
    }
}

/// Lists the listeners, which are the same in every site.
pub(super) fn names() -> Vec<Name> {
    let proxy: Vec<u16> = OUT_PORTS.into_iter().chain(IN_PORTS).collect();
    let app: Vec<u16> = OPEN
        .into_iter()
        .filter(|port| !proxy.contains(port))
        .collect();
    let any = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let loopback = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    let mut names = Vec::new();
    for (role, ips, ports, datagrams) in [
        (Role::App, any, app.as_slice(), false),
        (Role::App, any, &DATAGRAMS, true),
        (Role::Proxy, any, &proxy, false),
        (Role::Dns, loopback, &[DNS_PORT], false),
        (Role::Dns, loopback, &[DNS_PORT], true),
        (Role::World, any, &OPEN, false),
        (Role::World, any, &DATAGRAMS, true),
    ] {
        for &port in ports {
            names.extend(ips.map(|ip| Name {
                role,
                at: SocketAddr::new(ip, port),
                datagrams,
            }));
        }
    }
    names
}

/// The source of the world's connections to an address of the pod.
pub(super) fn world_source(to: SocketAddr) -> IpAddr {
    let text = if to.is_ipv4() {
        "10.77.0.1"
    } else {
        "fd00:77::1"
    };
    text.parse().expect(text)
}

/// A pod, and the worker that holds both ends of every flow.
#[derive(Debug)]
pub(crate) struct Site {
    pub(super) runner: Worker,
    pub(super) pod: Pod,
}

impl Site {
    pub(super) fn new(name: &str) -> Result<Self> {
        let pod = Pod::new(name)?;
        let root = pod.worker(&Identity::root())?;
        let world = pod.world().worker(&Identity::root())?;
        // Only the neighbours that exist are on the link, so that no connection waits for an ARP answer of others.
        // Every other address is behind the gateway, which answers for all of them.
        ip(
            &root,
            &format!(
                "addr add {SECOND_V4}/24 dev eth0
                 addr add {SECOND_V6}/64 dev eth0 nodad preferred_lft 0
                 route add 10.77.0.1/32 dev eth0
                 route del 10.77.0.0/24 dev eth0
                 route add fd00:77::1/128 dev eth0
                 route del fd00:77::/64 dev eth0"
            ),
        )?;
        let (v4, v6) = (Pod::V4, Pod::V6);
        ip(
            &world,
            &format!(
                "route add {v4}/32 dev eth0
                 route add {SECOND_V4}/32 dev eth0
                 route del 10.77.0.0/24 dev eth0
                 route add {v6}/128 dev eth0
                 route add {SECOND_V6}/128 dev eth0
                 route del fd00:77::/64 dev eth0
                 route add ::6/128 via {v6}
                 route add local 0.0.0.0/0 dev lo table main
                 route add local ::/0 dev lo table main"
            ),
        )?;
        // The world answers from addresses that no device has.
        let done = world.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind"])?;
        ensure!(done.is_success(), "answer from any address: {done:?}");
        let listeners: Vec<_> = names().iter().map(Name::listener).collect();
        wait_for_addresses(&root)?;
        wait_for_addresses(&world)?;
        Ok(Self {
            runner: pod.flow_runner(&listeners)?,
            pod,
        })
    }

    /// Shortens conntrack's timeouts: of closed connections, because its table would fill up, and of datagrams, because
    /// conntrack would treat one like an earlier one from the same port.
    pub(super) fn shorten_conntrack_timeouts(&self) -> Result<()> {
        let done = self.runner.run(&[
            "sh",
            "-c",
            "cd /proc/sys/net/netfilter && echo 1 | tee nf_conntrack_tcp_timeout_close \
             nf_conntrack_udp_timeout nf_conntrack_udp_timeout_stream",
        ])?;
        ensure!(done.is_success(), "shorten conntrack's timeouts: {done:?}");
        Ok(())
    }
}

impl Surroundings for Site {
    fn pod(&self) -> &Pod {
        &self.pod
    }
}

/// Waits until no address is tentative any more. Until then ip6tables drop connections that they redirect to the
/// device.
fn wait_for_addresses(worker: &Worker) -> Result<()> {
    let is_settled = || {
        let tentative = worker.run(&["ip", "-6", "-o", "addr", "show", "tentative"]);
        tentative.is_ok_and(|found| found.is_success() && found.stdout.is_empty())
    };
    ensure!(
        wait_until(Duration::from_secs(10), is_settled),
        "addresses stay tentative"
    );
    Ok(())
}

/// Runs `ip` commands, one per line.
fn ip(worker: &Worker, commands: &str) -> Result<()> {
    for command in commands.lines() {
        let argv: Vec<&str> = ["ip"]
            .into_iter()
            .chain(command.split_whitespace())
            .collect();
        let done = worker.run(&argv)?;
        ensure!(done.is_success(), "ip {}: {done:?}", command.trim());
    }
    Ok(())
}
