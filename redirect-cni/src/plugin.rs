//! The operations of the plugin, one for each CNI command.

use serde_json::{Value, json};

use crate::{
    call::{Call, Command},
    client::request,
    config::{Config, VERSIONS},
    error::{CniError, Code},
    protocol::{Operation, PodRef, Response, SandboxRef},
};

/// Output of a call that succeeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallOutput {
    /// JSON for the runtime, if the command has a result.
    pub result: Option<Value>,
    /// Text for the operator about an operation that failed although the call succeeds.
    pub notice: Option<String>,
}

/// Carries out a call.
pub fn run(call: Call, config: &Config) -> Result<CallOutput, CniError> {
    match call.command {
        Command::Version => Ok(CallOutput {
            result: Some(json!({
                "cniVersion": config.version,
                "supportedVersions": VERSIONS,
            })),
            notice: None,
        }),
        Command::Add => add(call, config),
        Command::Check => check(call, config),
        Command::Del => Ok(del(call, config)),
        Command::Gc => gc(config),
        Command::Status => status(config),
    }
}

/// Pod and sandbox of a call. `None` if the agent is not asked: the namespace is excluded, or the caller is not
/// Kubernetes.
fn pod_and_sandbox(call: Call, config: &Config) -> Option<(PodRef, SandboxRef)> {
    let pod = call.pod.clone()?;
    if config.exclude_namespaces.contains(&pod.namespace) {
        return None;
    }
    let Call {
        command: _,
        container_id,
        netns,
        pod: named,
    } = call;
    let sandbox = SandboxRef {
        container_id,
        netns,
        pod: named,
    };
    Some((pod, sandbox))
}

fn add(call: Call, config: &Config) -> Result<CallOutput, CniError> {
    let previous = config.previous.clone().ok_or_else(not_chained)?;
    let asked = match pod_and_sandbox(call, config) {
        Some((pod, sandbox)) => {
            ask_agent(config, action("redirect", &pod), Operation::Add(sandbox))
        }
        None => Ok(()),
    };
    Ok(CallOutput {
        result: Some(previous),
        notice: or_fail_open(asked, config, "the pod starts without redirection")?,
    })
}

fn check(call: Call, config: &Config) -> Result<CallOutput, CniError> {
    if config.previous.is_none() {
        return Err(not_chained());
    }
    let asked = match pod_and_sandbox(call, config) {
        Some((pod, sandbox)) => ask_agent(config, action("check", &pod), Operation::Check(sandbox)),
        None => Ok(()),
    };
    Ok(CallOutput {
        result: None,
        notice: or_fail_open(
            asked,
            config,
            "the pod may have started without redirection",
        )?,
    })
}

/// Always succeeds: a runtime repeats DEL until it does, and redirection ends with the pod's cgroup in any case.
fn del(call: Call, config: &Config) -> CallOutput {
    let Some((pod, sandbox)) = pod_and_sandbox(call, config) else {
        return CallOutput::default();
    };
    let asked = ask_agent(
        config,
        action("forget the sandbox of", &pod),
        Operation::Del(sandbox),
    );
    CallOutput {
        result: None,
        notice: asked
            .err()
            .map(|error| format!("{error}; redirection ends with the pod's cgroup")),
    }
}

fn gc(config: &Config) -> Result<CallOutput, CniError> {
    let Some(valid) = &config.valid_attachments else {
        return Ok(CallOutput::default());
    };
    let operation = Operation::Gc {
        valid: valid
            .iter()
            .map(|attachment| attachment.container_id.clone())
            .collect(),
    };
    let asked = ask_agent(config, "forget removed sandboxes".to_owned(), operation);
    let asked = asked.map_err(|error| CniError {
        code: Code::TryAgainLater,
        ..error
    });
    Ok(CallOutput {
        result: None,
        notice: or_fail_open(
            asked,
            config,
            "attachments of removed sandboxes end with their cgroups",
        )?,
    })
}

fn status(config: &Config) -> Result<CallOutput, CniError> {
    let asked = ask_agent(
        config,
        "redirect pods of the mesh".to_owned(),
        Operation::Status,
    );
    let asked = asked.map_err(|error| CniError {
        code: Code::NotAvailable,
        ..error
    });
    Ok(CallOutput {
        result: None,
        notice: or_fail_open(asked, config, "pods start without redirection")?,
    })
}

/// Asks the agent for an operation. The error begins with `action`, and says why it failed.
fn ask_agent(config: &Config, action: String, operation: Operation) -> Result<(), CniError> {
    let (code, why) = match request(&config.socket, operation, config.timeout()) {
        Ok(Response::Done | Response::Skipped { .. }) => return Ok(()),
        Ok(Response::Failed {
            reason,
            retry: true,
        }) => (Code::TryAgainLater, reason),
        Ok(Response::Failed { reason, .. }) => (Code::NotRedirected, reason),
        Err(unreachable) => (Code::TryAgainLater, unreachable.to_string()),
    };
    Err(CniError::new(code, action, why))
}

/// Turns an error into a notice with its consequence, if the configuration says `failOpen`.
fn or_fail_open(
    asked: Result<(), CniError>,
    config: &Config,
    consequence: &str,
) -> Result<Option<String>, CniError> {
    match asked {
        Err(error) if config.fail_open => Ok(Some(format!("{error}; {consequence} (failOpen)"))),
        asked => asked.map(|()| None),
    }
}

fn action(verb: &str, pod: &PodRef) -> String {
    format!("{verb} pod {}/{}", pod.namespace, pod.name)
}

fn not_chained() -> CniError {
    CniError::new(
        Code::InvalidConfig,
        "read \"prevResult\"",
        "there is none: this plugin creates no interface, so put it into the \"plugins\" list after one that does",
    )
}
