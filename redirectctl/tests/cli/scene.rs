//! A pod with an application, a proxy's listening sockets and a world.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use redirect_testkit::{Behaviour, Dial, DialOutcome, Identity, Pod, Serve, Worker, WorkerCgroup};

use crate::ctl::Ctl;

/// The external service of the documentation, by IPv4 and IPv6.
pub(crate) const SERVICE: [&str; 2] = ["36.152.44.96", "2001:db8::96"];
/// A service in a second range, by IPv4 and IPv6.
pub(crate) const SECOND_SERVICE: [&str; 2] = ["198.51.100.7", "2001:db8:1::7"];
/// The port at which the world listens.
pub(crate) const WEB_PORT: u16 = 80;
/// The port at which the application listens.
const APP_PORT: u16 = 8080;

/// A pod with servers. Their names are `world` and `app`, and at the proxy's ports `proxy` (15001), `other` (15002) and
/// `inbound` (15006).
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) ctl: Ctl,
    pub(crate) app: Worker,
    world: Worker,
    _proxy: Worker,
    pub(crate) pod: Pod,
}

impl Scene {
    /// Makes a scene; `name` is unique among the tests.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let pod = Pod::new(name)?;
        for address in SERVICE.iter().chain(&SECOND_SERVICE) {
            pod.world().add_address(address.parse()?)?;
        }
        let world = pod.world().worker(&Identity::root())?;
        world.serve(&serve("world", WEB_PORT))?;
        let proxy = pod.worker(&Identity::proxy())?;
        for (name, port) in [("proxy", 15001), ("other", 15002), ("inbound", 15006)] {
            proxy.serve(&serve(name, port))?;
        }
        let app = pod.worker(&Identity::app())?;
        app.serve(&serve("app", APP_PORT))?;
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

    /// A command line about this pod: adds the cgroup after the first word, and the option that redirects IPv6, too, to
    /// commands that take options.
    pub(crate) fn with_cgroup<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
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
        self.ctl.ok(&self.with_cgroup(args))
    }

    /// The server that answers the application at an address.
    pub(crate) fn server_at(&self, address: &str) -> Result<String> {
        server_at(&self.app, address)
    }

    /// The servers that answer the application at [`SERVICE`] and [`SECOND_SERVICE`], by both families.
    pub(crate) fn answers(&self) -> Result<[String; 4]> {
        let [service4, service6] = SERVICE;
        let [second4, second6] = SECOND_SERVICE;
        Ok([
            self.server_at(service4)?,
            self.server_at(service6)?,
            self.server_at(second4)?,
            self.server_at(second6)?,
        ])
    }

    /// The servers that answer the world in the pod, by both families.
    pub(crate) fn inbound_answers(&self) -> Result<[String; 2]> {
        let [v4, v6] = [IpAddr::V4(Pod::V4), IpAddr::V6(Pod::V6)];
        let server = |ip| server_of(&self.world, SocketAddr::new(ip, APP_PORT));
        Ok([server(v4)?, server(v6)?])
    }

    /// A worker that may run `redirectctl` inside the pod: root, in the application's cgroup.
    pub(crate) fn root(&self) -> Result<Worker> {
        self.pod
            .worker(&Identity::root().cgroup(WorkerCgroup::Folder(self.pod.cgroup().app())))
    }
}

/// The server that answers a worker at an address; the outcome in words if no server answers.
pub(crate) fn server_at(worker: &Worker, address: &str) -> Result<String> {
    server_of(worker, at(address))
}

fn server_of(worker: &Worker, address: SocketAddr) -> Result<String> {
    let dialled = worker.dial(&Dial::to(address))?;
    Ok(match (dialled.server(), dialled.outcome.clone()) {
        (Some(server), _) => server.to_owned(),
        (None, DialOutcome::Refused) => "refused".to_owned(),
        (None, outcome) => format!("{outcome:?}"),
    })
}

pub(crate) fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), WEB_PORT)
}

/// A server for both families that closes a connection when the client does.
fn serve(name: &str, port: u16) -> Serve {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    Serve::new(name, any)
        .dual_stack()
        .behaviour(Behaviour::BannerAndEcho)
}
