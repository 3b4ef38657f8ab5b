//! The mesh: defaults for pods, from the agent's own configuration.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, anyhow};
use redirect_user::config::{Flags, Names};
use serde::Deserialize;

use super::before_proxy::BeforeProxy;
use crate::source::options;

/// Defaults for pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Options of pods without an annotation for them. Missing flags have the defaults of Istio's CNI plugin.
    pub(super) flags: Flags,
    /// Namespaces whose pods are skipped.
    pub(super) excluded_namespaces: BTreeSet<String>,
    /// Policy until the proxy listens, for pods without an annotation for it.
    pub(super) before_proxy: BeforeProxy,
    /// Shadow mode: connections are decided and counted, and go where they go now.
    pub(super) shadow: bool,
}

impl Default for Mesh {
    /// The defaults of Istio's CNI plugin, as its chart installs it.
    fn default() -> Self {
        Self {
            flags: Flags::default(),
            excluded_namespaces: ["kube-system".to_owned()].into(),
            before_proxy: BeforeProxy::default(),
            shadow: false,
        }
    }
}

/// The file format.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    args: Vec<String>,
    exclude_namespaces: Option<BTreeSet<String>>,
    #[serde(default)]
    before_proxy: BeforeProxy,
    #[serde(default)]
    shadow: bool,
}

impl Mesh {
    /// Reads a file of YAML, of which JSON is a part: `args` (options of `istio-iptables`),
    /// `excludeNamespaces`, `beforeProxy` and `shadow`.
    pub fn read(path: &Path, groups: &impl Names) -> Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("read \"{shown}\""))?;
        Self::parse(&text, groups).map_err(|problem| anyhow!("read \"{shown}\": {problem}"))
    }

    fn parse(text: &str, groups: &impl Names) -> Result<Self, String> {
        let written: Written =
            serde_saphyr::from_str(text).map_err(|error| options::first_line(&error))?;
        let Written {
            args,
            exclude_namespaces,
            before_proxy,
            shadow,
        } = written;
        let in_args = |problem| format!("args: {problem}");
        let mesh = Self {
            flags: options::flags(&args).map_err(in_args)?,
            excluded_namespaces: exclude_namespaces
                .unwrap_or_else(|| Self::default().excluded_namespaces),
            before_proxy,
            shadow,
        };
        options::resolved(&mesh.flags, groups)
            .map_err(|error| in_args(options::one_line(&error)))?;
        Ok(mesh)
    }
}

#[cfg(test)]
mod tests {
    use redirect_user::config::Opt;

    use super::*;

    fn parse(text: &str) -> Result<Mesh, String> {
        Mesh::parse(text, &|_: &str| None)
    }

    #[test]
    fn options_and_namespaces_are_read() {
        let mesh = parse(
            "args: [-x, 10.0.0.0/8, -p, 15101]\nexcludeNamespaces: [kube-system, istio-system]\n",
        )
        .unwrap();
        let flags = Flags::from_iter([(Opt::Exclude, "10.0.0.0/8"), (Opt::OutPort, "15101")]);
        assert_eq!(mesh.flags, flags);
        let excluded = ["istio-system", "kube-system"].map(str::to_owned);
        assert_eq!(mesh.excluded_namespaces, excluded.into());
        assert_eq!(parse("{}"), Ok(Mesh::default()));
        let none = parse("excludeNamespaces: []").unwrap();
        assert!(none.excluded_namespaces.is_empty());
        let direct = parse("beforeProxy: direct").unwrap();
        assert_eq!(direct.before_proxy, BeforeProxy::Direct);
        assert!(!none.shadow && parse("shadow: true").unwrap().shadow);
    }

    #[test]
    fn an_unusable_mesh_is_refused_with_the_reason() {
        for (text, words) in [
            ("args: [-x, 10.0.0.0/33]", "args: parse -x/"),
            ("args: [-X]", "args: unexpected argument '-X'"),
            ("args: [--cleanup-only]", "args: use --cleanup-only"),
            ("arg: []", "unknown field `arg`"),
            ("beforeProxy: later", "unknown variant `later`"),
            ("args: [", "line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
