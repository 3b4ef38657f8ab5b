//! The two pods.

use std::time::Duration;

use anyhow::Result;
use redirect_iptables::rules::{Family, restore};
use redirect_testkit::{
    Dial, DialOutcome, Pod,
    iptables::{self, Backend},
};
use redirect_user::config::RedirectConfig;

use super::view::View;
use crate::harness::{Redirected, Scene};

/// Longer than any connection takes on a machine at rest.
const HASTE: Duration = Duration::from_millis(60);

/// Empties every table that some configuration has rules in.
const NO_RULES: &str = "*raw\nCOMMIT\n*mangle\nCOMMIT\n*nat\nCOMMIT\n";

/// Puts real rules into a pod, in place of those that are there.
pub(crate) fn install(pod: &Pod, settings: &RedirectConfig) -> Result<()> {
    for (family, theirs) in [
        (Family::V4, iptables::Family::V4),
        (Family::V6, iptables::Family::V6),
    ] {
        replace(pod, theirs, &restore(settings, family))?;
    }
    Ok(())
}

/// Puts rules of one family into a pod, in place of those that are there.
pub(crate) fn replace(pod: &Pod, family: iptables::Family, rules: &str) -> Result<()> {
    let rules = [NO_RULES, rules].concat();
    iptables::apply(pod, Backend::Legacy, family, &rules)
}

/// One pod behind iptables, one behind the programs; alike otherwise.
#[derive(Debug)]
pub(crate) struct Backends {
    pub(crate) iptables: Scene,
    pub(crate) ebpf: Redirected,
}

impl Backends {
    pub(crate) fn new(name: &str) -> Result<Self> {
        Self::of(name, Pod::new)
    }

    /// Two pods that are made this way.
    pub(crate) fn of(name: &str, pod: impl Fn(&str) -> Result<Pod>) -> Result<Self> {
        let scene = |name: &str| Scene::of(pod(name)?);
        let ebpf = format!("{name}-ebpf");
        let settings = RedirectConfig::default();
        Ok(Self {
            iptables: scene(&format!("{name}-iptables"))?,
            ebpf: Redirected::attach(&ebpf, scene(&ebpf)?, &settings)?,
        })
    }

    /// Gives both the same settings.
    pub(crate) fn configure(&self, settings: &RedirectConfig) -> Result<()> {
        install(&self.iptables.pod, settings)?;
        self.ebpf.update(settings)
    }

    /// Has both proxies start anew, after what they are configured with now.
    pub(crate) fn restart_proxies(&self) -> Result<()> {
        self.iptables.restart_proxy()?;
        self.ebpf.scene.restart_proxy()
    }

    /// Makes the same connection in both. What does not connect at once is given up early: only
    /// if that makes a difference it is tried again with patience. Once more only if it was iptables
    /// that timed out, as it does now and then on a busy machine: a difference of ebpf stands.
    pub(crate) fn dial(&self, uid: u32, gid: u32, dial: &Dial) -> Result<(View, View)> {
        let hasty = self.dial_in_haste(uid, gid, dial)?;
        if hasty.0 == hasty.1 {
            return Ok(hasty);
        }
        let iptables = self.iptables.dial_as(uid, gid, dial)?;
        let ebpf = View::of(&self.ebpf.scene.dial_as(uid, gid, dial)?);
        let views = (View::of_iptables(&iptables), ebpf);
        let timed_out =
            matches!(&iptables.outcome, DialOutcome::Failed { name, .. } if name == "ETIMEDOUT");
        if views.0 == views.1 || !timed_out {
            return Ok(views);
        }
        self.dial_both(uid, gid, dial)
    }

    /// The same, giving up early in any case.
    pub(crate) fn dial_in_haste(&self, uid: u32, gid: u32, dial: &Dial) -> Result<(View, View)> {
        self.dial_both(uid, gid, &dial.clone().timeout(HASTE))
    }

    /// The same, once and with patience.
    pub(crate) fn dial_both(&self, uid: u32, gid: u32, dial: &Dial) -> Result<(View, View)> {
        let iptables = self.iptables.dial_as(uid, gid, dial)?;
        let ebpf = self.ebpf.scene.dial_as(uid, gid, dial)?;
        Ok((View::of_iptables(&iptables), View::of(&ebpf)))
    }
}
