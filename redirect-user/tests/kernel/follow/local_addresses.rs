//! Local addresses and routes that change, compared with iptables, which ask the routing at every connection.

use anyhow::{Result, ensure};
use redirect_common::chain::RuleId;
use redirect_testkit::{Dial, Identity, wait_until};
use redirect_user::{
    config::{Include, RedirectConfig},
    node::{AddressChange, FollowEventKind},
};

use super::following::{Following, PATIENCE};
use crate::{
    Tested,
    differential::Backends,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, Scene, at, moved, ranges_of},
};

pub(super) fn everything() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

/// Two pods, one per backend, whose addresses are changed alike.
struct FollowedBackends {
    backends: Backends,
}

impl FollowedBackends {
    fn new(name: &str) -> Result<Self> {
        let backends = Backends::new(name)?;
        backends.configure(&everything())?;
        Ok(Self { backends })
    }

    /// Runs `ip` in both pods.
    fn ip(&self, arguments: &str) -> Tested {
        for scene in [&self.backends.iptables, &self.backends.ebpf.scene] {
            ip(scene, arguments)?;
        }
        Ok(())
    }

    /// Dials an address as the application and as the proxy. Returns each server and rule. The views must be as behind
    /// iptables.
    fn answers(&self, addr: &str) -> Result<[(String, &'static str); 2]> {
        let answer = |uid| -> Result<_> {
            for dial in [Dial::to(at(addr, 8080)), Dial::to(at(addr, 8080)).mapped()] {
                if addr.contains(':') && dial != Dial::to(at(addr, 8080)) {
                    continue;
                }
                let (iptables, ebpf) = self.backends.dial(uid, uid, &dial)?;
                ensure!(
                    iptables == ebpf,
                    "{uid} to {addr}:\n  iptables: {iptables:?}\n  ebpf:     {ebpf:?}"
                );
            }
            let before = self.backends.ebpf.hits()?;
            let dialled = self
                .backends
                .ebpf
                .scene
                .dial_as(uid, uid, &Dial::to(at(addr, 8080)))?;
            let moved = moved(&before, &self.backends.ebpf.hits()?);
            ensure!(moved.len() == 1, "{moved:?}");
            let rule = moved.into_keys().next().unwrap_or_default();
            Ok((dialled.server().unwrap_or("none").to_owned(), rule))
        };
        Ok([answer(1000)?, answer(1337)?])
    }

    /// Checks whether an address is local to the pod in every respect.
    fn expect(&self, addr: &str, is_local: bool) -> Tested {
        let family = if addr.contains(':') { 6 } else { 4 };
        let (app, proxy) = if is_local {
            (
                (format!("app{family}:8080"), RuleId::AppLoUid.name()),
                (format!("in{family}:15006"), RuleId::UidToSelf.name()),
            )
        } else {
            (
                (format!("out{family}:15001"), RuleId::AnyIncluded.name()),
                ("none".to_owned(), RuleId::Uid.name()),
            )
        };
        let seen = self.answers(addr)?;
        ensure!(seen == [app, proxy], "{addr}: {seen:?}");
        Ok(())
    }
}

pub(super) fn ip(scene: &Scene, arguments: &str) -> Tested {
    let root = scene.pod.worker(&Identity::root())?;
    let argv: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
    let done = root.run(&argv)?;
    ensure!(done.is_success(), "ip {arguments}: {done:?}");
    Ok(())
}

pub(super) fn local_addresses_are_followed_as_behind_iptables() -> Tested {
    let pods = FollowedBackends::new("follow")?;
    let (v4, v6) = ("10.77.0.9", "fd00:77::9");
    pods.expect(v4, false)?;
    pods.ip(&format!("addr add {v4}/24 dev eth0"))?;
    // Without a follower the new address is unknown, and the comparison fails.
    ensure!(pods.expect(v4, true).is_err());
    let following = Following::pod(&pods.backends.ebpf)?;
    following.until_changed(true, &["10.77.0.9/32"])?;
    pods.expect(v4, true)?;

    pods.ip(&format!("addr del {v4}/24 dev eth0"))?;
    following.until_changed(false, &["10.77.0.9/32"])?;
    pods.expect(v4, false)?;
    // The kernel remembers a neighbour that does not answer for a while, which would change the error.
    pods.ip("neigh flush dev eth0")?;

    // An IPv6 address is local only after the check for duplicates.
    pods.ip(&format!("addr add {v6}/64 dev eth0 preferred_lft 0"))?;
    following.until_changed(true, &["fd00:77::9/128"])?;
    pods.settle(v6)?;
    pods.expect(v6, true)?;
    pods.ip(&format!("addr del {v6}/64 dev eth0"))?;
    following.until_changed(false, &["fd00:77::9/128"])?;
    pods.expect(v6, false)?;

    // Removing an interface removes its addresses' routes without an event about them.
    pods.ip("link add extra type veth peer name other")?;
    pods.ip("addr add 10.88.0.1/24 dev extra")?;
    pods.ip("link set extra up")?;
    following.until_changed(true, &["10.88.0.1/32"])?;
    pods.expect("10.88.0.1", true)?;
    pods.ip("link del extra")?;
    following.until_changed(false, &["10.88.0.1/32"])?;

    let ebpf = &pods.backends.ebpf;
    ebpf.detach()?;
    following.join()
}

impl FollowedBackends {
    /// Waits until an address is not tentative any more in the pod behind iptables, which has no follower.
    fn settle(&self, addr: &str) -> Tested {
        let root = self.backends.iptables.pod.worker(&Identity::root())?;
        let settled = wait_until(PATIENCE, || {
            root.run(&["ip", "-6", "addr", "show", "dev", "eth0", "-tentative"])
                .is_ok_and(|shown| shown.stdout.contains(addr))
        });
        ensure!(settled, "{addr} stays tentative");
        Ok(())
    }
}

pub(super) fn a_range_of_local_addresses_is_local_as_behind_iptables() -> Tested {
    let pods = FollowedBackends::new("anyip")?;
    let following = Following::pod(&pods.backends.ebpf)?;
    let (v4, v6) = ("10.99.3.4", "fd99::3:4");
    for addr in [v4, v6] {
        pods.expect(addr, false)?;
    }
    pods.ip("route add local 10.99.0.0/16 dev lo")?;
    pods.ip("-6 route add local fd99::/64 dev lo")?;
    following.until_changed(true, &["10.99.0.0/16", "fd99::/64"])?;
    for addr in [v4, "10.99.255.255"] {
        pods.expect(addr, true)?;
    }
    // The kernel prefers an address of the route's device as source, which is `::6` here. The chain lets every
    // connection with this source pass.
    for addr in [v6, "fd99::ffff:ffff:ffff:ffff"] {
        let direct = ("app6:8080".to_owned(), RuleId::Passthrough.name());
        let seen = pods.answers(addr)?;
        ensure!(seen == [direct.clone(), direct], "{addr}: {seen:?}");
    }
    pods.ip("addr del ::6/128 dev lo")?;
    following.until_changed(false, &["::6/128"])?;
    pods.expect(v6, true)?;
    pods.expect("10.100.0.0", false)?;
    // Excluded ranges inside of the local range and around it do not change that.
    let nested = RedirectConfig {
        exclude: vec!["10.99.3.0/24".parse()?, "10.0.0.0/8".parse()?],
        ..everything()
    };
    pods.backends.configure(&nested)?;
    pods.expect(v4, true)?;
    let ebpf = &pods.backends.ebpf;
    let reader = ebpf.owner.reader()?;
    let pod = ebpf.pod(&reader)?;
    let config = reader.config(&pod)?;
    ensure!(config.exclude.len() == 2, "{config:?}");
    ensure!(
        ranges_of(&reader, &pod)? == 2,
        "local ranges are not ranges of the configuration"
    );
    drop(reader);

    pods.backends.configure(&everything())?;
    pods.ip("route del local 10.99.0.0/16 dev lo")?;
    pods.ip("-6 route del local fd99::/64 dev lo")?;
    following.until_changed(false, &["10.99.0.0/16", "fd99::/64"])?;
    for addr in [v4, v6] {
        pods.expect(addr, false)?;
    }
    Ok(())
}

pub(super) fn the_source_shown_follows_the_routes() -> Tested {
    let pods = FollowedBackends::new("source")?;
    let following = Following::pod(&pods.backends.ebpf)?;
    let same = |what: &str| -> Tested {
        for to in [ELSEWHERE_V4, ELSEWHERE_V6] {
            let (iptables, ebpf) = pods.backends.dial(1000, 1000, &Dial::to(at(to, 80)))?;
            ensure!(
                iptables == ebpf && ebpf.is_redirected(),
                "{what}: {iptables:?}, ebpf {ebpf:?}"
            );
        }
        Ok(())
    };
    same("at first")?;
    pods.ip("route change default via 10.77.0.1 src 10.77.0.3")?;
    following.until(|event| {
        if let FollowEventKind::Changed(AddressChange { sources, .. }) = event {
            let other = "10.77.0.3".parse().ok()?;
            return sources.contains(&other).then_some(());
        }
        None
    })?;
    same("after the change")
}
