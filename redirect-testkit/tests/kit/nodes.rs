// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pods of a real container runtime, without redirection.

use std::time::Duration;

use redirect_testkit::{
    AcceptedCounts, Behaviour, Dial, EnvoyStats, Flood, Identity, OpenConnections, Serve,
    node::{Node, PodName},
    wait_until,
};

use crate::{FAR_V4, Tested, at};

pub(crate) fn a_node_makes_pods_and_leaves_nothing() -> Tested {
    let node = Node::new("node")?;
    let far = at(FAR_V4, 9000);
    node.world().add_address(far.ip())?;
    let world = node.world().worker(&Identity::root())?;
    world.serve(&Serve::new("far", far).behaviour(Behaviour::ProxyProtocol))?;
    assert_eq!(node.pod_resources()?, Vec::<String>::new());

    let pod = node.run_sandbox(PodName {
        namespace: "shop".to_owned(),
        name: "cart-0".to_owned(),
        uid: "11111111-2222-3333-4444-555555555555".to_owned(),
    })?;
    let resources = node.pod_resources()?;
    assert_eq!(resources.len(), 4, "{resources:?}");
    let (app, first) = pod.app("app", &Dial::to(far).send("\n"))?;
    let banner = first.banner().expect("an answer");
    assert_eq!((banner.server.as_str(), banner.orig_dst), ("far", None));
    assert_eq!(banner.peer, first.sockname);
    let identity = app.run(&["/kit", "--list"])?;
    assert!(identity.is_success(), "{identity:?}");

    let sidecar = pod.sidecar()?;
    let limit = Duration::from_secs(30);
    assert!(wait_until(limit, || EnvoyStats::of(&app).is_ok()));
    let flood = Flood::new("far", [far], 20).speaking_first();
    assert_eq!(app.flood(&flood.clone().without_orig_dst())?.right, 20);
    assert_eq!(
        app.flood(&flood)?.missing,
        20,
        "no connection came through a proxy"
    );
    let open = OpenConnections {
        to: far,
        bind: None,
        count: 3,
    };
    app.open_connections(&open)?;
    assert_eq!(app.ask_connections(limit)?.len(), 3);
    sidecar.kill()?;
    assert!(EnvoyStats::of(&app).is_err());

    let accepted = world.accepted("far")?;
    assert_eq!(
        accepted,
        AcceptedCounts {
            connections: 44,
            redirected: 0,
            silent: 0
        }
    );
    pod.remove()?;
    assert_eq!(node.pod_resources()?, Vec::<String>::new());
    let (cgroup, folder) = (node.cgroup().to_path_buf(), node.folder());
    drop(node);
    assert!(!cgroup.exists() && !folder.exists());
    Ok(())
}
