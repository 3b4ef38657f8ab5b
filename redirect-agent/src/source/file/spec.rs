//! The contents of a file: a cgroup, and options of `istio-iptables`.

use std::{path::PathBuf, sync::Arc};

use redirect_user::{
    config::{Environment, Names, Resolved, resolve},
    policy::canonical,
    sys::netns::NetnsRef,
};
use serde::Deserialize;

use crate::{
    cgroup_ref::CgroupRef,
    source::options::{first_line, flags, one_line},
    workload::Policy,
};

/// The file format: YAML, of which JSON is a part.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    cgroup: Option<String>,
    unit: Option<String>,
    netns: Option<String>,
    #[serde(default)]
    shadow: bool,
    #[serde(default)]
    args: Vec<String>,
}

/// A file's valid contents.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) cgroup: CgroupRef,
    pub(super) netns: Option<NetnsRef>,
    shadow: bool,
    args: Vec<String>,
}

/// Parses a file. The error is one line with key and value.
pub(super) fn parse(text: &str) -> Result<Spec, String> {
    let written: Written = serde_saphyr::from_str(text).map_err(|error| first_line(&error))?;
    let Written {
        cgroup,
        unit,
        netns,
        shadow,
        args,
    } = written;
    Ok(Spec {
        cgroup: cgroup_of(cgroup, unit)?,
        netns: netns.map(|name| netns_of(&name)).transpose()?,
        shadow,
        args,
    })
}

fn cgroup_of(cgroup: Option<String>, unit: Option<String>) -> Result<CgroupRef, String> {
    match (cgroup, unit) {
        (Some(path), None) => {
            let path = PathBuf::from(path);
            if path.is_absolute() {
                Ok(CgroupRef::Path(path))
            } else {
                Err(format!(
                    "cgroup \"{}\": give an absolute path",
                    path.display()
                ))
            }
        }
        (None, Some(unit)) => {
            let is_name = unit.contains('.') && !unit.contains('/') && !unit.starts_with('.');
            if is_name {
                Ok(CgroupRef::Unit(unit))
            } else {
                Err(format!(
                    "unit \"{unit}\": give the full name of a unit, such as shop.service"
                ))
            }
        }
        (Some(_), Some(_)) => Err("cgroup and unit: give one of them, not both".to_owned()),
        (None, None) => {
            Err("neither cgroup nor unit: give the path of a cgroup, or a systemd unit".to_owned())
        }
    }
}

fn netns_of(name: &str) -> Result<NetnsRef, String> {
    if name == "host" {
        return Ok(NetnsRef::Own);
    }
    name.parse()
        .ok()
        .filter(|name| matches!(name, NetnsRef::Path(path) if path.is_absolute()))
        .ok_or_else(|| {
            format!("netns \"{name}\": give the absolute path of a namespace's file, or `host`")
        })
}

impl Spec {
    /// Resolves the options as `redirectctl` does. The agent's environment has no influence.
    pub(super) fn policy(&self, users: &impl Names, groups: &impl Names) -> Result<Policy, String> {
        let flags = flags(&self.args).map_err(|error| format!("args: {error}"))?;
        let Resolved {
            mut config,
            warnings,
        } = resolve(&flags, &Environment::default(), users, groups)
            .map_err(|error| format!("args: {}", one_line(&error)))?;
        config.shadow = self.shadow;
        let config = canonical(&config).map_err(|error| format!("args: {error}"))?;
        Ok(Policy {
            config: Arc::new(config),
            until_proxy: None,
            warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use redirect_user::config::{Include, RedirectConfig};

    use super::*;

    fn policy(text: &str) -> Result<RedirectConfig, String> {
        let no_names = |_: &str| None;
        let policy = parse(text)?.policy(&no_names, &no_names)?;
        Ok((*policy.config).clone())
    }

    #[test]
    fn yaml_and_json_are_equivalent() {
        let yaml = "unit: shop.service\nargs:\n  - -p\n  - 15001\n  - -i\n  - '*'\n  - --istio-service-exclude-cidr=36.152.44.0/24\n";
        let json = "{\"unit\": \"shop.service\", \"args\": [\"-p\", 15001, \"-i\", \"*\", \"-x\", \"36.152.44.0/24\"]}";
        let expected = RedirectConfig {
            include: Include::Any,
            exclude: vec!["36.152.44.0/24".parse().unwrap()],
            ..RedirectConfig::default()
        };
        assert_eq!(policy(yaml), Ok(expected.clone()));
        assert_eq!(policy(json), Ok(expected));
    }

    #[test]
    fn bad_files_are_refused_by_key_and_value() {
        for (text, words) in [
            ("", "neither cgroup nor unit"),
            ("unit: [", "line 1 column 7"),
            ("unti: a.service", "unknown field `unti`"),
            ("unit: shop", "unit \"shop\": give the full name"),
            ("unit: a.service\ncgroup: /a", "give one of them"),
            ("cgroup: a/b", "cgroup \"a/b\": give an absolute path"),
            ("unit: a.service\nnetns: shop", "netns \"shop\""),
            ("unit: a.service\nargs: [-i, *]", "line 2"),
            (
                "unit: a.service\nargs: [--istio-servic-cidr, x]",
                "args: unexpected argument '--istio-servic-cidr'",
            ),
            (
                "unit: a.service\nargs: [-i]",
                "args: a value is required for '--istio-service-cidr",
            ),
            (
                "unit: a.service\nargs: [-x, 10.0.0.0/33]",
                "args: parse -x/--istio-service-exclude-cidr \"10.0.0.0/33\"",
            ),
            (
                "unit: a.service\nargs: [--cleanup-only]",
                "args: use --cleanup-only",
            ),
            (
                "unit: a.service\nargs: [-p, x, -o, y]",
                "args: parse -p/--envoy-port \"x\"",
            ),
            (
                "unit: a.service\nunit: b.service",
                "duplicate mapping key: unit",
            ),
        ] {
            let error = policy(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
