// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pods that a real container runtime makes, without any redirection.

use std::time::Duration;

use redirect_testkit::{
    Accepted, Behaviour, Dial, EnvoyStats, Flood, Hold, Identity, Serve,
    node::{Node, PodName},
    wait_until,
};

use crate::{FAR_V4, Tested, at};

pub(crate) fn a_node_makes_pods_and_leaves_nothing() -> Tested {
    let node = Node::new("node")?;
    let far = at(FAR_V4, 9000);
    node.world().add_address(far.ip())?;
    let world = node.world().worker(&Identity::root())?;
    world.serve(&Serve::new("far", far).behaviour(Behaviour::GreetBehindProxy))?;
    assert!(node.traces()?.is_empty(), "{:?}", node.traces()?);

    let pod = node.run(PodName {
        namespace: "shop".to_owned(),
        name: "cart-0".to_owned(),
        uid: "11111111-2222-3333-4444-555555555555".to_owned(),
    })?;
    assert_eq!(node.traces()?.len(), 4, "{:?}", node.traces()?);
    let (app, first) = pod.app("app", &Dial::to(far).send("\n"))?;
    let greeting = first.greeting().expect("an answer");
    assert_eq!((greeting.server.as_str(), greeting.orig_dst), ("far", None));
    assert_eq!(greeting.peer, first.sockname);
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
        "nobody came through a proxy"
    );
    let hold = Hold {
        to: far,
        bind: None,
        connections: 3,
    };
    app.hold(&hold)?;
    assert_eq!(app.ask_held(limit)?.len(), 3);
    sidecar.kill()?;
    assert!(EnvoyStats::of(&app).is_err());

    let accepted = world.accepted("far")?;
    assert_eq!(
        accepted,
        Accepted {
            connections: 44,
            redirected: 0,
            silent: 0
        }
    );
    pod.remove()?;
    assert!(node.traces()?.is_empty(), "{:?}", node.traces()?);
    let (cgroup, folder) = (node.cgroup().to_path_buf(), node.folder());
    drop(node);
    assert!(!cgroup.exists() && !folder.exists());
    Ok(())
}
