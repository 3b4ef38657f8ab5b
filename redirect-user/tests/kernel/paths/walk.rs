//! The walk of a dial in both pods, with the expected answer and the expected rule.

use anyhow::{Result, ensure};
use redirect_testkit::Dial;
use redirect_user::config::{Include, RedirectConfig};

use crate::{
    Tested,
    differential::Backends,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, at, moved},
};

/// A uid and a gid.
pub(super) type Ids = (u32, u32);
pub(super) const ROOT: Ids = (0, 0);
pub(super) const APP: Ids = (1000, 1000);
pub(super) const PROXY: Ids = (1337, 1337);

pub(super) fn everything() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

/// Makes two pods in which everything is redirected.
pub(super) fn backends(name: &str) -> Result<Backends> {
    let backends = Backends::new(name)?;
    backends.configure(&everything())?;
    Ok(backends)
}

pub(super) fn to(ip: &str, port: u16) -> Dial {
    Dial::to(at(ip, port))
}

/// A dial of the world by IPv4.
pub(super) fn world() -> Dial {
    to(ELSEWHERE_V4, 80)
}

/// A dial of the world by IPv4 from an IPv6 socket.
pub(super) fn mapped() -> Dial {
    world().mapped()
}

/// A dial of the world by IPv6.
pub(super) fn world6() -> Dial {
    to(ELSEWHERE_V6, 80)
}

/// Makes connections in both pods. The views must be equal in both, and as expected: `outcome` is the server's name or
/// an error, and `rule` is the rule that decides.
pub(super) fn walk<const N: usize>(
    backends: &Backends,
    (uid, gid): Ids,
    outcome: &str,
    rule: &str,
    dials: [Dial; N],
) -> Tested {
    for dial in dials {
        let before = backends.ebpf.hits()?;
        // A port that the application chose stays taken for a while, so there is no second try.
        let (iptables, ebpf) = if dial.bind.is_some_and(|local| local.port() != 0) {
            backends.dial_both(uid, gid, &dial)?
        } else {
            backends.dial(uid, gid, &dial)?
        };
        ensure!(
            iptables == ebpf && ebpf.outcome == outcome,
            "{dial:?}: expected {outcome}\n  iptables: {iptables:?}\n  ebpf:     {ebpf:?}"
        );
        let counted = moved(&before, &backends.ebpf.hits()?);
        ensure!(counted.keys().eq([&rule]), "{dial:?}: {counted:?}");
    }
    Ok(())
}
