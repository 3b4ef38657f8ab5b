//! Addresses that come and go while a pod is attached, followed and compared with iptables, which
//! ask the routing at every connection.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use ipnet::IpNet;
use redirect_common::{
    abi::{LocalFlags, LocalKey, MAX_LOCALS},
    chain::RuleId,
    net::BeAddr,
};
use redirect_testkit::{Dial, Identity, cases};
use redirect_user::{
    bpf::{Maps, Pins},
    config::{Include, RedirectConfig},
    node::{AddressChange, FollowEvent, FollowEventKind, Scope, follow},
    sys::{cgroup::Cgroup, netns::NetnsRef},
};
use tokio::sync::oneshot;

use crate::{
    Cases, Needs, Tested,
    differential::Twins,
    harness::{
        ELSEWHERE_V4, ELSEWHERE_V6, OwnerFolder, Redirected, Scene, at, moved, netns, ranges_of,
    },
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        own_addresses_are_those_of_now_as_behind_iptables,
        a_range_of_own_addresses_is_own_as_behind_iptables,
        the_source_shown_follows_the_routes,
        what_is_attached_later_is_followed_and_let_go_with_its_end,
        what_cannot_be_refreshed_is_told_once_and_tried_again,
    ],
};

/// Longer than anything takes; nothing is judged by it but whether it happens at all.
const PATIENCE: Duration = Duration::from_mins(1);

/// A follower in a thread of its own, until it is dropped.
pub(crate) struct Following {
    news: Receiver<(PathBuf, FollowEventKind)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Following {
    fn start(owner: &OwnerFolder, scope: Scope) -> Self {
        let (send, news) = channel();
        let (stop, stopped) = oneshot::channel();
        let owner = owner.path().to_owned();
        let run = move || {
            let tell = |FollowEvent { cgroup, kind }: FollowEvent<'_>| {
                // Nobody listens any more when the test is over.
                send.send((cgroup.to_owned(), kind)).unwrap_or_default();
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                tokio::select! {
                    ended = follow(&owner, scope, tell) => ended,
                    _ = stopped => Ok(()),
                }
            })
        };
        Self {
            news,
            stop: Some(stop),
            thread: Some(std::thread::spawn(run)),
        }
    }

    /// Follows one pod, and waits until it is listened to.
    pub(crate) fn pod(pod: &Redirected) -> Result<Self> {
        let scope = Scope::One {
            cgroup: Cgroup::open(pod.cgroup.path())?,
            netns: Some(NetnsRef::Path(pod.scene.pod.namespace())),
        };
        let following = Self::start(&pod.owner, scope);
        following.until(|event| matches!(event, FollowEventKind::Followed(_)).then_some(()))?;
        Ok(following)
    }

    /// Waits for an event that `wanted` makes something of.
    pub(crate) fn until<T>(
        &self,
        mut wanted: impl FnMut(&FollowEventKind) -> Option<T>,
    ) -> Result<T> {
        loop {
            match self.news.recv_timeout(PATIENCE) {
                Ok((_, FollowEventKind::Failed(error))) => return Err(error),
                Ok((_, event)) => {
                    if let Some(found) = wanted(&event) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("it was not noticed"),
                Err(RecvTimeoutError::Disconnected) => bail!("the follower has ended"),
            }
        }
    }

    /// Waits until these are among the own addresses, or no longer.
    fn until_changed(&self, own: bool, nets: &[&str]) -> Tested {
        let mut wanted: Vec<&str> = nets.to_vec();
        self.until(|event| {
            if let FollowEventKind::Changed(AddressChange { added, removed, .. }) = event {
                let list = if own { added } else { removed };
                wanted.retain(|net| !list.iter().any(|other| other.to_string() == *net));
            }
            wanted.is_empty().then_some(())
        })
        .with_context(|| format!("waiting for {wanted:?}"))
    }

    /// Waits for the follower to end by itself.
    fn join(mut self) -> Result<()> {
        let thread = self.thread.take().context("a thread")?;
        thread.join().map_err(|_panic| anyhow!("it panicked"))?
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn everything() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

/// Two pods whose addresses are changed alike.
struct Pair {
    twins: Twins,
}

impl Pair {
    fn new(name: &str) -> Result<Self> {
        let twins = Twins::new(name)?;
        twins.configure(&everything())?;
        Ok(Self { twins })
    }

    /// Runs `ip` in both pods.
    fn ip(&self, arguments: &str) -> Tested {
        for scene in [&self.twins.iptables, &self.twins.ours.scene] {
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
                let (iptables, ours) = self.twins.dial(uid, uid, &dial)?;
                ensure!(
                    iptables == ours,
                    "{uid} to {addr}:\n  iptables: {iptables:?}\n  ours:     {ours:?}"
                );
            }
            let before = self.twins.ours.hits()?;
            let dialled = self
                .twins
                .ours
                .scene
                .dial_as(uid, uid, &Dial::to(at(addr, 8080)))?;
            let moved = moved(&before, &self.twins.ours.hits()?);
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

fn ip(scene: &Scene, arguments: &str) -> Tested {
    let root = scene.pod.worker(&Identity::root())?;
    let argv: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
    let done = root.run(&argv)?;
    ensure!(done.is_success(), "ip {arguments}: {done:?}");
    Ok(())
}

fn own_addresses_are_those_of_now_as_behind_iptables() -> Tested {
    let pair = Pair::new("follow")?;
    let (v4, v6) = ("10.77.0.9", "fd00:77::9");
    pair.expect(v4, false)?;
    pair.ip(&format!("addr add {v4}/24 dev eth0"))?;
    // Without anybody following, it is not known: the comparison notices.
    ensure!(pair.expect(v4, true).is_err());
    let following = Following::pod(&pair.twins.ours)?;
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

    let ours = &pair.twins.ours;
    ours.detach()?;
    following.join()
}

impl Pair {
    /// Waits until an address is not tentative any more in the pod behind iptables, where nobody
    /// says so.
    fn settle(&self, addr: &str) -> Tested {
        let root = self.twins.iptables.pod.worker(&Identity::root())?;
        let settled = redirect_testkit::wait_until(PATIENCE, || {
            root.run(&["ip", "-6", "addr", "show", "dev", "eth0", "-tentative"])
                .is_ok_and(|shown| shown.stdout.contains(addr))
        });
        ensure!(settled, "{addr} stays tentative");
        Ok(())
    }
}

fn a_range_of_own_addresses_is_own_as_behind_iptables() -> Tested {
    let pair = Pair::new("anyip")?;
    let following = Following::pod(&pair.twins.ours)?;
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
    pair.twins.configure(&nested)?;
    pair.expect(v4, true)?;
    let ours = &pair.twins.ours;
    let reader = ours.owner.reader()?;
    let pod = ours.pod(&reader)?;
    let config = reader.config(&pod)?;
    ensure!(config.exclude.len() == 2, "{config:?}");
    ensure!(
        ranges_of(&reader, &pod)? == 2,
        "own ranges are not the user's"
    );
    drop(reader);

    pair.twins.configure(&everything())?;
    pair.ip("route del local 10.99.0.0/16 dev lo")?;
    pair.ip("-6 route del local fd99::/64 dev lo")?;
    following.until_changed(false, &["10.99.0.0/16", "fd99::/64"])?;
    for addr in [v4, v6] {
        pair.expect(addr, false)?;
    }
    Ok(())
}

fn the_source_shown_follows_the_routes() -> Tested {
    let pair = Pair::new("source")?;
    let following = Following::pod(&pair.twins.ours)?;
    let same = |what: &str| -> Tested {
        for to in [ELSEWHERE_V4, ELSEWHERE_V6] {
            let (iptables, ours) = pair.twins.dial(1000, 1000, &Dial::to(at(to, 80)))?;
            ensure!(
                iptables == ours && ours.is_redirected(),
                "{what}: {iptables:?}, ours {ours:?}"
            );
        }
        Ok(())
    };
    same("at first")?;
    pair.ip("route change default via 10.77.0.1 src 10.77.0.3")?;
    following.until(|event| {
        if let FollowEventKind::Changed(AddressChange { sources, .. }) = event {
            let other = "10.77.0.3".parse().ok()?;
            return sources.contains(&other).then_some(());
        }
        None
    })?;
    same("after the change")
}

fn what_is_attached_later_is_followed_and_let_go_with_its_end() -> Tested {
    let first = Redirected::new("later-first", &everything())?;
    let following = Following::start(&first.owner, Scope::All);
    following.until(|event| matches!(event, FollowEventKind::Followed(_)).then_some(()))?;
    let scene = Scene::new("later-second")?;
    let cgroup = Cgroup::open(scene.pod.cgroup().path())?;
    first
        .owner
        .writer()?
        .attach(&cgroup, &netns(&scene.pod)?, &everything())?;
    following.until(|event| matches!(event, FollowEventKind::Followed(_)).then_some(()))?;
    ip(&scene, "addr add 10.77.0.9/24 dev eth0")?;
    following.until_changed(true, &["10.77.0.9/32"])?;
    let answered = scene.dial_as(1337, 1337, &Dial::to(at("10.77.0.9", 8080)))?;
    ensure!(answered.server() == Some("in4:15006"), "{answered:?}");

    let path = cgroup.path().to_owned();
    let mut writer = first.owner.writer()?;
    let pod = writer.pod(cgroup.id(), cgroup.path())?;
    writer.detach(&[pod])?;
    drop(writer);
    loop {
        let (cgroup, event) = following.news.recv_timeout(PATIENCE)?;
        if matches!(event, FollowEventKind::Gone) {
            ensure!(cgroup == path, "{} is gone", cgroup.display());
            return Ok(());
        }
    }
}

/// As long as there is no place for its addresses.
fn what_cannot_be_refreshed_is_told_once_and_tried_again() -> Tested {
    let pod = Redirected::new("stuck", &everything())?;
    let following = Following::pod(&pod)?;
    let mut maps = Maps::open(&Pins::new(pod.owner.path()))?;
    let netns = pod.pod(&pod.owner.reader()?)?.row.netns;
    // More than there is place for, and of this namespace: those of one that no pod is in would be collected.
    let keys = (1..=u32::try_from(2 * MAX_LOCALS)?).map(|number| LocalKey {
        netns,
        addr: BeAddr::from(IpAddr::V6(u128::from(number).into())),
    });
    let taken: Vec<_> = keys
        .take_while(|key| maps.set_local(*key, LocalFlags::BROADCAST).is_ok())
        .collect();
    ip(&pod.scene, "addr add 10.77.0.9/24 dev eth0")?;
    let failed = loop {
        if let (_, FollowEventKind::Failed(error)) = following.news.recv_timeout(PATIENCE)? {
            break format!("{error:#}");
        }
    };
    ensure!(failed.contains("is the map full?"), "{failed}");
    // As long as several looks take.
    let more = following.news.recv_timeout(Duration::from_secs(7));
    ensure!(more.is_err(), "{more:?}");
    // Nothing changes in the namespace any more.
    for key in &taken {
        maps.remove_local(key)?;
    }
    let (_, event) = following.news.recv_timeout(PATIENCE)?;
    let added: IpNet = "10.77.0.9/32".parse()?;
    ensure!(
        matches!(&event, FollowEventKind::Changed(change) if change.added.contains(&added)),
        "{event:?}"
    );
    let answered = pod
        .scene
        .dial_as(1337, 1337, &Dial::to(at("10.77.0.9", 8080)))?;
    ensure!(answered.server() == Some("in4:15006"), "{answered:?}");
    Ok(())
}
