//! A pod with two proxies, an application that dials, and a world to dial.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use redirect_testkit::{Dial, DialOutcome, Identity, Pod, Serve, Worker};

/// Address of the world.
pub(crate) const FAR: &str = "36.152.44.96:80";

/// A pod and its servers: `world`, and the proxies `old` (at port 15001) and `new` (15002).
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) app: Worker,
    proxy: Option<Worker>,
    world: Worker,
    pub(crate) pod: Pod,
}

pub(crate) const OLD: u16 = 15001;
pub(crate) const NEW: u16 = 15002;

/// Port and name of the proxy of a round: the new and the old one by turns.
pub(crate) const fn proxy_of_round(round: usize) -> (u16, &'static str) {
    if round.is_multiple_of(2) {
        (NEW, "new")
    } else {
        (OLD, "old")
    }
}

impl Scene {
    /// A scene whose `name` is unique among the tests.
    pub(crate) fn new(name: &str) -> Result<Self> {
        Self::of(Pod::new(name)?)
    }

    /// A scene in this pod.
    pub(crate) fn of(pod: Pod) -> Result<Self> {
        let world = Self::outside(&pod)?;
        Self::inside(pod, world)
    }

    /// The world outside of a pod.
    pub(crate) fn outside(pod: &Pod) -> Result<Worker> {
        pod.world().add_address(far().ip())?;
        let world = pod.world().worker(&Identity::root())?;
        world.serve(&Serve::new("world", far()))?;
        Ok(world)
    }

    /// The processes inside of a pod.
    pub(crate) fn inside(pod: Pod, world: Worker) -> Result<Self> {
        let proxy = pod.worker(&Identity::proxy())?;
        for (name, port) in [("old", OLD), ("new", NEW)] {
            proxy.serve(&Serve::new(name, SocketAddr::from(([0, 0, 0, 0], port))))?;
        }
        Ok(Self {
            app: pod.worker(&Identity::app())?,
            proxy: Some(proxy),
            world,
            pod,
        })
    }

    /// The pod, after all its processes have ended.
    pub(crate) fn into_pod(self) -> Pod {
        self.pod
    }

    /// Ends the processes of the pod, and keeps the rest.
    pub(crate) fn emptied(self) -> (Pod, Worker) {
        (self.pod, self.world)
    }

    /// Ends the proxy and its sockets.
    pub(crate) fn end_proxy(&mut self) {
        self.proxy = None;
    }

    /// A workload file that redirects everything to a port, with further arguments.
    pub(crate) fn description(&self, port: u16, more: &str) -> String {
        let cgroup = self.pod.cgroup().path().display();
        format!("cgroup: {cgroup}\nargs: [-p, {port}, -i, '*'{more}]\n")
    }

    /// Name of the server that the application reaches; an error if a proxy has the wrong original
    /// destination.
    pub(crate) fn reached(&self) -> Result<String> {
        reached(&self.app)
    }

    /// Whether the application reaches this server; panics if a proxy has the wrong original destination.
    #[track_caller]
    pub(crate) fn reaches(&self, expected: &str) -> bool {
        reaches(&self.app, expected)
    }
}

/// Whether a process reaches this server by dialling the world; panics if a proxy has the wrong original
/// destination.
#[track_caller]
pub(crate) fn reaches(app: &Worker, expected: &str) -> bool {
    reached(app).unwrap() == expected
}

/// Name of the server that a process reaches by dialling the world; an error if a proxy has the wrong
/// original destination.
pub(crate) fn reached(app: &Worker) -> Result<String> {
    let dialled = app.dial(&Dial::to(far()))?;
    Ok(match (dialled.banner(), &dialled.outcome) {
        (Some(banner), _) if banner.server == "world" => "world".to_owned(),
        (Some(banner), _) if banner.orig_dst == Some(far()) => banner.server.clone(),
        (Some(_), outcome) => bail!("misdirected: {outcome:?}"),
        (None, DialOutcome::Refused) => "refused".to_owned(),
        (None, outcome) => format!("{outcome:?}"),
    })
}

pub(crate) fn far() -> SocketAddr {
    FAR.parse().unwrap()
}
