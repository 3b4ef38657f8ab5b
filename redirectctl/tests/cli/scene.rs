//! A pod with an application, a proxy's listeners and a world, and who answers in it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use redirect_testkit::{Behaviour, Dial, DialOutcome, Identity, Pod, Serve, Worker, WorkerCgroup};

use crate::ctl::Ctl;

/// The story's address, and its IPv6 sibling.
pub(crate) const FAR: [&str; 2] = ["36.152.44.96", "2001:db8::96"];
/// An address for a second range, and its sibling.
pub(crate) const NEAR: [&str; 2] = ["198.51.100.7", "2001:db8:1::7"];
/// Where the world listens.
pub(crate) const WEB: u16 = 80;
/// Where the application does.
const SHOP: u16 = 8080;

/// A pod and who serves in it. Answers are called `world`, `app` and, by port, `proxy` (15001),
/// `other` (15002) and `inbound` (15006).
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) ctl: Ctl,
    pub(crate) app: Worker,
    world: Worker,
    _proxy: Worker,
    pub(crate) pod: Pod,
}

impl Scene {
    /// `name` is unique among the tests.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let pod = Pod::new(name)?;
        for address in FAR.iter().chain(&NEAR) {
            pod.world().add_address(address.parse()?)?;
        }
        let world = pod.world().worker(&Identity::root())?;
        world.serve(&serve("world", WEB))?;
        let proxy = pod.worker(&Identity::proxy())?;
        for (name, port) in [("proxy", 15001), ("other", 15002), ("inbound", 15006)] {
            proxy.serve(&serve(name, port))?;
        }
        let app = pod.worker(&Identity::app())?;
        app.serve(&serve("app", SHOP))?;
        Ok(Self {
            ctl: Ctl::new(name),
            app,
            world,
            _proxy: proxy,
            pod,
        })
    }

    /// The pod's cgroup, as an argument.
    pub(crate) fn cgroup(&self) -> &str {
        self.pod.cgroup().path().to_str().unwrap()
    }

    /// A command line about this pod: the cgroup is added after the first word, and to those that
    /// take options that IPv6 is redirected, too.
    pub(crate) fn about<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        // `cidr` has a second word.
        let words = if args[0] == "cidr" { 2 } else { 1 };
        let both: &[&str] = match args[0] {
            "attach" | "update" => &["--dual-stack"],
            _ => &[],
        };
        [
            &args[..words],
            &["--cgroup", self.cgroup()],
            both,
            &args[words..],
        ]
        .concat()
    }

    /// Runs a command about this pod that must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.ctl.ok(&self.about(args))
    }

    /// Who answers the application at an address.
    pub(crate) fn who(&self, address: &str) -> Result<String> {
        who(&self.app, address)
    }

    /// Who answers at [`FAR`] and [`NEAR`], both families.
    pub(crate) fn answers(&self) -> Result<[String; 4]> {
        let [far4, far6] = FAR;
        let [near4, near6] = NEAR;
        Ok([
            self.who(far4)?,
            self.who(far6)?,
            self.who(near4)?,
            self.who(near6)?,
        ])
    }

    /// Who answers the world in the pod, both families.
    pub(crate) fn arrivals(&self) -> Result<[String; 2]> {
        let [v4, v6] = [IpAddr::V4(Pod::V4), IpAddr::V6(Pod::V6)];
        let who = |ip| who_at(&self.world, SocketAddr::new(ip, SHOP));
        Ok([who(v4)?, who(v6)?])
    }

    /// A worker that may run `redirectctl` inside the pod: root, in the application's cgroup.
    pub(crate) fn root(&self) -> Result<Worker> {
        self.pod
            .worker(&Identity::root().cgroup(WorkerCgroup::Folder(self.pod.cgroup().app())))
    }
}

/// Who answers a worker at an address; an outcome in words if nobody does.
pub(crate) fn who(worker: &Worker, address: &str) -> Result<String> {
    who_at(worker, at(address))
}

fn who_at(worker: &Worker, address: SocketAddr) -> Result<String> {
    let dialled = worker.dial(&Dial::to(address))?;
    Ok(match (dialled.server(), dialled.outcome.clone()) {
        (Some(server), _) => server.to_owned(),
        (None, DialOutcome::Refused) => "refused".to_owned(),
        (None, outcome) => format!("{outcome:?}"),
    })
}

pub(crate) fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), WEB)
}

/// A server for both families that closes when its client does.
fn serve(name: &str, port: u16) -> Serve {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    Serve::new(name, any)
        .dual_stack()
        .behaviour(Behaviour::BannerAndEcho)
}
