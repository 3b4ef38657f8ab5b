//! The view of a query and its answer, comparable between two pods.

use std::net::{IpAddr, SocketAddr};

use redirect_testkit::{UdpScript, UdpStep, UdpStepReport};

/// The view after a step. The client's port is left out, because the kernel chooses it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StepView {
    /// The name of the errno, if the step failed.
    pub(super) error: Option<String>,
    /// The source address of the datagram.
    pub(super) from: Option<SocketAddr>,
    /// The name of the server that sent the datagram, and the client's address at that server.
    pub(super) server: Option<(String, Option<IpAddr>)>,
    /// The result of `getpeername`.
    pub(super) peername: Option<SocketAddr>,
    /// The result of `getsockname`.
    pub(super) sockname: Option<IpAddr>,
}

/// The views of one script behind iptables and behind the programs.
pub(super) type BothViews = (Vec<StepView>, Vec<StepView>);

/// Makes the view of every step. Answers that are waited for together are sorted, because two servers answer in any
/// order.
pub(super) fn views(script: &UdpScript, steps: &[UdpStepReport]) -> Vec<StepView> {
    let of = |step: &UdpStepReport| StepView {
        error: step.error.clone(),
        from: step.from,
        server: step
            .banner
            .as_ref()
            .map(|banner| (banner.server.clone(), banner.peer.map(|peer| peer.ip()))),
        peername: step.peername,
        sockname: step.sockname.map(|own| own.ip()),
    };
    let mut all: Vec<_> = script.steps.iter().zip(steps.iter().map(of)).collect();
    for together in all.chunk_by_mut(|(one, _), (next, _)| one == next) {
        if matches!(together, [(UdpStep::Receive, _), ..]) {
            together.sort();
        }
    }
    all.into_iter().map(|(_, seen)| seen).collect()
}
