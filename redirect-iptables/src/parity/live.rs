//! The rules of a live namespace, from the one backend that has any.

use anyhow::{Context as _, Result, bail};
use redirect_user::sys::{
    iptables_save::{V4, V6, has_chain, save},
    netns::NetnsRef,
};

use crate::{
    netfilter::{Ruleset, parse},
    rules::Family,
};

/// The rules of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRules {
    /// The rules of IPv4.
    pub v4: Ruleset,
    /// The rules of IPv6.
    pub v6: Ruleset,
    /// The programs that printed rules.
    pub programs: Vec<&'static str>,
}

/// A chain that Istio makes with `--native-nftables`. iptables cannot show it.
const NATIVE: &str = "istio-output";

/// Reads the rules of a namespace. A namespace without rules is an error.
pub fn live_rules(netns: &NetnsRef) -> Result<LiveRules> {
    let mut programs = Vec::new();
    let mut family = |family, names| -> Result<Ruleset> {
        let mut found: Option<(&str, Ruleset)> = None;
        for saved in save(netns, names)? {
            let rules = parse(family, &saved.text)
                .with_context(|| format!("read the output of {}", saved.program))?;
            if rules.is_empty() {
                continue;
            }
            if let Some((other, _)) = found {
                bail!(
                    "read the rules of network namespace \"{netns}\": both {other} and {} print rules, \
                     which act together: remove those that are left over, or give a text (--rules)",
                    saved.program
                );
            }
            found = Some((saved.program, rules));
        }
        let (program, rules) = found.unzip();
        programs.extend(program);
        Ok(rules.unwrap_or_else(|| Ruleset::empty(family)))
    };
    let (v4, v6) = (family(Family::V4, V4)?, family(Family::V6, V6)?);
    if programs.is_empty() {
        let why = if has_chain(netns, NATIVE)? {
            "they were written with nft, which iptables cannot show"
        } else {
            "there are none"
        };
        bail!(
            "read the iptables rules of network namespace \"{netns}\": {why}: give the rules to compare with as a text (--rules)"
        );
    }
    Ok(LiveRules { v4, v6, programs })
}
