//! Starting, stopping, and adopting attachments.

use std::net::SocketAddr;

use anyhow::ensure;
use redirect_testkit::{Dial, Identity, cases};
use rustix::process::Signal;

use crate::{
    Cases, Needs, Tested,
    node::Node,
    scene::{NEW, OLD, Scene},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        a_new_agent_adopts_attachments_and_touches_nothing,
        detach_on_exit_leaves_nothing,
        a_state_directory_admits_one_agent,
        a_pods_addresses_are_followed,
    ],
};

fn a_new_agent_adopts_attachments_and_touches_nothing() -> Tested {
    let (node, shop) = (Node::new("adopt"), Scene::new("adopt")?);
    // The order differs from that of the maps, and some details are not kept in them.
    let more = ", -x, '192.0.2.0/24,10.1.2.3/8,10.0.0.0/8,fd00::1/64', -o, '90,81:86,84', -q, '7', -b, '', -d, '9', --redirect-dns, --dns-servers, '10.0.0.10,10.0.0.9', -u, '1337,0'";
    node.describe("shop", &shop.description(OLD, more));
    let mut agent = node.start();
    let attached = node.pods();
    for signal in [Signal::KILL, Signal::TERM, Signal::INT] {
        agent.end(signal);
        ensure!(shop.reached()? == "old", "no agent runs");
        agent = node.start();
        ensure!(shop.reached()? == "old", "an agent runs again");
        ensure!(agent.metric("redirect_agent_actions_total", &[]) == 0);
        // A change would have given the row another serial.
        ensure!(node.pods() == attached, "{attached:?}, {:?}", node.pods());
    }
    Ok(())
}

fn detach_on_exit_leaves_nothing() -> Tested {
    let (node, shop) = (Node::new("exit"), Scene::new("exit")?);
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start_with(&["--detach-on-exit"]);
    agent.until_ready();
    ensure!(shop.reached()? == "old");
    ensure!(agent.end(Signal::TERM) == Some(0));
    ensure!(shop.reached()? == "world");
    ensure!(node.leftovers().is_empty(), "{:?}", node.leftovers());
    Ok(())
}

fn a_state_directory_admits_one_agent() -> Tested {
    let (node, shop) = (Node::new("one"), Scene::new("one")?);
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start();
    for args in [vec!["run", "--once"], vec!["cleanup"]] {
        let ran = node.run(&args);
        ensure!(ran.status == Some(4), "{ran:?}");
        ensure!(
            ran.stderr.contains("another redirect-agent is running"),
            "{ran:?}"
        );
    }
    ensure!(node.run(&["plan"]).status == Some(0), "plan takes no lock");
    ensure!(shop.reached()? == "old");
    ensure!(agent.end(Signal::KILL).is_none());
    node.describe("shop", &shop.description(NEW, ""));
    ensure!(
        node.run(&["run", "--once"]).status == Some(0),
        "the lock ends with its agent"
    );
    ensure!(shop.reached()? == "new");
    Ok(())
}

fn a_pods_addresses_are_followed() -> Tested {
    let (node, shop) = (Node::new("follow"), Scene::new("follow")?);
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start();
    let root = shop.pod.worker(&Identity::root())?;
    let address: SocketAddr = "10.77.0.8:80".parse()?;
    let self_calls = || agent.metric("redirect_connections_total", &["rule=\"app-lo-uid\""]);
    ensure!(self_calls() == 0);
    let added = root.run(&["ip", "addr", "add", "10.77.0.8/24", "dev", "eth0"])?;
    ensure!(added.is_success(), "{added:?}");
    // Nothing listens there: only the decision changes.
    agent.until("the address is the pod's own", || {
        shop.app.dial(&Dial::to(address)).is_ok() && self_calls() > 0
    });
    Ok(())
}
