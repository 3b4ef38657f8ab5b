//! A pod with two proxies, an application that dials, and a world to dial.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use redirect_testkit::{Dial, DialOutcome, Identity, Pod, Serve, Worker};

/// The story's address, outside.
pub(crate) const FAR: &str = "36.152.44.96:80";

/// A pod and who serves in it. Answers are called `world`, `old` (at port 15001) and `new` (15002).
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) app: Worker,
    proxy: Option<Worker>,
    world: Worker,
    pub(crate) pod: Pod,
}

pub(crate) const OLD: u16 = 15001;
pub(crate) const NEW: u16 = 15002;

/// The port and the name of the proxy of a round: by turns, beginning with the new one.
pub(crate) const fn proxy_of_round(round: usize) -> (u16, &'static str) {
    if round.is_multiple_of(2) {
        (NEW, "new")
    } else {
        (OLD, "old")
    }
}

impl Scene {
    /// `name` is unique among the tests.
    pub(crate) fn new(name: &str) -> Result<Self> {
        Self::of(Pod::new(name)?)
    }

    /// In a pod that is there.
    pub(crate) fn of(pod: Pod) -> Result<Self> {
        let world = Self::outside(&pod)?;
        Self::inside(pod, world)
    }

    /// Only what is outside of a pod.
    pub(crate) fn outside(pod: &Pod) -> Result<Worker> {
        pod.world().add_address(far().ip())?;
        let world = pod.world().worker(&Identity::root())?;
        world.serve(&Serve::new("world", far()))?;
        Ok(world)
    }

    /// The rest of it.
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

    /// The pod, when all its processes have ended.
    pub(crate) fn into_pod(self) -> Pod {
        self.pod
    }

    /// Ends all that is in the pod, and leaves the rest.
    pub(crate) fn emptied(self) -> (Pod, Worker) {
        (self.pod, self.world)
    }

    /// Ends the proxy, and with it its sockets.
    pub(crate) fn end_proxy(&mut self) {
        self.proxy = None;
    }

    /// A description of it that redirects everything to a port, with further arguments.
    pub(crate) fn description(&self, port: u16, more: &str) -> String {
        let cgroup = self.pod.cgroup().path().display();
        format!("cgroup: {cgroup}\nargs: [-p, {port}, -i, '*'{more}]\n")
    }

    /// Who answers; an error if they were not told the right destination.
    pub(crate) fn reached(&self) -> Result<String> {
        reached(&self.app)
    }

    /// Whether somebody answers; whoever does must have been told the right destination.
    #[track_caller]
    pub(crate) fn reaches(&self, expected: &str) -> bool {
        reaches(&self.app, expected)
    }
}

/// Whether somebody answers a process that dials the world; whoever does must have been told the right destination.
#[track_caller]
pub(crate) fn reaches(app: &Worker, expected: &str) -> bool {
    reached(app).unwrap() == expected
}

/// Who answers a process that dials the world; an error if they were not told the right destination.
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
