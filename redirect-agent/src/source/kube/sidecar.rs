//! The sidecar of a pod, as its spec describes it: the container `istio-proxy`, among the containers or, as a
//! native sidecar, among the init containers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// Name of Envoy's container.
const PROXY: &str = "istio-proxy";
/// Name of the container that writes iptables rules.
const INIT: &str = "istio-init";

/// The sidecar of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sidecar {
    /// Whether there is a sidecar.
    pub(super) is_there: bool,
    /// Whether another container writes iptables rules.
    pub(super) has_init: bool,
    /// Variables that are given as text. A variable that is taken from elsewhere is empty.
    pub(super) environment: BTreeMap<String, String>,
    /// Kind of the proxy: `sidecar`, `router`…
    pub(super) kind: Option<String>,
    /// User, if that is given and not root.
    pub(super) uid: Option<i64>,
    /// Group, if that is given and not root.
    pub(super) gid: Option<i64>,
}

impl Sidecar {
    /// Reads the containers of a pod, init containers first.
    pub(super) fn of(pod: &Pod) -> Self {
        let mut sidecar = Self::default();
        for container in pod.spec.iter().flat_map(containers) {
            match container.name.as_str() {
                INIT => sidecar.has_init = true,
                PROXY => sidecar.read(container),
                _ => {}
            }
        }
        sidecar
    }

    fn read(&mut self, container: &Container) {
        self.is_there = true;
        let variables = container.env.iter().flatten();
        self.environment.extend(variables.map(|variable| {
            (
                variable.name.clone(),
                variable.value.clone().unwrap_or_default(),
            )
        }));
        if let Some([command, kind, ..]) = container.args.as_deref()
            && command == "proxy"
        {
            self.kind = Some(kind.clone());
        }
        if let Some(context) = &container.security_context {
            let given = |id: Option<i64>| id.filter(|id| *id != 0);
            self.uid = given(context.run_as_user);
            self.gid = given(context.run_as_group);
        }
    }
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let first = spec.init_containers.iter().flatten();
    first.chain(&spec.containers)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn sidecar(spec: &Value) -> Sidecar {
        Sidecar::of(&from_value(json!({ "spec": spec })).unwrap())
    }

    #[test]
    fn a_sidecar_is_found_among_all_containers() {
        let proxy = json!({"name": "istio-proxy"});
        let app = json!({"name": "app"});
        assert!(sidecar(&json!({"containers": [app, proxy]})).is_there);
        let native = json!({"initContainers": [proxy], "containers": [app]});
        assert!(sidecar(&native).is_there);
        assert_eq!(sidecar(&json!({"containers": [app]})), Sidecar::default());
        assert_eq!(Sidecar::of(&Pod::default()), Sidecar::default());
    }

    #[test]
    fn istio_init_is_found_among_all_containers() {
        let init = json!({"name": "istio-init"});
        assert!(sidecar(&json!({"containers": [], "initContainers": [init]})).has_init);
        assert!(sidecar(&json!({"containers": [init]})).has_init);
    }

    #[test]
    fn the_sidecars_settings_are_read() {
        let found = sidecar(&json!({"containers": [{
            "name": "istio-proxy",
            "args": ["proxy", "router", "--domain", "x"],
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "A", "value": "2"},
                {"name": "C"},
            ],
            "securityContext": {"runAsUser": 1_000_670_000_i64, "runAsGroup": 0},
        }]}));
        let environment = [("A", "2"), ("B", ""), ("C", "")];
        assert_eq!(
            found,
            Sidecar {
                is_there: true,
                has_init: false,
                environment: environment
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
                kind: Some("router".to_owned()),
                uid: Some(1_000_670_000),
                gid: None,
            }
        );
        for args in [json!(["proxy"]), json!(["sh", "router"]), json!([])] {
            let found = sidecar(&json!({"containers": [{"name": "istio-proxy", "args": args}]}));
            assert_eq!(found.kind, None);
        }
    }
}
