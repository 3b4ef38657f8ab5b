//! What the story happens to: a pod, the world around it, and who is in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use redirect_testkit::{Behaviour, Identity, OutboundPolicy, Pod, Serve, Worker};

use crate::{
    command::Redirectctl,
    screen::Screen,
    sidecar::{Kind, Sidecar},
};

/// The story's host outside the mesh.
pub(crate) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(36, 152, 44, 96));
/// The same host's IPv6 address.
pub(crate) const HOST6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x96));
/// Another host outside the mesh.
pub(crate) const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
/// The pod's own loopback address and its address on the network.
pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const OWN: IpAddr = IpAddr::V4(Pod::V4);

/// Who serves where: HTTP everywhere, each with its name.
const OUTSIDE: [(&str, SocketAddr); 4] = [
    ("web", SocketAddr::new(HOST, 80)),
    ("web6", SocketAddr::new(HOST6, 80)),
    ("database", SocketAddr::new(HOST, 5432)),
    ("other", SocketAddr::new(OTHER, 80)),
];

/// The pod, its world and its proxy.
///
/// Fields are dropped in this order: processes first, the pod, and the redirector's state last.
#[derive(Debug)]
pub(crate) struct Mesh {
    sidecar: Option<Sidecar>,
    /// A process of the application.
    pub(crate) app: Worker,
    /// A process of the sidecar that is not the proxy.
    pub(crate) proxy: Worker,
    _world: Worker,
    kind: Kind,
    pod: Pod,
    pub(crate) redirectctl: Redirectctl,
}

impl Mesh {
    pub(crate) fn new(kind: Kind) -> Result<Self> {
        let pod = Pod::new("demo")?;
        let redirectctl = Redirectctl::new(pod.cgroup().path())?;
        for address in [HOST, HOST6, OTHER] {
            pod.world().add_address(address)?;
        }
        let world = pod.world().worker(&Identity::root())?;
        for (name, address) in OUTSIDE {
            world.serve(&Serve::new(name, address).behaviour(Behaviour::Http))?;
        }
        let app = pod.worker(&Identity::app())?;
        let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
        app.serve(&Serve::new("app", own).behaviour(Behaviour::Http))?;
        let proxy = pod.worker(&Identity::proxy())?;
        Ok(Self {
            sidecar: None,
            app,
            proxy,
            _world: world,
            kind,
            pod,
            redirectctl,
        })
    }

    pub(crate) const fn pod(&self) -> &Pod {
        &self.pod
    }

    pub(crate) const fn sidecar(&self) -> Option<&Sidecar> {
        self.sidecar.as_ref()
    }

    /// Starts the proxy, in place of the one that runs.
    pub(crate) fn start_proxy(
        &mut self,
        screen: &mut Screen,
        policy: &OutboundPolicy,
    ) -> Result<()> {
        // The old one first: there is only one port 15001.
        drop(self.sidecar.take());
        let redirectctl = self.redirectctl.path().to_string_lossy();
        let sidecar = Sidecar::start(self.kind, screen, &redirectctl, &self.pod, policy)?;
        self.sidecar = Some(sidecar);
        Ok(())
    }
}
