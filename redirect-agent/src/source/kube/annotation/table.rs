//! The table of annotations, and their application to flags.
//!
//! Accepted are the values that Istio's CNI plugin accepts (`cni/pkg/plugin/sidecar_redirect.go`), which are
//! more, and fewer, than those of `istio-iptables`. A value that passes is parsed unchanged by the parser of
//! the options.

use std::{collections::BTreeMap, fmt};

use redirect_user::config::{Flags, Opt};

use super::syntax::Syntax;

/// An annotation that is an option.
#[derive(Clone, Copy, Debug)]
pub(in crate::source::kube) struct Annotation {
    /// Name of the annotation.
    pub(in crate::source::kube) name: &'static str,
    /// The option.
    pub(in crate::source::kube) option: Opt,
    /// Syntax of the value.
    syntax: Syntax,
    /// The value if neither the pod nor the mesh has one.
    default: &'static str,
}

/// All annotations that are options. Of two for the same option the last one present counts.
pub(in crate::source::kube) const ANNOTATIONS: [Annotation; 10] = [
    Annotation {
        name: "sidecar.istio.io/interceptionMode",
        option: Opt::Mode,
        syntax: Syntax::Mode,
        default: "REDIRECT",
    },
    Annotation {
        name: "traffic.sidecar.istio.io/includeOutboundIPRanges",
        option: Opt::Include,
        syntax: Syntax::CidrsOrAny,
        default: "*",
    },
    Annotation {
        name: "traffic.sidecar.istio.io/excludeOutboundIPRanges",
        option: Opt::Exclude,
        syntax: Syntax::Cidrs,
        default: "",
    },
    Annotation {
        name: "traffic.sidecar.istio.io/includeInboundPorts",
        option: Opt::InboundPorts,
        syntax: Syntax::PortsOrAny,
        default: "*",
    },
    Annotation {
        name: "traffic.sidecar.istio.io/excludeInboundPorts",
        option: Opt::InboundExcludePorts,
        syntax: Syntax::PortsOrAny,
        default: "15020",
    },
    Annotation {
        name: "traffic.sidecar.istio.io/includeOutboundPorts",
        option: Opt::IncludePorts,
        syntax: Syntax::PortsOrAny,
        default: "",
    },
    Annotation {
        name: "traffic.sidecar.istio.io/excludeOutboundPorts",
        option: Opt::ExcludePorts,
        syntax: Syntax::PortsOrAny,
        default: "15020",
    },
    Annotation {
        name: "traffic.sidecar.istio.io/excludeInterfaces",
        option: Opt::ExcludeInterfaces,
        syntax: Syntax::Interfaces,
        default: "",
    },
    Annotation {
        name: "traffic.sidecar.istio.io/kubevirtInterfaces",
        option: Opt::VirtualInterfaces,
        syntax: Syntax::Interfaces,
        default: "",
    },
    Annotation {
        name: "istio.io/reroute-virtual-interfaces",
        option: Opt::VirtualInterfaces,
        syntax: Syntax::Interfaces,
        default: "",
    },
];

/// Ports of the proxy for the kubelet and for Prometheus, which are never redirected.
const PROXY_PORTS: &str = "15020,15021,15090";

/// Applies the annotations of a pod over the flags of the mesh, and Istio's defaults below both. The error
/// names every annotation that cannot be used.
pub(in crate::source::kube) fn apply(
    annotations: &BTreeMap<String, String>,
    flags: &mut Flags,
) -> Result<(), String> {
    let mut problems = Vec::new();
    for annotation in &ANNOTATIONS {
        match annotations.get(annotation.name) {
            Some(value) => match annotation.syntax.check(value) {
                Ok(()) => flags.set(annotation.option, value),
                Err(problem) => problems.push(annotation.problem(value, &problem)),
            },
            None => flags.set_default(annotation.option, annotation.default),
        }
    }
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    let excluded = with_proxy_ports(flags.get(Opt::InboundExcludePorts).unwrap_or_default());
    flags.set(Opt::InboundExcludePorts, excluded);
    Ok(())
}

/// The annotation of a pod that set an option.
pub(in crate::source::kube) fn origin<'a>(
    annotations: &'a BTreeMap<String, String>,
    option: &str,
) -> Option<(&'static Annotation, &'a str)> {
    let mut of_option = ANNOTATIONS
        .iter()
        .rev()
        .filter(|annotation| annotation.option.name() == option);
    of_option.find_map(|annotation| Some((annotation, annotations.get(annotation.name)?.as_str())))
}

impl Annotation {
    /// The problem of a value, with the annotation's name.
    pub(in crate::source::kube) fn problem(
        &self,
        value: &str,
        problem: &impl fmt::Display,
    ) -> String {
        let value = value.escape_debug();
        format!("annotation {} \"{value}\": {problem}", self.name)
    }
}

/// The ports and those of the proxy, each once, in order of first occurrence.
fn with_proxy_ports(ports: &str) -> String {
    let mut all: Vec<&str> = Vec::new();
    let given = ports.trim();
    let given = given.strip_suffix(',').unwrap_or(given);
    let given = given.split(',').filter(|_| !given.is_empty());
    for port in given.chain(PROXY_PORTS.split(',')) {
        if !all.contains(&port) {
            all.push(port);
        }
    }
    all.join(",")
}
