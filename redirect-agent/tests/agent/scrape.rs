//! Clients of the HTTP server, however many they are, do not disturb the agent.

use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::cases;

use crate::{Cases, Needs, Tested, node::Node};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        connections_wait_for_descriptors_and_one_warning_is_logged,
    ],
};

fn connections_wait_for_descriptors_and_one_warning_is_logged() -> Tested {
    let node = Node::new("descriptors");
    let agent = node.start_limited(64, 64);
    agent.until_ready();
    let address = agent.address().context("an address")?;
    // Silent connections. A listening socket queues more of them than there are descriptors.
    let silent = (0..100).map(|_| TcpStream::connect(address));
    let silent: Vec<_> = silent.collect::<Result<_, _>>()?;
    let said = || agent.log().matches("accepting a connection").count();
    agent.until("the warning is logged", || said() > 0);
    drop(silent);
    agent.until_ready();
    ensure!(said() == 1, "{}", agent.log());
    Ok(())
}
