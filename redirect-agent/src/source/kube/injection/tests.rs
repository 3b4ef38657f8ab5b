#![expect(clippy::too_many_lines, reason = "a table is as long as it is")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use redirect_user::{
    config::{Dns, Flags, Inbound, InboundMode, InboundPorts, Include, PortRange, RedirectConfig},
    policy::canonical,
};
use serde_json::{Value, from_value, json};

use super::decision::{INJECT, NotOurs, STATUS, decide};
use crate::{
    source::kube::{before_proxy::BeforeProxy, mesh::Mesh},
    workload::Policy,
};

/// A pod of the mesh, with something over it (RFC 7386).
fn pod(over: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "5f6c",
            "annotations": {"sidecar.istio.io/status": "{}"},
        },
        "spec": {
            "nodeName": "node",
            "containers": [{"name": "app"}, proxy(&json!({}))],
        },
        "status": {"phase": "Running"},
    });
    merge(&mut pod, over);
    strip(&mut pod);
    from_value(pod).unwrap()
}

fn proxy(over: &Value) -> Value {
    let mut proxy = json!({"name": "istio-proxy", "args": ["proxy", "sidecar"]});
    merge(&mut proxy, over);
    proxy
}

fn merge(into: &mut Value, over: &Value) {
    match (into, over) {
        (Value::Object(into), Value::Object(over)) => {
            for (key, value) in over {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, over) => *into = over.clone(),
    }
}

/// `null` takes away.
fn strip(value: &mut Value) {
    if let Value::Object(object) = value {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(strip);
    }
}

fn with_proxy(over: &Value) -> Value {
    json!({"spec": {"containers": [proxy(over)]}})
}

fn with_variable(name: &str, value: &str) -> Value {
    with_proxy(&json!({"env": [{"name": name, "value": value}]}))
}

fn annotated(annotations: &[(&str, &str)]) -> Value {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    json!({"metadata": {"annotations": annotations}})
}

const TRAFFIC: &str = "traffic.sidecar.istio.io/";

fn traffic(name: &str, value: &str) -> Value {
    annotated(&[(&format!("{TRAFFIC}{name}"), value)])
}

fn nobody(_name: &str) -> Option<u32> {
    None
}

fn decided(over: &Value, mesh: &Mesh) -> Result<Result<Policy, String>, NotOurs> {
    decide(&pod(over), mesh, &nobody)
}

fn policy(over: &Value) -> Policy {
    decided(over, &Mesh::default()).unwrap().unwrap()
}

fn error(over: &Value) -> String {
    decided(over, &Mesh::default()).unwrap().unwrap_err()
}

fn ports(ports: &[u16]) -> Vec<PortRange> {
    ports.iter().map(|port| PortRange::single(*port)).collect()
}

/// What Istio's CNI plugin installs for a pod that says nothing (`basic.txt.golden` of its tests).
fn basic() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        exclude_ports: ports(&[15020]),
        inbound: Inbound {
            mode: InboundMode::Redirect,
            include_ports: InboundPorts::Any,
            exclude_ports: vec![
                PortRange {
                    first: 15020,
                    last: 15021,
                },
                PortRange::single(15090),
            ],
        },
        ..RedirectConfig::default()
    }
}

#[test]
fn who_is_ours_is_decided_gate_by_gate() {
    let label = |value| json!({"metadata": {"labels": {(INJECT): value}}});
    let both = |label: &str, annotation: &str| {
        let mut over = annotated(&[(INJECT, annotation)]);
        merge(
            &mut over,
            &json!({"metadata": {"labels": {(INJECT): label}}}),
        );
        over
    };
    let with_init = json!({"spec": {"initContainers": [{"name": "istio-init"}]}});
    let native = json!({"spec": {
        "containers": [{"name": "app"}],
        "initContainers": [{"name": "istio-validation"}, proxy(&json!({"restartPolicy": "Always"}))],
    }});
    let ended = |phase: &str, app: &Value| {
        json!({"status": {"phase": phase, "containerStatuses": [{
            "name": "app", "state": app,
            "image": "", "imageID": "", "ready": false, "restartCount": 0,
        }]}})
    };
    let terminated = json!({"terminated": {"exitCode": 0}});
    let kind = |kind: &str| with_proxy(&json!({"args": ["proxy", kind]}));
    for (over, expected) in [
        (json!({}), None),
        (
            json!({"spec": {"hostNetwork": true}}),
            Some(NotOurs::HostNetwork),
        ),
        (json!({"spec": {"hostNetwork": false}}), None),
        (
            json!({"metadata": {"namespace": "kube-system"}}),
            Some(NotOurs::Namespace),
        ),
        (ended("Succeeded", &terminated), Some(NotOurs::Ended)),
        (ended("Failed", &terminated), Some(NotOurs::Ended)),
        (ended("Failed", &json!({"running": {}})), None),
        (ended("Running", &terminated), None),
        (with_init, Some(NotOurs::Init)),
        (
            with_variable("DISABLE_ENVOY", "true"),
            Some(NotOurs::DisabledEnvoy),
        ),
        (
            with_variable("DISABLE_ENVOY", "T"),
            Some(NotOurs::DisabledEnvoy),
        ),
        (with_variable("DISABLE_ENVOY", "false"), None),
        (with_variable("DISABLE_ENVOY", "yes"), None),
        (
            json!({"spec": {"containers": [{"name": "app"}]}}),
            Some(NotOurs::NoProxy),
        ),
        (native, None),
        (kind("sidecar"), None),
        (kind(""), None),
        (kind("router"), Some(NotOurs::Proxy("router".to_owned()))),
        (label("false"), Some(NotOurs::NotInjected)),
        (label("0"), Some(NotOurs::NotInjected)),
        (label("true"), None),
        (label("off"), None),
        (annotated(&[(INJECT, "false")]), Some(NotOurs::NotInjected)),
        (annotated(&[(INJECT, "no")]), None),
        (both("true", "false"), None),
        (both("", "false"), None),
        (both("false", "true"), Some(NotOurs::NotInjected)),
        (
            json!({"metadata": {"annotations": {(STATUS): null}}}),
            Some(NotOurs::NoStatus),
        ),
        (
            json!({"metadata": {"annotations": null}}),
            Some(NotOurs::NoStatus),
        ),
        (annotated(&[(STATUS, "")]), None),
    ] {
        let found = decided(&over, &Mesh::default());
        assert_eq!(found.as_ref().err(), expected.as_ref(), "{over}");
        assert!(!matches!(found, Ok(Err(_))), "{over}: {found:?}");
    }
}

#[test]
fn the_first_gate_is_the_one_that_is_named() {
    let mut over = json!({
        "metadata": {"annotations": null, "labels": {(INJECT): "false"}},
        "spec": {
            "containers": [proxy(&json!({
                "args": ["proxy", "router"],
                "env": [{"name": "DISABLE_ENVOY", "value": "true"}],
            }))],
            "initContainers": [{"name": "istio-init"}],
        },
    });
    let reasons = [
        (NotOurs::Init, json!({"spec": {"initContainers": null}})),
        (
            NotOurs::DisabledEnvoy,
            json!({"spec": {"containers": [proxy(&json!({"args": ["proxy", "router"]}))]}}),
        ),
        (
            NotOurs::Proxy("router".to_owned()),
            json!({"spec": {"containers": [proxy(&json!({}))]}}),
        ),
        (
            NotOurs::NotInjected,
            json!({"metadata": {"labels": {(INJECT): null}}}),
        ),
        (NotOurs::NoStatus, json!({})),
    ];
    for (reason, remedy) in reasons {
        assert_eq!(decided(&over, &Mesh::default()), Err(reason));
        merge(&mut over, &remedy);
    }
}

#[test]
fn a_pod_that_says_nothing_gets_what_the_cni_plugin_installs() {
    let Policy {
        config,
        warnings,
        until_proxy,
    } = policy(&json!({}));
    assert_eq!(until_proxy, None);
    assert_eq!(*config, basic());
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn every_annotation_reaches_the_configuration() {
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
    let inbound = |include_ports, exclude| Inbound {
        include_ports,
        exclude_ports: exclude,
        ..basic().inbound
    };
    let cases: Vec<(Value, RedirectConfig)> = vec![
        (
            annotated(&[("sidecar.istio.io/interceptionMode", "TPROXY")]),
            RedirectConfig {
                inbound: Inbound {
                    mode: InboundMode::Tproxy,
                    ..basic().inbound
                },
                ..basic()
            },
        ),
        (
            traffic("includeOutboundIPRanges", "10.0.0.0/8"),
            RedirectConfig {
                include: Include::Cidrs(nets(&["10.0.0.0/8"])),
                ..basic()
            },
        ),
        (
            traffic("includeOutboundIPRanges", ""),
            RedirectConfig {
                include: Include::Cidrs(Vec::new()),
                ..basic()
            },
        ),
        (
            traffic("excludeOutboundIPRanges", "36.152.44.0/24,fd00::/8"),
            RedirectConfig {
                exclude: nets(&["36.152.44.0/24", "fd00::/8"]),
                ..basic()
            },
        ),
        (
            traffic("includeInboundPorts", " 80 , 90 "),
            RedirectConfig {
                // What is not redirected counts only beside `*`.
                inbound: inbound(InboundPorts::List(ports(&[80, 90])), Vec::new()),
                ..basic()
            },
        ),
        (
            traffic("includeOutboundPorts", "443"),
            RedirectConfig {
                include_ports: ports(&[443]),
                ..basic()
            },
        ),
        (
            traffic("excludeOutboundPorts", "5555,6666"),
            RedirectConfig {
                exclude_ports: ports(&[5555, 6666]),
                ..basic()
            },
        ),
        (
            traffic("excludeOutboundPorts", ""),
            RedirectConfig {
                exclude_ports: Vec::new(),
                ..basic()
            },
        ),
        (
            with_proxy(
                &json!({"securityContext": {"runAsUser": 1_000_670_000, "runAsGroup": 1_000_670_001}}),
            ),
            RedirectConfig {
                proxy_uids: 1_000_670_000.into(),
                proxy_gids: 1_000_670_001.into(),
                ..basic()
            },
        ),
        (
            // The group is no copy of the user, and root is no proxy.
            with_proxy(&json!({"securityContext": {"runAsUser": 7, "runAsGroup": 0}})),
            RedirectConfig {
                proxy_uids: 7.into(),
                ..basic()
            },
        ),
        (
            with_variable("ISTIO_META_DNS_CAPTURE", "true"),
            RedirectConfig {
                dns: Dns {
                    redirect: true,
                    capture_all: true,
                    servers: Vec::new(),
                },
                ..basic()
            },
        ),
        (with_variable("ISTIO_META_DNS_CAPTURE", "false"), basic()),
        (
            with_variable("ISTIO_DUAL_STACK", "1"),
            RedirectConfig {
                dual_stack: true,
                ..basic()
            },
        ),
    ];
    for (over, expected) in cases {
        let Policy {
            config, warnings, ..
        } = policy(&over);
        assert_eq!(*config, canonical(&expected).unwrap(), "{over}");
        assert_eq!(warnings, Vec::<String>::new(), "{over}");
    }
}

#[test]
fn a_list_of_ports_not_redirected_keeps_the_proxys_own() {
    let Policy { config, .. } = policy(&traffic("excludeInboundPorts", "3333,4444"));
    for port in [3333, 4444, 15020, 15021, 15090] {
        let mut excluded = config.inbound.exclude_ports.iter();
        assert!(excluded.any(|range| range.contains(port)), "{port}");
    }
    let interfaces = policy(&traffic("excludeInterfaces", "eth1, net0")).config;
    let names: Vec<_> = interfaces
        .exclude_interfaces
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["eth1", "net0"]);
}

#[test]
fn a_variable_that_cannot_be_read_counts_as_false_with_a_warning() {
    for (over, warning) in [
        (
            with_variable("ISTIO_META_DNS_CAPTURE", "on"),
            "ISTIO_META_DNS_CAPTURE \"on\"",
        ),
        (
            with_variable("ISTIO_DUAL_STACK", ""),
            "ISTIO_DUAL_STACK \"\"",
        ),
        (
            with_variable("INVALID_DROP", "true"),
            "INVALID_DROP of container istio-proxy has no effect",
        ),
    ] {
        let Policy {
            config, warnings, ..
        } = policy(&over);
        assert_eq!(*config, basic());
        let [only] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        assert!(only.starts_with(warning), "{only}");
    }
}

#[test]
fn a_rehearsal_is_beside_the_rules_of_istio_init() {
    let mesh = Mesh {
        shadow: true,
        ..Mesh::default()
    };
    let with_init = json!({"spec": {"initContainers": [{"name": "istio-init"}]}});
    let rehearsed = decided(&with_init, &mesh).unwrap().unwrap();
    assert!(rehearsed.config.shadow);
    assert_eq!(decided(&with_init, &Mesh::default()), Err(NotOurs::Init));
}

#[test]
fn the_mesh_says_what_pods_do_not() {
    let mesh = Mesh {
        flags: Flags {
            out_port: Some("15101".to_owned()),
            include: Some("10.0.0.0/8".to_owned()),
            proxy_gid: Some("7".to_owned()),
            redirect_dns: Some(true),
            dns_servers: Some("10.96.0.10".to_owned()),
            ..Flags::default()
        },
        excluded_namespaces: ["shop".to_owned()].into(),
        before_proxy: BeforeProxy::Direct,
        shadow: false,
    };
    assert_eq!(decided(&json!({}), &mesh), Err(NotOurs::Namespace));
    let elsewhere = json!({"metadata": {"namespace": "kube-system"}});
    let Policy {
        config: found,
        until_proxy,
        ..
    } = decided(&elsewhere, &mesh).unwrap().unwrap();
    let before = until_proxy.unwrap();
    assert_eq!(before.include, Include::Cidrs(Vec::new()));
    assert_eq!(before.inbound, Inbound::default());
    assert_eq!(before.dns, Dns::default());
    assert_eq!(
        (before.out_port, &before.proxy_gids),
        (15101, &found.proxy_gids)
    );
    let held = json!({"metadata": {"namespace": "n", "annotations": {"redirect-ebpf/before-proxy": "held"}}});
    let Policy { until_proxy, .. } = decided(&held, &mesh).unwrap().unwrap();
    assert_eq!(until_proxy, None);
    assert_eq!(found.out_port, 15101);
    assert_eq!(
        found.include,
        Include::Cidrs(vec!["10.0.0.0/8".parse().unwrap()])
    );
    assert_eq!(
        (found.proxy_uids.clone(), found.proxy_gids.clone()),
        (1337.into(), 7.into())
    );
    assert!(found.dns.redirect && !found.dns.capture_all);
}

#[test]
fn what_cannot_be_used_is_named_as_the_pod_has_it() {
    for (over, expected) in [
        (
            traffic("excludeOutboundIPRanges", "36.152.44.0/33"),
            "annotation traffic.sidecar.istio.io/excludeOutboundIPRanges \"36.152.44.0/33\": \"36.152.44.0/33\" has a bad prefix length: write a number from 0 to 32",
        ),
        (
            annotated(&[("sidecar.istio.io/interceptionMode", "NONE")]),
            "annotation sidecar.istio.io/interceptionMode \"NONE\": write REDIRECT or TPROXY",
        ),
        (
            annotated(&[("redirect-ebpf/before-proxy", "Direct")]),
            "annotation redirect-ebpf/before-proxy \"Direct\": write held or direct",
        ),
        // What Istio's plugin takes and iptables then do not.
        (
            traffic("excludeInboundPorts", "*"),
            "annotation traffic.sidecar.istio.io/excludeInboundPorts \"*\": \"*\" is a wildcard only",
        ),
        (
            traffic("excludeOutboundPorts", "*"),
            "annotation traffic.sidecar.istio.io/excludeOutboundPorts \"*\": \"*\" is a wildcard only",
        ),
        (
            traffic("includeInboundPorts", " "),
            "annotation traffic.sidecar.istio.io/includeInboundPorts \" \": \" \" is not a port",
        ),
        (
            traffic("includeInboundPorts", "080"),
            "annotation traffic.sidecar.istio.io/includeInboundPorts \"080\": \"080\" starts with a zero",
        ),
        (
            traffic("excludeInterfaces", "a,b,c,d,e,f,g,h,i"),
            "annotation traffic.sidecar.istio.io/excludeInterfaces \"a,b,c,d,e,f,g,h,i\": not supported yet: a pod has at most eight",
        ),
        (
            traffic("kubevirtInterfaces", "net1"),
            "annotation traffic.sidecar.istio.io/kubevirtInterfaces \"net1\": not supported yet: ",
        ),
        (
            annotated(&[("istio.io/reroute-virtual-interfaces", "net1")]),
            "annotation istio.io/reroute-virtual-interfaces \"net1\": not supported yet: ",
        ),
        (
            with_proxy(&json!({"securityContext": {"runAsUser": -1}})),
            "container istio-proxy: runAsUser: \"-1\" is not a numeric id",
        ),
        (
            with_proxy(&json!({"securityContext": {"runAsGroup": 4_294_967_295_i64}})),
            "container istio-proxy: runAsGroup: \"4294967295\" is not a numeric id",
        ),
    ] {
        let error = error(&over);
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    // Nothing is captured of virtual machines: nothing to refuse.
    let none = annotated(&[
        ("traffic.sidecar.istio.io/kubevirtInterfaces", "net1"),
        ("istio.io/reroute-virtual-interfaces", ""),
    ]);
    assert_eq!(*policy(&none).config, basic());
}
