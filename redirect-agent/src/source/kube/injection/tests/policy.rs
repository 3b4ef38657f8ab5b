//! Tests of the policies.

use redirect_user::{
    config::{Dns, Flags, Inbound, InboundMode, InboundPorts, Include, Opt, RedirectConfig},
    policy::canonical,
};
use serde_json::{Value, json};

use super::fixtures::{
    annotated, basic, decided, error, policy, ports, traffic, with_proxy, with_variable,
};
use crate::{
    source::kube::{before_proxy::BeforeProxy, injection::gates::SkipReason, mesh::Mesh},
    workload::Policy,
};

#[test]
fn a_pod_without_annotations_gets_the_policy_of_istios_cni_plugin() {
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
                // Excluded ports count only beside `*`.
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
            // The group is not copied from the user, and root is never the proxy.
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
fn a_list_of_excluded_ports_keeps_those_of_the_proxy() {
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
fn an_invalid_variable_counts_as_false_with_a_warning() {
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
fn the_mesh_supplies_defaults_for_pods() {
    let mesh = Mesh {
        flags: Flags::from_iter([
            (Opt::OutPort, "15101"),
            (Opt::Include, "10.0.0.0/8"),
            (Opt::ProxyGid, "7"),
            (Opt::RedirectDns, "true"),
            (Opt::DnsServers, "10.96.0.10"),
        ]),
        excluded_namespaces: ["shop".to_owned()].into(),
        before_proxy: BeforeProxy::Direct,
        shadow: false,
    };
    assert_eq!(decided(&json!({}), &mesh), Err(SkipReason::Namespace));
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
fn an_unusable_value_is_named_as_the_pod_spells_it() {
    for (over, expected) in [
        (
            traffic("excludeOutboundIPRanges", "36.152.44.0/33"),
            "annotation traffic.sidecar.istio.io/excludeOutboundIPRanges \"36.152.44.0/33\": \"36.152.44.0/33\" has a bad prefix length: write a number from 0 to 32",
        ),
        (
            annotated(&[("sidecar.istio.io/interceptionMode", "none")]),
            "annotation sidecar.istio.io/interceptionMode \"none\": write REDIRECT, TPROXY or NONE",
        ),
        (
            annotated(&[("redirect-ebpf/before-proxy", "Direct")]),
            "annotation redirect-ebpf/before-proxy \"Direct\": write held or direct",
        ),
        // These values pass Istio's plugin, and iptables refuses them.
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
    // No traffic of virtual machines is captured, so there is nothing to refuse.
    let none = annotated(&[
        ("traffic.sidecar.istio.io/kubevirtInterfaces", "net1"),
        ("istio.io/reroute-virtual-interfaces", ""),
    ]);
    assert_eq!(*policy(&none).config, basic());
}
