//! Local addresses and routes that change, compared with iptables, which ask the routing at every connection.

use anyhow::{Result, ensure};
use redirect_common::chain::RuleId;
use redirect_testkit::{Dial, Identity, wait_until};
use redirect_user::{
    config::{Include, RedirectConfig},
    node::{AddressChange, Event},
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

/// Two pods whose addresses are changed alike.
struct Pair {
    backends: Backends,
}

impl Pair {
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

    /// What the application and the proxy are answered at an address, and by which rule; the same
    /// as behind iptables.
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
            Ok((dialled.server().unwrap_or("nobody").to_owned(), rule))
        };
        Ok([answer(1000)?, answer(1337)?])
    }

    /// Whether an address is the pod's own in every respect.
    fn expect(&self, addr: &str, own: bool) -> Tested {
        let family = if addr.contains(':') { 6 } else { 4 };
        let (app, proxy) = if own {
            (
                (format!("app{family}:8080"), RuleId::AppLoUid.name()),
                (format!("in{family}:15006"), RuleId::UidToSelf.name()),
            )
        } else {
            (
                (format!("out{family}:15001"), RuleId::AnyIncluded.name()),
                ("nobody".to_owned(), RuleId::Uid.name()),
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

pub(super) fn own_addresses_are_those_of_now_as_behind_iptables() -> Tested {
    let pair = Pair::new("follow")?;
    let (v4, v6) = ("10.77.0.9", "fd00:77::9");
    pair.expect(v4, false)?;
    pair.ip(&format!("addr add {v4}/24 dev eth0"))?;
    // Without anybody following, it is not known: the comparison notices.
    ensure!(pair.expect(v4, true).is_err());
    let following = Following::pod(&pair.backends.ebpf)?;
    following.until_changed(true, &["10.77.0.9/32"])?;
    pair.expect(v4, true)?;

    pair.ip(&format!("addr del {v4}/24 dev eth0"))?;
    following.until_changed(false, &["10.77.0.9/32"])?;
    pair.expect(v4, false)?;
    // A neighbour that is asked for and does not answer is remembered for a while, and would be
    // refused otherwise than before.
    pair.ip("neigh flush dev eth0")?;

    // Its own only once nobody else has turned out to have it.
    pair.ip(&format!("addr add {v6}/64 dev eth0 preferred_lft 0"))?;
    following.until_changed(true, &["fd00:77::9/128"])?;
    pair.settle(v6)?;
    pair.expect(v6, true)?;
    pair.ip(&format!("addr del {v6}/64 dev eth0"))?;
    following.until_changed(false, &["fd00:77::9/128"])?;
    pair.expect(v6, false)?;

    // Taking an interface down takes its addresses' routes away without a word about them.
    pair.ip("link add extra type veth peer name other")?;
    pair.ip("addr add 10.88.0.1/24 dev extra")?;
    pair.ip("link set extra up")?;
    following.until_changed(true, &["10.88.0.1/32"])?;
    pair.expect("10.88.0.1", true)?;
    pair.ip("link del extra")?;
    following.until_changed(false, &["10.88.0.1/32"])?;

    let ebpf = &pair.backends.ebpf;
    ebpf.detach()?;
    following.join()
}

impl Pair {
    /// Waits until an address is not tentative any more in the pod behind iptables, where nobody
    /// says so.
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

pub(super) fn a_range_of_own_addresses_is_own_as_behind_iptables() -> Tested {
    let pair = Pair::new("anyip")?;
    let following = Following::pod(&pair.backends.ebpf)?;
    let (v4, v6) = ("10.99.3.4", "fd99::3:4");
    for addr in [v4, v6] {
        pair.expect(addr, false)?;
    }
    pair.ip("route add local 10.99.0.0/16 dev lo")?;
    pair.ip("-6 route add local fd99::/64 dev lo")?;
    following.until_changed(true, &["10.99.0.0/16", "fd99::/64"])?;
    for addr in [v4, "10.99.255.255"] {
        pair.expect(addr, true)?;
    }
    // The kernel prefers an address of the route's device as a source: `::6`, of all. And with that
    // source the chain lets everybody pass.
    for addr in [v6, "fd99::ffff:ffff:ffff:ffff"] {
        let direct = ("app6:8080".to_owned(), RuleId::Passthrough.name());
        let seen = pair.answers(addr)?;
        ensure!(seen == [direct.clone(), direct], "{addr}: {seen:?}");
    }
    pair.ip("addr del ::6/128 dev lo")?;
    following.until_changed(false, &["::6/128"])?;
    pair.expect(v6, true)?;
    pair.expect("10.100.0.0", false)?;
    // A range that is configured inside of it, and one around it, change nothing about that.
    let nested = RedirectConfig {
        exclude: vec!["10.99.3.0/24".parse()?, "10.0.0.0/8".parse()?],
        ..everything()
    };
    pair.backends.configure(&nested)?;
    pair.expect(v4, true)?;
    let ebpf = &pair.backends.ebpf;
    let reader = ebpf.owner.reader()?;
    let pod = ebpf.pod(&reader)?;
    let config = reader.config(&pod)?;
    ensure!(config.exclude.len() == 2, "{config:?}");
    ensure!(
        ranges_of(&reader, &pod)? == 2,
        "own ranges are not the user's"
    );
    drop(reader);

    pair.backends.configure(&everything())?;
    pair.ip("route del local 10.99.0.0/16 dev lo")?;
    pair.ip("-6 route del local fd99::/64 dev lo")?;
    following.until_changed(false, &["10.99.0.0/16", "fd99::/64"])?;
    for addr in [v4, v6] {
        pair.expect(addr, false)?;
    }
    Ok(())
}

pub(super) fn the_source_shown_follows_the_routes() -> Tested {
    let pair = Pair::new("source")?;
    let following = Following::pod(&pair.backends.ebpf)?;
    let same = |what: &str| -> Tested {
        for to in [ELSEWHERE_V4, ELSEWHERE_V6] {
            let (iptables, ebpf) = pair.backends.dial(1000, 1000, &Dial::to(at(to, 80)))?;
            ensure!(
                iptables == ebpf && ebpf.is_redirected(),
                "{what}: {iptables:?}, ebpf {ebpf:?}"
            );
        }
        Ok(())
    };
    same("at first")?;
    pair.ip("route change default via 10.77.0.1 src 10.77.0.3")?;
    following.until(|event| {
        if let Event::Changed(AddressChange { sources, .. }) = event {
            let other = "10.77.0.3".parse().ok()?;
            return sources.contains(&other).then_some(());
        }
        None
    })?;
    same("after the change")
}
