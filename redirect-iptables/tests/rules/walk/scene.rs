//! A pod whose application, proxy and world serve, and workers of several owners that dial.

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

/// The addresses at which the world serves.
pub(super) const WORLD: [&str; 4] = [
    "36.152.44.96",
    "203.0.113.10",
    "2001:db8:1::9",
    "2001:db8::9",
];
/// The ports at which the world serves, port 53 also for datagrams.
pub(super) const WORLD_PORTS: [u16; 2] = [80, 53];
/// The ports at which the application serves.
pub(super) const APP_PORTS: [u16; 2] = [8080, 5555];
/// The ports at which redirected connections are answered. In the pod, the world's ports are such ports, too.
const PROXY_PORTS: [u16; 3] = [15001, 15006, 15053];
/// The first source port of datagrams: below the ports that the kernel chooses.
const FIRST_SOURCE: u16 = 20_000;

/// A pod with servers. The name of a server begins with `direct`, or with its port if redirected connections arrive
/// there.
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
        // Names are unique within a worker, so they have a second part.
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

    /// A source from which no datagram has come yet.
    pub(super) fn fresh_source(&self, family: Family) -> SocketAddr {
        let any = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(any, self.next_source.fetch_add(1, Ordering::Relaxed))
    }

    /// The text of all tables, with counters.
    pub(super) fn saved(&self, backend: Backend, family: Family) -> Result<String> {
        saved(&self.root, backend, family)
    }
}
