//! A flood of connections: none may reach the wrong server, or carry the original destination of another.

use std::time::Duration;

use anyhow::ensure;
use redirect_testkit::{Flood, Identity, Serve, cases, wait_until};
use redirect_user::config::{Include, RedirectConfig};

use crate::{
    Cases, Needs, Tested,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, FAR_V6, OUT_PORT, Redirected, Scene, at, moved},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [fifty_thousand_connections_keep_their_destinations],
};

const CONNECTIONS: u64 = 50_000;

fn fifty_thousand_connections_keep_their_destinations() -> Tested {
    let settings = RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    };
    let pod = Redirected::attach("flood", Scene::without_proxy("flood")?, &settings)?;
    // One server serves both families, so that the flood may have destinations of both.
    pod.scene
        .proxy
        .serve(&Serve::new("out", at("::", OUT_PORT)).dual_stack())?;
    let destinations = [
        at(ELSEWHERE_V4, 80),
        at(ELSEWHERE_V6, 80),
        at(ELSEWHERE_V4, 443),
        at(FAR_V4, 80),
        at(FAR_V6, 8443),
        at("198.51.100.7", 9000),
        at("10.77.0.1", 22),
    ];
    let before = pod.hits()?;
    let app = pod.scene.dialer(1000, 1000)?;
    let flood = Flood::new("out", destinations, CONNECTIONS).concurrency(64);
    let flooded = app.flood(&flood)?;
    ensure!(flooded.is_all_right(CONNECTIONS), "{flooded:?}");
    let after = pod.hits()?;
    let counted = moved(&before, &after);
    ensure!(
        counted.into_iter().eq([("any-included", CONNECTIONS)]),
        "{after:?}"
    );
    ensure!(
        (after.flow_lost, after.record_failed) == (0, 0),
        "{after:?}"
    );
    let accepted = pod.scene.proxy.accepted("out")?;
    ensure!(
        (accepted.connections, accepted.redirected) == (CONNECTIONS, CONNECTIONS),
        "{accepted:?}"
    );
    let quiet = wait_until(Duration::from_secs(5), || {
        pod.flows().is_ok_and(|flows| flows == 0)
    });
    ensure!(quiet, "{} flows are left", pod.flows()?);

    // With SYN cookies, which the kernel uses under attack, the proxy's side of a connection is made from the last
    // packet of the handshake alone.
    let root = pod.scene.pod.worker(&Identity::root())?;
    let forced = root.run(&["sh", "-c", "echo 2 > /proc/sys/net/ipv4/tcp_syncookies"])?;
    ensure!(forced.is_success(), "{forced:?}");
    let cookies = app.flood(&Flood {
        connections: 5000,
        ..flood
    })?;
    ensure!(cookies.is_all_right(5000), "with SYN cookies: {cookies:?}");
    let quiet = wait_until(Duration::from_secs(5), || {
        pod.flows().is_ok_and(|flows| flows == 0)
    });
    ensure!(quiet, "{} flows are left", pod.flows()?);
    eprintln!("{CONNECTIONS} connections in {:.1} s", flooded.seconds);
    Ok(())
}
