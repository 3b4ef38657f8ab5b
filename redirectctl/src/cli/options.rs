//! The options that `attach` and `update` share: a pod, and its configuration.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Result;
use clap::Args;
use redirect_user::{
    config::{Flags, OptionChange, RedirectConfig, Resolved, parse_bool},
    node::{Warning, check_listeners, check_netns, check_processes, find_resolvers},
    sys::{
        cgroup::Cgroup,
        netns::{NetnsRef, NetnsSnapshot},
    },
};
use serde::Serialize;

use super::{
    context::Context,
    target::{CgroupArg, NetnsArg},
};

#[derive(Args, Debug)]
pub(super) struct PodOptions {
    #[command(flatten)]
    pub(super) cgroup: CgroupArg,
    #[command(flatten)]
    pub(super) netns: NetnsArg,
    /// Decide and count, but redirect nothing. `redirectctl status` compares the decisions with the real destinations,
    /// such as those by the pod's iptables rules
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub(super) shadow: Option<bool>,
    /// Attach although programs of others no longer run for this cgroup: those on cgroups above that were attached
    /// with `BPF_F_ALLOW_OVERRIDE`
    #[arg(long)]
    pub(super) allow_override: bool,
    #[command(flatten)]
    pub(super) flags: Flags,
}

fn switch(text: &str) -> Result<bool, &'static str> {
    parse_bool(text).ok_or("write true or false")
}

/// A pod and its new configuration.
#[derive(Debug)]
pub(super) struct PodConfig {
    pub(super) cgroup: Cgroup,
    pub(super) config: RedirectConfig,
    /// Warnings about options that are allowed, but may not be meant.
    warnings: Vec<String>,
}

impl PodOptions {
    /// Reads options and environment, and opens the cgroup. With `kept`, an option that is not given keeps the value
    /// that it has there.
    pub(super) fn read(
        &self,
        context: &Context<'_>,
        kept: Option<&RedirectConfig>,
    ) -> Result<PodConfig> {
        let mut flags = self.flags.clone();
        if let Some(kept) = kept {
            flags.keep(&kept.texts(), &context.env.variables);
        }
        let Resolved {
            mut config,
            mut warnings,
        } = context.resolve(&flags)?;
        let cgroup = self.cgroup.open()?;
        config.shadow = self.shadow.unwrap_or(kept.is_some_and(|kept| kept.shadow));
        if config.shadow && !config.inbound.is_none() {
            warnings.push("--shadow: only outbound connections are compared: inbound ones are translated before a hook sees them".to_owned());
        }
        Ok(PodConfig {
            cgroup,
            config,
            warnings,
        })
    }

    /// Reads the pod's network namespace, or `otherwise` if the pod has no process. Adds the warnings that the pod's
    /// files and namespace give reason for.
    pub(super) fn inspect_pod(
        &self,
        pod: &mut PodConfig,
        otherwise: Option<NetnsRef>,
    ) -> Result<Option<(NetnsRef, NetnsSnapshot)>> {
        let PodConfig {
            cgroup,
            config,
            warnings,
        } = pod;
        warnings.extend(find_resolvers(config, self.netns.resolv_conf(cgroup))?);
        let is_attach = otherwise.is_some();
        let Some(name) = self.netns.find(cgroup).or(otherwise) else {
            return Ok(None);
        };
        let netns = NetnsSnapshot::read(&name)?;
        warnings.extend(check_netns(config, &netns).iter().map(text));
        warnings.extend(check_listeners(config, &name)?.iter().map(text));
        let processes = check_processes(cgroup, self.netns.netns.as_ref());
        let is_relevant = |warning: &Warning| is_attach || !matches!(warning, Warning::NoProcess);
        warnings.extend(processes.filter(is_relevant).iter().map(text));
        Ok(Some((name, netns)))
    }
}

/// A warning with its remedy.
pub(super) fn text(warning: &Warning) -> String {
    match warning.remedy() {
        Some(remedy) => format!("{warning}: {remedy}"),
        None => warning.to_string(),
    }
}

/// The result as JSON.
#[derive(Serialize)]
struct Applied {
    cgroup: PathBuf,
    cgroup_id: u64,
    netns: Option<String>,
    config: RedirectConfig,
    /// None for an attach.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<OptionChange>>,
    warnings: Vec<String>,
}

impl Context<'_> {
    /// Prints that a pod was attached.
    pub(super) fn print_attached(&mut self, pod: PodConfig, netns: &NetnsRef) -> Result<()> {
        let found = format!("network namespace: {netns}");
        let applied = self.applied(pod, Some(netns), None);
        self.print(&applied, |_| {
            format!("attached \"{}\" ({found})\n", applied.cgroup.display())
        })
    }

    /// Prints that a pod was updated, and the options that changed.
    pub(super) fn print_updated(
        &mut self,
        pod: PodConfig,
        netns: Option<&NetnsRef>,
        changes: Vec<OptionChange>,
    ) -> Result<()> {
        let applied = self.applied(pod, netns, Some(changes));
        self.print(&applied, |_| {
            let mut text = format!("updated \"{}\"\n", applied.cgroup.display());
            let changes = applied.changes.as_deref().unwrap_or_default();
            if changes.is_empty() {
                text += "  no option changed\n";
            }
            for OptionChange {
                option,
                before,
                after,
            } in changes
            {
                text = text + "  " + option + "  " + &difference(before, after) + "\n";
            }
            text
        })
    }

    fn applied(
        &mut self,
        pod: PodConfig,
        netns: Option<&NetnsRef>,
        changes: Option<Vec<OptionChange>>,
    ) -> Applied {
        let PodConfig {
            cgroup,
            config,
            warnings,
        } = pod;
        self.warn(&warnings);
        let netns = netns.filter(|name| !matches!(name, NetnsRef::Own));
        Applied {
            cgroup: cgroup.path().to_owned(),
            cgroup_id: cgroup.id(),
            netns: netns.map(ToString::to_string),
            config,
            changes,
            warnings,
        }
    }
}

/// The most elements of a list that are printed. A longer list is counted.
const SHOWN: usize = 4;

/// The change of an option's value, as text.
fn difference(before: &str, after: &str) -> String {
    let elements = |text: &str| -> BTreeSet<String> {
        let elements = text.split(',').filter(|element| !element.is_empty());
        elements.map(str::to_owned).collect()
    };
    let (old, new) = (elements(before), elements(after));
    if old.len() > SHOWN && new.len() > SHOWN {
        let (added, removed) = (new.difference(&old).count(), old.difference(&new).count());
        return format!(
            "{} -> {} entries (+{added} -{removed})",
            old.len(),
            new.len()
        );
    }
    let shown = |text: &str, elements: &BTreeSet<String>| match elements.len() {
        0 => "none".to_owned(),
        count if count > SHOWN => format!("{count} entries"),
        _ => text.to_owned(),
    };
    format!("{} -> {}", shown(before, &old), shown(after, &new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_counted_and_a_short_list_is_printed() {
        let many = "1,2,3,4,5";
        for (before, after, expected) in [
            ("", "10.0.0.0/8", "none -> 10.0.0.0/8"),
            ("*", "", "* -> none"),
            (many, "", "5 entries -> none"),
            ("1,2", many, "1,2 -> 5 entries"),
            (many, "2,3,4,5,6,7", "5 -> 6 entries (+2 -1)"),
        ] {
            assert_eq!(difference(before, after), expected);
        }
    }
}
