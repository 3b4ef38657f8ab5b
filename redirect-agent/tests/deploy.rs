//! The files of `deploy/`: they are what Helm renders, the API accepts them, and the documentation describes
//! them. Tests of their privileges are in `agent/deployed.rs`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(clippy::disallowed_methods, reason = "it runs Helm")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
};

use anyhow::Result;
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{ConfigMap, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    serde::{Serialize, de::DeserializeOwned},
};
use redirect_agent::{cli::command, source::kube::Mesh};
use redirect_testkit::{
    cases,
    runner::{self, Cases},
    skip_or_fail,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Python with Helm's engine, as `cargo xtask setup` installs it.
const HELM: &str = "/var/cache/redirect-ebpf/helm-0.2.2/bin/helm-python";
const FILES: [&str; 3] = ["redirect-agent", "monitoring", "uninstall"];

/// The needs of a test.
#[derive(Debug, Clone, Copy)]
enum Needs {
    /// Nothing.
    Nothing,
    /// Helm's engine, which renders the chart.
    Helm,
}

const CASES: &[Cases<Needs>] = cases! {
    Needs::Helm => [
        the_yaml_is_what_helm_renders,
        values_change_the_manifest_as_documented,
    ],
    Needs::Nothing => [
        the_api_takes_every_field,
        the_monitor_finds_the_agents,
        containers_have_the_documented_privileges_only,
        the_cluster_role_is_the_documented_one,
        every_command_line_parses,
        the_agent_can_use_its_mesh,
        every_mount_has_a_volume_and_every_volume_a_mount,
        the_dashboard_shows_every_metric_and_no_other,
    ],
};

fn main() -> ExitCode {
    runner::run(runner::trials(CASES.to_vec(), missing))
}

/// The reason to skip tests with these needs, if there is one.
fn missing(needs: Needs) -> Result<Option<String>> {
    let no_helm = || format!("no Helm at {HELM}: run `cargo xtask setup --for test`");
    match needs {
        Needs::Nothing => Ok(None),
        Needs::Helm => skip_or_fail((!Path::new(HELM).exists()).then(no_helm)),
    }
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy().join(path)).unwrap()
}

fn documents(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n");
    documents
        .map(|text| serde_saphyr::from_str(text).unwrap())
        .collect()
}

/// Documents of a file, of one kind.
fn of_kind(file: &str, kind: &str) -> Vec<Value> {
    let mut found = documents(&read(&format!("{file}.yaml")));
    found.retain(|document| document["kind"] == kind);
    found
}

fn pod_spec(file: &str) -> Value {
    of_kind(file, "DaemonSet")[0]["spec"]["template"]["spec"].clone()
}

fn containers(spec: &Value) -> Vec<Value> {
    let lists = ["initContainers", "containers"].map(|key| spec[key].as_array());
    lists.into_iter().flatten().flatten().cloned().collect()
}

fn container(file: &str, name: &str) -> Value {
    let mut all = containers(&pod_spec(file)).into_iter();
    all.find(|container| container["name"] == name).unwrap()
}

fn words(value: &Value) -> Vec<String> {
    let words = value.as_array().into_iter().flatten();
    words
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

/// Renders the chart.
fn render(arguments: &[&str]) -> Output {
    let mut helm = Command::new(HELM);
    helm.arg(deploy().join("render.py")).args(arguments);
    helm.output().unwrap()
}

fn the_yaml_is_what_helm_renders() {
    for file in FILES {
        let rendered = render(&[file]);
        assert!(rendered.status.success(), "{rendered:?}");
        let rendered = String::from_utf8(rendered.stdout).unwrap();
        assert_eq!(
            read(&format!("{file}.yaml")),
            rendered,
            "run `cargo xtask docs`"
        );
    }
}

fn values_change_the_manifest_as_documented() {
    let spec = |values: &Value| {
        let rendered = render(&["redirect-agent", &values.to_string()]);
        assert!(rendered.status.success(), "{rendered:?}");
        let all = documents(&String::from_utf8(rendered.stdout).unwrap());
        let mut sets = all.iter().filter(|one| one["kind"] == "DaemonSet");
        sets.next().unwrap()["spec"]["template"]["spec"].clone()
    };
    let names = |spec: &Value| -> Vec<_> {
        let all = containers(spec).into_iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    // An installed plugin has to be removed before nothing answers it.
    for values in [
        json!({"mesh": {"shadow": true}}),
        json!({"cni": {"enabled": false}}),
    ] {
        let spec = spec(&values);
        assert_eq!(names(&spec), ["remove-cni", "agent"]);
        let agent = words(&spec["containers"][0]["args"]);
        assert!(!agent.iter().any(|word| word.contains("cni")), "{agent:?}");
    }
    let changed = json!({
        "image": {"repository": "r.example/a", "tag": "7"}, "logLevel": "debug",
        "cni": {"failOpen": true, "timeoutSeconds": 60},
        "metrics": {"address": "127.0.0.1", "port": 9}, "seLinuxType": "spc_t",
        "imagePullSecrets": [{"name": "pull"}],
    });
    let spec = spec(&changed);
    assert_eq!(spec["imagePullSecrets"][0]["name"], "pull");
    let installer = words(&spec["containers"][1]["args"]);
    for option in ["--fail-open", "--timeout=60"] {
        assert!(installer.contains(&option.to_owned()), "{installer:?}");
    }
    for container in containers(&spec) {
        assert_eq!(container["image"], "r.example/a:7");
        let options = &container["securityContext"]["seLinuxOptions"];
        assert_eq!(options["type"], "spc_t");
    }
    let agent = words(&spec["containers"][0]["args"]);
    for option in ["--metrics-listen=127.0.0.1:9", "--log-level=debug"] {
        assert!(agent.contains(&option.to_owned()), "{agent:?}");
    }
    // The kubelet would probe the node's address, where nothing listens.
    for probe in ["livenessProbe", "readinessProbe"] {
        let asked = &spec["containers"][0][probe]["httpGet"]["host"];
        assert_eq!(asked, "127.0.0.1", "{probe}");
    }
    let refused = render(&["redirect-agent", "{\"mesh\": {\"shadwo\": true}}"]);
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && complaint.contains("shadwo"));
}

fn the_api_takes_every_field() {
    let mut count = 0;
    for file in FILES {
        for document in documents(&read(&format!("{file}.yaml"))) {
            count += 1;
            let kind = document["kind"].as_str().unwrap();
            match kind {
                "DaemonSet" => round_trip::<DaemonSet>(&document),
                "ConfigMap" => round_trip::<ConfigMap>(&document),
                "ServiceAccount" => round_trip::<ServiceAccount>(&document),
                "ClusterRole" => round_trip::<ClusterRole>(&document),
                "ClusterRoleBinding" => round_trip::<ClusterRoleBinding>(&document),
                "PodMonitor" => {
                    PodMonitor::deserialize(&document).unwrap();
                }
                other => panic!("{file}: {other}"),
            }
        }
    }
    assert_eq!(count, 8);
}

/// Decodes a document as a type and encodes it again: fields that the type lacks are lost on the way.
fn round_trip<T: DeserializeOwned + Serialize>(document: &Value) {
    let typed: T = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(&serde_json::to_value(typed).unwrap(), document);
}

/// The `PodMonitor` of the Prometheus Operator, as far as this project uses it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodMonitor {
    #[serde(rename = "apiVersion")]
    _version: Version,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    spec: PodMonitorSpec,
}

#[derive(Debug, Deserialize)]
enum Version {
    #[serde(rename = "monitoring.coreos.com/v1")]
    V1,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodMonitorSpec {
    selector: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    pod_metrics_endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Endpoint {
    port: String,
    path: String,
    #[serde(rename = "interval")]
    _interval: String,
    relabelings: Vec<Relabeling>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Relabeling {
    #[serde(rename = "sourceLabels")]
    _source_labels: Vec<String>,
    #[serde(rename = "targetLabel")]
    _target_label: String,
}

fn the_monitor_finds_the_agents() {
    let monitor = PodMonitor::deserialize(&of_kind("monitoring", "PodMonitor")[0]).unwrap();
    let template = &of_kind("redirect-agent", "DaemonSet")[0]["spec"]["template"];
    for (key, value) in monitor.spec.selector.match_labels.unwrap() {
        assert_eq!(template["metadata"]["labels"][&key], json!(value));
    }
    let [endpoint] = &monitor.spec.pod_metrics_endpoints[..] else {
        panic!("{:?}", monitor.spec.pod_metrics_endpoints);
    };
    assert_eq!(
        (endpoint.path.as_str(), endpoint.relabelings.len()),
        ("/metrics", 1)
    );
    let ports = &container("redirect-agent", "agent")["ports"];
    assert_eq!(ports[0]["name"], json!(endpoint.port));
}

fn containers_have_the_documented_privileges_only() {
    let page = fs::read_to_string(deploy().join("../docs/agent.md")).unwrap();
    let (_, privileges) = page.split_once("\n## Privileges\n").unwrap();
    let privileges = privileges.split("\n## ").next().unwrap();
    let (_, listed) = privileges
        .split_once("[daemonset](kubernetes.md) has ")
        .unwrap();
    let listed = listed.split(';').next().unwrap();
    let documented: Vec<_> = listed.split('`').skip(1).step_by(2).collect();
    for file in ["redirect-agent", "uninstall"] {
        let spec = pod_spec(file);
        assert!(spec["hostIPC"].is_null());
        for container in containers(&spec) {
            let context = &container["securityContext"];
            assert_eq!(context["privileged"], json!(false));
            assert_eq!(context["allowPrivilegeEscalation"], json!(false));
            assert_eq!(context["readOnlyRootFilesystem"], json!(true));
            assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
            let added = words(&context["capabilities"]["add"]);
            if ["agent", "cleanup"].contains(&container["name"].as_str().unwrap()) {
                let added: Vec<_> = added.iter().map(|name| format!("CAP_{name}")).collect();
                assert_eq!(added, documented);
            } else {
                assert!(added.is_empty(), "{container}");
            }
        }
    }
}

fn the_cluster_role_is_the_documented_one() {
    let page = fs::read_to_string(deploy().join("../docs/kubernetes.md")).unwrap();
    let shown = page
        .split("```yaml\n")
        .find(|text| text.starts_with("rules:"));
    let shown = shown.unwrap().split("```").next().unwrap();
    let shown: Value = serde_saphyr::from_str(shown).unwrap();
    let role = &of_kind("redirect-agent", "ClusterRole")[0];
    assert_eq!(shown["rules"], role["rules"]);
}

fn every_command_line_parses() {
    let mut count = 0;
    for file in ["redirect-agent", "uninstall"] {
        for container in containers(&pod_spec(file)) {
            let arguments = words(&container["args"]);
            if arguments.is_empty() {
                assert_eq!(container["name"], "done");
                continue;
            }
            count += 1;
            // The kubelet expands the variable.
            let arguments = arguments
                .iter()
                .map(|word| word.replace("$(NODE_IP)", "10.0.0.1"));
            let line = ["redirect-agent".to_owned()].into_iter().chain(arguments);
            let parsed = command().try_get_matches_from(line);
            assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
        }
    }
    assert_eq!(count, 4);
}

fn the_agent_can_use_its_mesh() {
    let config = &of_kind("redirect-agent", "ConfigMap")[0];
    let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("redirect-deploy-{}", std::process::id()));
    fs::write(&file, config["data"]["mesh.yaml"].as_str().unwrap()).unwrap();
    let mesh = Mesh::read(&file, &|_: &str| None);
    fs::remove_file(&file).unwrap();
    mesh.unwrap();
    let agent = container("redirect-agent", "agent");
    assert!(words(&agent["args"]).contains(&"--mesh=/etc/redirect-agent/mesh.yaml".to_owned()));
}

fn every_mount_has_a_volume_and_every_volume_a_mount() {
    for file in ["redirect-agent", "uninstall"] {
        let spec = pod_spec(file);
        let names = |list: &Value| -> Vec<String> {
            let list = list.as_array().into_iter().flatten();
            list.map(|one| one["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let mut mounted: Vec<_> = containers(&spec)
            .iter()
            .flat_map(|container| names(&container["volumeMounts"]))
            .collect();
        let mut volumes = names(&spec["volumes"]);
        for list in [&mut mounted, &mut volumes] {
            list.sort_unstable();
            list.dedup();
        }
        assert_eq!(mounted, volumes);
    }
}

fn the_dashboard_shows_every_metric_and_no_other() {
    let config = &of_kind("monitoring", "ConfigMap")[0];
    let text = config["data"]["redirect-agent.json"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let shown: Vec<_> = targets
        .flatten()
        .flat_map(|target| {
            let expression = target["expr"].as_str().unwrap().to_owned();
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let parts = expression.split(move |c| !is_part(c)).map(str::to_owned);
            parts.collect::<Vec<_>>()
        })
        .filter(|part| part.starts_with("redirect_"))
        .map(|name| name.trim_end_matches("_bucket").to_owned())
        .collect();
    let page = fs::read_to_string(deploy().join("../docs/agent.md")).unwrap();
    let listed: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("| `redirect_"))
        .flat_map(|line| {
            line.split('|')
                .nth(1)
                .unwrap()
                .split('`')
                .skip(1)
                .step_by(2)
        })
        .collect();
    let source = [
        include_str!("../src/metrics/exporter.rs"),
        include_str!("../src/metrics/kernel.rs"),
        include_str!("../src/metrics/workloads.rs"),
        include_str!("../src/source/kube/events/counts.rs"),
    ]
    .concat();
    for name in &listed {
        let stem = name.trim_end_matches("_total").trim_end_matches("_info");
        assert!(source.contains(&format!("\"{stem}\"")), "{name}");
        assert!(
            shown.iter().any(|shown| shown == name),
            "{name} is not shown"
        );
    }
    for name in &shown {
        assert!(listed.contains(&name.as_str()), "{name} does not exist");
    }
}
