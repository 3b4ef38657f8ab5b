//! Two pods, one behind iptables and one behind the programs, alike otherwise.

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

/// A short time limit: longer than any connection takes on a machine at rest.
const HASTE: Duration = Duration::from_millis(60);

/// Rules that empty every table in which a configuration may have rules.
const NO_RULES: &str = "*raw\nCOMMIT\n*mangle\nCOMMIT\n*nat\nCOMMIT\n";

/// Replaces the rules of a pod with those of a configuration.
pub(crate) fn install(pod: &Pod, settings: &RedirectConfig) -> Result<()> {
    for (family, theirs) in [
        (Family::V4, iptables::Family::V4),
        (Family::V6, iptables::Family::V6),
    ] {
        replace(pod, theirs, &restore(settings, family))?;
    }
    Ok(())
}

/// Replaces the rules of one family in a pod.
pub(crate) fn replace(pod: &Pod, family: iptables::Family, rules: &str) -> Result<()> {
    let rules = [NO_RULES, rules].concat();
    iptables::apply(pod, Backend::Legacy, family, &rules)
}

/// One pod behind iptables, and one behind the programs.
#[derive(Debug)]
pub(crate) struct Backends {
    pub(crate) iptables: Scene,
    pub(crate) ebpf: Redirected,
}

impl Backends {
    pub(crate) fn new(name: &str) -> Result<Self> {
        Self::of(name, Pod::new)
    }

    /// Makes two pods with this function.
    pub(crate) fn of(name: &str, pod: impl Fn(&str) -> Result<Pod>) -> Result<Self> {
        let scene = |name: &str| Scene::of(pod(name)?);
        let ebpf = format!("{name}-ebpf");
        let settings = RedirectConfig::default();
        Ok(Self {
            iptables: scene(&format!("{name}-iptables"))?,
            ebpf: Redirected::attach(&ebpf, scene(&ebpf)?, &settings)?,
        })
    }

    /// Gives both pods the same configuration.
    pub(crate) fn configure(&self, settings: &RedirectConfig) -> Result<()> {
        install(&self.iptables.pod, settings)?;
        self.ebpf.update(settings)
    }

    /// Restarts both proxies, so that they start after the present configuration.
    pub(crate) fn restart_proxies(&self) -> Result<()> {
        self.iptables.restart_proxy()?;
        self.ebpf.scene.restart_proxy()
    }

    /// Makes the same connection in both pods. A connection that is not established at once is given up early, and
    /// tried again with a longer limit only if the views differ. It is tried a third time only if it timed out behind
    /// iptables, which happens now and then on a busy machine: a difference of the programs stands.
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

    /// Makes the same connection in both pods, with a short limit.
    pub(crate) fn dial_in_haste(&self, uid: u32, gid: u32, dial: &Dial) -> Result<(View, View)> {
        self.dial_both(uid, gid, &dial.clone().timeout(HASTE))
    }

    /// Makes the same connection in both pods once, with the limit of the dial.
    pub(crate) fn dial_both(&self, uid: u32, gid: u32, dial: &Dial) -> Result<(View, View)> {
        let iptables = self.iptables.dial_as(uid, gid, dial)?;
        let ebpf = self.ebpf.scene.dial_as(uid, gid, dial)?;
        Ok((View::of_iptables(&iptables), View::of(&ebpf)))
    }
}
