//! The two pods.

use std::time::Duration;

use anyhow::Result;
use redirect_testkit::{
    Dial, Outcome,
    iptables::{self, Backend, IstioRules},
};
use redirect_user::config::{Include, OwnerGroups, PortRange, RedirectConfig};

use super::View;
use crate::harness::{Redirected, Scene};

/// Longer than any connection takes on a machine at rest.
const HASTE: Duration = Duration::from_millis(60);

/// One pod behind iptables, one behind the programs; alike otherwise.
#[derive(Debug)]
pub(crate) struct Twins {
    pub(crate) iptables: Scene,
    pub(crate) ours: Redirected,
}

impl Twins {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let settings = RedirectConfig::default();
        Ok(Self {
            iptables: Scene::new(&format!("{name}-iptables"))?,
            ours: Redirected::new(&format!("{name}-ours"), &settings)?,
        })
    }

    /// Gives both the same settings.
    pub(crate) fn configure(&self, settings: &RedirectConfig) -> Result<()> {
        let rules = istio_rules(settings);
        iptables::apply_istio(&self.iptables.pod, Backend::Legacy, &rules)?;
        self.ours.update(settings)
    }

    /// Makes the same connection in both. What does not connect at once is given up early: only
    /// if that makes a difference it is tried again with patience. Once more only if it was iptables
    /// that timed out, as it does now and then on a busy machine: a difference of ours stands.
    pub(crate) fn dial(&self, uid: u32, gid: u32, dial: &Dial) -> Result<(View, View)> {
        let hasty = self.dial_in_haste(uid, gid, dial)?;
        if hasty.0 == hasty.1 {
            return Ok(hasty);
        }
        let iptables = self.iptables.dial_as(uid, gid, dial)?;
        let ours = View::of(&self.ours.scene.dial_as(uid, gid, dial)?);
        let views = (View::of_iptables(&iptables), ours);
        let timed_out =
            matches!(&iptables.outcome, Outcome::Failed { name, .. } if name == "ETIMEDOUT");
        if views.0 == views.1 || !timed_out {
            return Ok(views);
        }
        self.dial_both(uid, gid, dial)
    }

    /// The same, giving up early in any case.
    pub(crate) fn dial_in_haste(&self, uid: u32, gid: u32, dial: &Dial) -> Result<(View, View)> {
        self.dial_both(uid, gid, &dial.clone().timeout(HASTE))
    }

    fn dial_both(&self, uid: u32, gid: u32, dial: &Dial) -> Result<(View, View)> {
        let iptables = self.iptables.dial_as(uid, gid, dial)?;
        let ours = self.ours.scene.dial_as(uid, gid, dial)?;
        Ok((View::of_iptables(&iptables), View::of(&ours)))
    }
}

/// What istio-iptables would write for these settings. Inbound is left alone.
pub(crate) fn istio_rules(settings: &RedirectConfig) -> IstioRules {
    let ports = |ranges: &[PortRange]| {
        ranges
            .iter()
            .flat_map(|range| range.first..=range.last)
            .collect()
    };
    IstioRules {
        uids: settings.proxy_uids.as_slice().to_vec(),
        gids: settings.proxy_gids.as_slice().to_vec(),
        owner_groups: match &settings.owner_groups {
            OwnerGroups::Any => {
                iptables::OwnerGroups::AllExcept(settings.owner_groups_exclude.clone())
            }
            OwnerGroups::List(groups) => iptables::OwnerGroups::Only(groups.clone()),
        },
        outbound_port: settings.out_port,
        inbound_port: settings.in_port,
        tunnel_port: settings.tunnel_port,
        exclude_ports: ports(&settings.exclude_ports),
        include_ports: ports(&settings.include_ports),
        exclude_cidrs: settings.exclude.clone(),
        include: match &settings.include {
            Include::Any => iptables::Include::All,
            Include::Cidrs(cidrs) => iptables::Include::Only(cidrs.clone()),
        },
        inbound_except: None,
        ..IstioRules::default()
    }
}
