//! What is seen of a datagram, in a form that two pods can be compared by.

use std::net::{IpAddr, SocketAddr};

use redirect_testkit::{UdpScript, UdpStep, UdpStepReport};

/// What is seen after a step. The client's port is left out: it is the kernel's choice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StepView {
    /// The errno.
    pub(super) error: Option<String>,
    /// Whom the datagram came from.
    pub(super) from: Option<SocketAddr>,
    /// Server sent it really, and whom that server saw.
    pub(super) server: Option<(String, Option<IpAddr>)>,
    /// `getpeername`.
    pub(super) peername: Option<SocketAddr>,
    /// `getsockname`.
    pub(super) sockname: Option<IpAddr>,
}

/// The same steps behind iptables and behind the programs.
pub(super) type BothViews = (Vec<StepView>, Vec<StepView>);

/// What is seen of every step. Answers that are waited for together are in no order: two servers
/// are as fast as they are.
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
