//! A call of the runtime: the environment variables of the CNI specification.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use crate::{
    error::{CniError, Code},
    protocol::PodRef,
};

/// The command of a call (`CNI_COMMAND`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A sandbox was made.
    Add,
    /// Check that the result of [`Self::Add`] still holds.
    Check,
    /// A sandbox is removed. The call may be repeated, and may come without a network namespace.
    Del,
    /// List the supported versions.
    Version,
    /// Remove all sandboxes but the listed ones. Since 1.1.0.
    Gc,
    /// Check that pods can be added. Since 1.1.0.
    Status,
}

impl Command {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "ADD" => Self::Add,
            "CHECK" => Self::Check,
            "DEL" => Self::Del,
            "VERSION" => Self::Version,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            _ => return None,
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Version => "VERSION",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        })
    }
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The command.
    pub command: Command,
    /// Container id of the sandbox (`CNI_CONTAINERID`); empty for commands without a sandbox.
    pub container_id: String,
    /// Network namespace of the sandbox (`CNI_NETNS`), unless that is gone.
    pub netns: Option<PathBuf>,
    /// The pod (`CNI_ARGS`), if a Kubernetes runtime calls.
    pub pod: Option<PodRef>,
}

impl Call {
    /// Reads the call from environment variables.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let wrong = |name: &str, why: &str| {
            CniError::new(
                Code::InvalidEnvironment,
                format!("read {name}"),
                format!(
                    "{why}; a container runtime starts this program, with the variables of the CNI specification"
                ),
            )
        };
        let name = "CNI_COMMAND";
        let command = variable(name).ok_or_else(|| wrong(name, "it is not set"))?;
        let command = Command::parse(&command).ok_or_else(|| {
            wrong(
                name,
                &format!("\"{command}\" is not one of ADD, CHECK, DEL, GC, STATUS, VERSION"),
            )
        })?;
        let names_a_sandbox = matches!(command, Command::Add | Command::Check | Command::Del);
        let needed = |name: &str, is_needed: bool| match variable(name) {
            None if is_needed => Err(wrong(
                name,
                &format!("{command} needs it, and it is not set"),
            )),
            value => Ok(value),
        };
        Ok(Self {
            command,
            container_id: needed("CNI_CONTAINERID", names_a_sandbox)?.unwrap_or_default(),
            netns: needed("CNI_NETNS", names_a_sandbox && command != Command::Del)?.map(Into::into),
            pod: variable("CNI_ARGS").and_then(|args| pod(&args)),
        })
    }
}

/// The pod in `K8S_POD_NAMESPACE=…;K8S_POD_NAME=…;K8S_POD_UID=…`; other arguments are ignored.
fn pod(args: &str) -> Option<PodRef> {
    let args: BTreeMap<&str, &str> = args
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let value = |name| args.get(name).filter(|value| !value.is_empty());
    Some(PodRef {
        namespace: (*value("K8S_POD_NAMESPACE")?).to_owned(),
        name: (*value("K8S_POD_NAME")?).to_owned(),
        uid: value("K8S_POD_UID").map(|uid| (*uid).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Call, CniError> {
        Call::read(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_kubernetes_call_names_its_pod() {
        let call = read(&[
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "abc"),
            ("CNI_NETNS", "/var/run/netns/x"),
            ("CNI_IFNAME", "eth0"),
            (
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=7-8",
            ),
        ]);
        assert_eq!(
            call,
            Ok(Call {
                command: Command::Add,
                container_id: "abc".to_owned(),
                netns: Some("/var/run/netns/x".into()),
                pod: Some(PodRef {
                    namespace: "shop".to_owned(),
                    name: "cart-0".to_owned(),
                    uid: Some("7-8".to_owned()),
                }),
            })
        );
    }

    #[test]
    fn a_call_without_kubernetes_arguments_has_no_pod() {
        for args in [
            "",
            "IgnoreUnknown=1",
            "K8S_POD_NAME=x",
            "K8S_POD_NAMESPACE=;K8S_POD_NAME=x",
            ";=;",
        ] {
            let call = read(&[
                ("CNI_COMMAND", "CHECK"),
                ("CNI_CONTAINERID", "abc"),
                ("CNI_NETNS", "/n"),
                ("CNI_ARGS", args),
            ]);
            assert_eq!(call.map(|call| call.pod), Ok(None), "{args}");
        }
    }

    #[test]
    fn missing_variables_are_named() {
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a str);
        let rows: &[Row<'_>] = &[
            (&[], "CNI_COMMAND"),
            (&[("CNI_COMMAND", "add")], "\"add\""),
            (&[("CNI_COMMAND", "ADD")], "CNI_CONTAINERID"),
            (
                &[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "a")],
                "CNI_NETNS",
            ),
            (
                &[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "/n")],
                "CNI_CONTAINERID",
            ),
        ];
        for (variables, named) in rows {
            let error = read(variables).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment);
            assert!(error.to_string().contains(named), "{error}");
        }
        assert!(read(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "a")]).is_ok());
        for command in ["GC", "STATUS", "VERSION"] {
            assert!(read(&[("CNI_COMMAND", command)]).is_ok());
        }
    }
}
