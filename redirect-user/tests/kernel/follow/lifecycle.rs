//! The life of a follower: pods that are attached later, pods that are detached, and refreshes that fail.

use std::{net::IpAddr, time::Duration};

use anyhow::ensure;
use ipnet::IpNet;
use redirect_common::{
    abi::{LocalFlags, LocalKey, MAX_LOCALS},
    net::BeAddr,
};
use redirect_testkit::Dial;
use redirect_user::{
    bpf::{Maps, Pins},
    node::{FollowEventKind, Scope},
    sys::cgroup::Cgroup,
};

use super::{
    following::{Following, PATIENCE},
    local_addresses::{everything, ip},
};
use crate::{
    Tested,
    harness::{Redirected, Scene, at, netns},
};

pub(super) fn a_pod_attached_later_is_followed_until_its_detach() -> Tested {
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

/// The refresh fails while the map has no room for the pod's addresses.
pub(super) fn a_failed_refresh_is_reported_once_and_retried() -> Tested {
    let pod = Redirected::new("stuck", &everything())?;
    let following = Following::pod(&pod)?;
    let mut maps = Maps::open(&Pins::new(pod.owner.path()))?;
    let netns = pod.pod(&pod.owner.reader()?)?.row.netns;
    // More entries than the map has room for. They are of the pod's namespace, because entries of a namespace without
    // pods would be collected.
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
    ensure!(failed.contains("there is no room for more"), "{failed}");
    // As long as several refreshes take.
    let more = following.news.recv_timeout(Duration::from_secs(7));
    ensure!(more.is_err(), "{more:?}");
    // Nothing changes in the namespace from here on: the follower retries by itself.
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
