//! A pod with its servers, without any redirection yet.
//!
//! Each server's name tells its role, its family and its port: `out4:15001`, `world6:80`. The names are the same in
//! every scene, so that two scenes can be compared.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
};

use anyhow::{Result, ensure};
use redirect_testkit::{
    Behaviour, Dial, DialReport, Identity, PROXY_ID, Pod, Serve, Worker, WorkerCgroup,
};

use super::at;

/// Addresses of the world that the tests' policies exclude, or do not include.
pub(crate) const FAR_V4: &str = "36.152.44.96";
pub(crate) const FAR_V6: &str = "2001:db8:1::9";
/// Addresses of the world that the tests' policies include, or do not name.
pub(crate) const ELSEWHERE_V4: &str = "203.0.113.10";
pub(crate) const ELSEWHERE_V6: &str = "2001:db8::9";
/// The second addresses of the pod.
pub(crate) const SECOND_V4: &str = "10.77.0.3";
pub(crate) const SECOND_V6: &str = "fd00:77::3";

/// The proxy's port for outbound connections.
pub(crate) const OUT_PORT: u16 = 15001;
/// The proxy's port for inbound connections.
pub(crate) const IN_PORT: u16 = 15006;
/// The proxy's port for DNS queries.
pub(crate) const DNS_PORT: u16 = 15053;
/// The application's ports. 15008 is the tunnel port, and some policies exclude 5555.
const APP_PORTS: [u16; 4] = [8080, 15008, 5555, 53];
/// The world's ports.
const WORLD_PORTS: [u16; 6] = [80, 443, 5555, 8080, 15008, 53];
/// The addresses at which the application, and the world, answer datagrams, at ports 53 and 9999.
const APP_DATAGRAMS: [&str; 6] = [
    "10.77.0.2",
    SECOND_V4,
    "127.0.0.1",
    "127.0.0.53",
    "fd00:77::2",
    "::1",
];
const WORLD_DATAGRAMS: [&str; 6] = [
    "10.77.0.1",
    FAR_V4,
    ELSEWHERE_V4,
    "fd00:77::1",
    FAR_V6,
    ELSEWHERE_V6,
];

/// The workers that dial, by uid and gid.
type Dialers = BTreeMap<(u32, u32), Rc<Worker>>;

/// A pod with servers of the proxy (`out`, `in`, `dns`), the application (`app`) and the world (`world`).
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) proxy: Worker,
    pub(crate) app: Worker,
    pub(crate) world: Worker,
    // One process for each identity that has dialled.
    dialers: RefCell<Dialers>,
    pub(crate) pod: Pod,
}

impl Scene {
    /// Makes a pod with all servers. `name` appears in the names of the cgroup and the namespace.
    pub(crate) fn new(name: &str) -> Result<Self> {
        Self::of(Pod::new(name)?)
    }

    /// Starts all servers in a pod.
    pub(crate) fn of(pod: Pod) -> Result<Self> {
        let scene = Self::of_without_proxy(pod)?;
        scene.start_proxy()?;
        for (family, loopback) in [("4", "127.0.0.1"), ("6", "::1")] {
            let listen = at(loopback, DNS_PORT);
            let name = format!("dns{family}:{DNS_PORT}");
            scene.proxy.serve(&Serve::new(&name, listen))?;
            answer_datagrams(&scene.proxy, "dns", listen)?;
        }
        Ok(scene)
    }

    fn start_proxy(&self) -> Result<()> {
        serve(&self.proxy, "out", &[OUT_PORT])?;
        serve(&self.proxy, "in", &[IN_PORT])
    }

    /// Makes the proxy close its listening sockets and open others.
    pub(crate) fn restart_proxy(&self) -> Result<()> {
        for name in ["out4:15001", "out6:15001", "in4:15006", "in6:15006"] {
            self.proxy.stop_server(name)?;
        }
        self.start_proxy()
    }

    /// Makes a pod with all servers except the proxy's.
    pub(crate) fn without_proxy(name: &str) -> Result<Self> {
        Self::of_without_proxy(Pod::new(name)?)
    }

    fn of_without_proxy(pod: Pod) -> Result<Self> {
        for address in [FAR_V4, FAR_V6, ELSEWHERE_V4, ELSEWHERE_V6] {
            pod.world().add_address(address.parse()?)?;
        }
        let root = pod.worker(&Identity::root())?;
        run_ip(&root, &format!("addr add {SECOND_V4}/24 dev eth0"))?;
        // Deprecated, because IPv6 connections to the world would otherwise come from the second address.
        run_ip(
            &root,
            &format!("addr add {SECOND_V6}/64 dev eth0 nodad preferred_lft 0"),
        )?;
        // The application serves at port 53, which is privileged by default.
        let unprivileged = "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start";
        let done = root.run(&["sh", "-c", unprivileged])?;
        ensure!(done.is_success(), "{done:?}");
        let world = pod.world().worker(&Identity::root())?;
        run_ip(&root, "addr add fe80::78/64 dev eth0 nodad")?;
        run_ip(&world, "addr add fe80::77/64 dev eth0 nodad")?;
        // With this route the world can answer a connection from ::6 that is not redirected.
        run_ip(&world, &format!("route add ::6/128 via {}", Pod::V6))?;
        let scene = Self {
            proxy: pod.worker(&Identity::proxy())?,
            app: pod.worker(&Identity::app())?,
            world,
            dialers: RefCell::default(),
            pod,
        };
        serve(&scene.app, "app", &APP_PORTS)?;
        serve(&scene.world, "world", &WORLD_PORTS)?;
        for port in [53, 9999] {
            for address in APP_DATAGRAMS {
                answer_datagrams(&scene.app, "app", at(address, port))?;
            }
            for address in WORLD_DATAGRAMS {
                answer_datagrams(&scene.world, "world", at(address, port))?;
            }
        }
        Ok(scene)
    }

    /// The worker that dials with this uid and gid, which the first call starts.
    pub(crate) fn dialer(&self, uid: u32, gid: u32) -> Result<Rc<Worker>> {
        if let Some(worker) = self.dialers.borrow().get(&(uid, gid)) {
            return Ok(Rc::clone(worker));
        }
        let cgroup = if uid == PROXY_ID || gid == PROXY_ID {
            WorkerCgroup::Proxy
        } else {
            WorkerCgroup::App
        };
        let identity = Identity::root().cgroup(cgroup).uid(uid).gid(gid);
        let worker = Rc::new(self.pod.worker(&identity)?);
        self.dialers
            .borrow_mut()
            .insert((uid, gid), Rc::clone(&worker));
        Ok(worker)
    }

    /// Makes one connection with this uid and gid.
    pub(crate) fn dial_as(&self, uid: u32, gid: u32, dial: &Dial) -> Result<DialReport> {
        self.dialer(uid, gid)?.dial(dial)
    }
}

/// Starts a server that answers datagrams at one address, and from it: `dns udp 127.0.0.1:15053`.
fn answer_datagrams(worker: &Worker, role: &str, listen: SocketAddr) -> Result<()> {
    let name = format!("{role} udp {listen}");
    worker.serve(&Serve::new(&name, listen).behaviour(Behaviour::Udp))?;
    Ok(())
}

fn run_ip(worker: &Worker, arguments: &str) -> Result<()> {
    let argv: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
    let done = worker.run(&argv)?;
    ensure!(done.is_success(), "ip {arguments}: {done:?}");
    Ok(())
}

fn serve(worker: &Worker, role: &str, ports: &[u16]) -> Result<()> {
    for &port in ports {
        let wildcards = [
            ("4", IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            ("6", IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        ];
        for (family, any) in wildcards {
            let name = format!("{role}{family}:{port}");
            worker.serve(&Serve::new(&name, SocketAddr::new(any, port)))?;
        }
    }
    Ok(())
}
