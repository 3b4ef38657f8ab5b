//! Pods below a cluster network's socket load balancer, which replaces a service's address with a backend's at connect.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use redirect_testkit::{Dial, Identity, Serve, SocketLb, Worker, WorkerCgroup};
use redirect_user::sys::cgroup::Cgroup;

use super::walk::{backends, everything};
use crate::{
    Tested,
    harness::{
        ELSEWHERE_V4, ELSEWHERE_V6, OUT_PORT, OwnerFolder, Redirected, Scene, at, dual_stack,
        moved, netns,
    },
};

/// A service's address, its backend in the world, and the server names of the proxy and of the backend.
type Service = (SocketAddr, SocketAddr, &'static str, &'static str);

fn services() -> [Service; 2] {
    [
        (
            at("10.96.0.1", 80),
            at(ELSEWHERE_V4, 8080),
            "out4:15001",
            "world4:8080",
        ),
        (
            at("fd00:96::1", 80),
            at(ELSEWHERE_V6, 8080),
            "out6:15001",
            "world6:8080",
        ),
    ]
}

/// A pod whose policy is one cgroup further down, so that other programs can be attached above it.
struct Mesh {
    pod: Redirected,
    app: Worker,
    proxy: Worker,
}

impl Mesh {
    fn new() -> Result<Self> {
        let scene = Scene::without_proxy("socket-lb")?;
        let folder = scene.pod.cgroup().child("mesh")?;
        let owner = OwnerFolder::new("socket-lb");
        let cgroup = Cgroup::open(&folder)?;
        owner
            .writer()?
            .attach(&cgroup, &netns(&scene.pod)?, &dual_stack(&everything()))?;
        let inside = |identity: Identity| {
            scene
                .pod
                .worker(&identity.cgroup(WorkerCgroup::Folder(folder.clone())))
        };
        let (app, proxy) = (inside(Identity::app())?, inside(Identity::proxy())?);
        for (name, any) in [("out4:15001", "0.0.0.0"), ("out6:15001", "::")] {
            proxy.serve(&Serve::new(name, at(any, OUT_PORT)))?;
        }
        let pod = Redirected {
            owner,
            cgroup,
            scene,
        };
        Ok(Self { pod, app, proxy })
    }
}

pub(super) fn a_load_balancer_above_does_not_hide_the_service() -> Tested {
    let Mesh { pod, app, proxy } = Mesh::new()?;
    for (service, backend, out, world) in services() {
        let _socket_lb = SocketLb::attach(&pod.scene.pod, service, backend)?;
        let dial = Dial::to(service);
        let before = pod.hits()?;
        let dialled = app.dial(&dial)?;
        ensure!(
            (dialled.server(), dialled.orig_dst(), dialled.peername)
                == (Some(out), Some(service), Some(service)),
            "{dialled:?}"
        );
        let peer = dialled.banner().and_then(|seen| seen.peer);
        ensure!(peer == dialled.sockname, "{dialled:?}");
        let direct = proxy.dial(&dial)?;
        ensure!(
            (direct.server(), direct.peername) == (Some(world), Some(backend)),
            "{direct:?}"
        );
        let counted = moved(&before, &pod.hits()?);
        ensure!(
            counted.iter().eq([(&"any-included", &1), (&"uid", &1)]),
            "{counted:?}"
        );
    }
    Ok(())
}

pub(super) fn a_load_balancer_hides_the_service_from_iptables() -> Tested {
    let scene = backends("hidden")?.iptables;
    for (service, backend, out, _) in services() {
        let _socket_lb = SocketLb::attach(&scene.pod, service, backend)?;
        let dialled = scene.dial_as(1000, 1000, &Dial::to(service))?;
        ensure!(
            (dialled.server(), dialled.orig_dst()) == (Some(out), Some(backend)),
            "{dialled:?}"
        );
    }
    Ok(())
}
