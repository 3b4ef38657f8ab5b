//! The scene of the story: a pod, the world around it, their servers, and the proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use redirect_testkit::{Behaviour, Identity, Pod, Serve, Worker};

use crate::{redirectctl::Redirectctl, sidecar::Sidecar};

/// The servers of the world: all speak HTTP, and each has a name.
pub(crate) const SERVERS: [(&str, SocketAddr); 4] = [
    ("web", SocketAddr::new(SERVICE, 80)),
    ("web6", SocketAddr::new(SERVICE6, 80)),
    ("database", SocketAddr::new(SERVICE, 5432)),
    ("other", SocketAddr::new(OTHER, 80)),
];

/// The external service.
pub(crate) const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(36, 152, 44, 96));
/// The external service's IPv6 address.
pub(crate) const SERVICE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x96));
/// Another host outside the mesh.
pub(crate) const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));

/// The pod, its world and its proxy. Fields are dropped in this order: processes, the pod, the state directory.
#[derive(Debug)]
pub(crate) struct Scene {
    /// The running proxy.
    pub(crate) sidecar: Option<Sidecar>,
    /// A process of the application.
    pub(crate) app: Worker,
    /// A process of the sidecar's user that is not the proxy.
    pub(crate) proxy_user: Worker,
    _world: Worker,
    pub(crate) pod: Pod,
    pub(crate) redirectctl: Redirectctl,
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        let pod = Pod::new("demo")?;
        for address in [SERVICE, SERVICE6, OTHER] {
            pod.world().add_address(address)?;
        }
        let world = pod.world().worker(&Identity::root())?;
        for (name, address) in SERVERS {
            world.serve(&Serve::new(name, address).behaviour(Behaviour::Http))?;
        }
        let app = pod.worker(&Identity::app())?;
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 8080);
        app.serve(&Serve::new("app", any).behaviour(Behaviour::Http))?;
        Ok(Self {
            sidecar: None,
            app,
            proxy_user: pod.worker(&Identity::proxy())?,
            _world: world,
            redirectctl: Redirectctl::new(&pod)?,
            pod,
        })
    }
}
