//! A pod where everybody serves, and who dials in it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context as _, Result};
use redirect_common::facts::Owner;
use redirect_iptables::rules::Family;
use redirect_testkit::{
    Behaviour, Identity, PROXY_ID, Pod, Serve, Worker, WorkerCgroup, iptables::Backend,
};

use crate::{Tested, kernel::saved};

/// Where the world serves.
pub(super) const WORLD: [&str; 4] = [
    "36.152.44.96",
    "203.0.113.10",
    "2001:db8:1::9",
    "2001:db8::9",
];
/// Its ports, also of datagrams.
pub(super) const WORLD_PORTS: [u16; 2] = [80, 53];
/// Where the application serves.
pub(super) const APP_PORTS: [u16; 2] = [8080, 5555];
/// Where redirected connections are answered, besides at those ports of the pod that are the
/// world's.
const PROXY_PORTS: [u16; 3] = [15001, 15006, 15053];
/// The first port that datagrams come from: below those that the kernel chooses.
const FIRST_SOURCE: u16 = 20_000;

/// A pod where everybody serves, and who dials: the name of a server is its port's if it is the
/// proxy's.
pub(super) struct Scene {
    pub(super) dialling: Vec<(Owner, Worker)>,
    root: Worker,
    pub(super) world: Worker,
    proxy: Worker,
    next_source: AtomicU16,
    pub(super) pod: Pod,
}

impl Scene {
    pub(super) fn new(name: &str) -> Result<Self> {
        let pod = Pod::new(name)?;
        for address in WORLD {
            pod.world().add_address(address.parse()?)?;
        }
        let owners = [(1000, 1000), (1000, 2000), (PROXY_ID, PROXY_ID), (0, 0)];
        let dialling = owners.into_iter().map(|(uid, gid)| {
            let identity = Identity {
                uid,
                gid,
                ..Identity::app()
            };
            Ok((Owner { uid, gid }, pod.worker(&identity)?))
        });
        let scene = Self {
            dialling: dialling.collect::<Result<_>>()?,
            root: pod.worker(&Identity::root().cgroup(WorkerCgroup::Inherited))?,
            world: pod.world().worker(&Identity::root())?,
            proxy: pod.worker(&Identity::proxy())?,
            next_source: AtomicU16::new(FIRST_SOURCE),
            pod,
        };
        scene.serve()?;
        Ok(scene)
    }

    fn serve(&self) -> Tested {
        let any = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        // A name is a worker's own, so it has a second part.
        let tcp = |name: &str, port| Serve::new(&format!("{name} {port}"), any(port)).dual_stack();
        let (_, app) = self.dialling.first().context("an application")?;
        for port in WORLD_PORTS {
            self.world.serve(&tcp("direct", port))?;
            self.root.serve(&tcp(&port.to_string(), port))?;
        }
        for port in APP_PORTS {
            app.serve(&tcp("direct", port))?;
        }
        for port in PROXY_PORTS {
            self.proxy.serve(&tcp(&port.to_string(), port))?;
        }
        for address in WORLD {
            let at = SocketAddr::new(address.parse()?, 53);
            let udp = Serve::new(&format!("direct {address}"), at);
            self.world.serve(&udp.behaviour(Behaviour::Udp))?;
        }
        for address in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            let udp = Serve::new(&format!("15053 {address}"), SocketAddr::new(address, 15053));
            self.proxy.serve(&udp.behaviour(Behaviour::Udp))?;
        }
        Ok(())
    }

    /// Where no datagram has come from yet.
    pub(super) fn fresh_source(&self, family: Family) -> SocketAddr {
        let any = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(any, self.next_source.fetch_add(1, Ordering::Relaxed))
    }

    /// All tables as they stand, with counters.
    pub(super) fn saved(&self, backend: Backend, family: Family) -> Result<String> {
        saved(&self.root, backend, family)
    }
}
