//! `istio-validation`, an init container that checks the redirection.

use redirect_testkit::Serve;

use super::walk::{APP, PROXY, ROOT, backends, mapped, to, walk, world, world6};
use crate::{
    Tested,
    harness::{IN_PORT, OUT_PORT, at},
};

/// `istio-validation` dials 127.0.0.6:15002 from 127.0.0.1 with the proxy's identity, and expects to reach its own port
/// 15006; it listens on loopback only. As root it would be refused.
pub(super) fn istio_validation_reaches_its_own_port() -> Tested {
    let backends = backends("validation")?;
    for proxy in [&backends.iptables.proxy, &backends.ebpf.scene.proxy] {
        for (family, loopback) in [("4", "127.0.0.1"), ("6", "::1")] {
            for (who, port) in [("out", OUT_PORT), ("in", IN_PORT)] {
                let name = format!("{who}{family}:{port}");
                proxy.stop_server(&name)?;
                proxy.serve(&Serve::new(&name, at(loopback, port)))?;
            }
        }
    }
    // The original destination and the local address 127.0.0.1:15006 are part of the comparison.
    let probe = to("127.0.0.6", 15002).from(at("127.0.0.1", 0));
    let probe6 = to("::6", 15002).from(at("::1", 0));
    walk(
        &backends,
        PROXY,
        "in4:15006",
        "uid-to-self",
        [probe.clone()],
    )?;
    walk(
        &backends,
        PROXY,
        "in6:15006",
        "uid-to-self",
        [probe6.clone()],
    )?;
    walk(
        &backends,
        ROOT,
        "ECONNREFUSED",
        "app-lo-uid",
        [probe, probe6],
    )?;
    // Other redirected connections reach a proxy on loopback as well.
    let dials = [world(), mapped()];
    walk(&backends, APP, "out4:15001", "any-included", dials)?;
    walk(&backends, APP, "out6:15001", "any-included", [world6()])
}
