//! What each call does.

use serde_json::{Value, json};

use crate::{
    agent::ask,
    call::{Call, Command},
    config::{Config, VERSIONS},
    error::{CniError, Code},
    protocol::{Answer, Ask, PodRef, Sandbox},
};

/// What a call gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For the runtime, if it expects anything.
    pub result: Option<Value>,
    /// For the operator: what was not done, although the call succeeds.
    pub notice: Option<String>,
}

/// Carries out a call.
pub fn run(call: Call, config: &Config) -> Result<Outcome, CniError> {
    match call.command {
        Command::Version => Ok(Outcome {
            result: Some(json!({
                "cniVersion": config.version,
                "supportedVersions": VERSIONS,
            })),
            notice: None,
        }),
        Command::Add => add(call, config),
        Command::Check => check(call, config),
        Command::Del => Ok(delete(call, config)),
        Command::Gc => collect(config),
        Command::Status => status(config),
    }
}

/// The pod that a call is about, and its sandbox; none if it is not to be asked for: its namespace is excluded, or it
/// is not Kubernetes that calls.
fn in_question(call: Call, config: &Config) -> Option<(PodRef, Sandbox)> {
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
    let sandbox = Sandbox {
        container_id,
        netns,
        pod: named,
    };
    Some((pod, sandbox))
}

fn add(call: Call, config: &Config) -> Result<Outcome, CniError> {
    let previous = config.previous.clone().ok_or_else(not_chained)?;
    let done = match in_question(call, config) {
        Some((pod, made)) => asked(config, shown("redirect", &pod), Ask::Add(made)),
        None => Ok(()),
    };
    Ok(Outcome {
        result: Some(previous),
        notice: unless_open(done, config, "it starts without")?,
    })
}

fn check(call: Call, config: &Config) -> Result<Outcome, CniError> {
    if config.previous.is_none() {
        return Err(not_chained());
    }
    let done = match in_question(call, config) {
        Some((pod, made)) => asked(config, shown("check", &pod), Ask::Check(made)),
        None => Ok(()),
    };
    Ok(Outcome {
        result: None,
        notice: unless_open(done, config, "it may have started without")?,
    })
}

/// Always succeeds: a runtime calls until it does, and what is attached ends with the pod's cgroup in any case.
fn delete(call: Call, config: &Config) -> Outcome {
    let Some((pod, made)) = in_question(call, config) else {
        return Outcome::default();
    };
    let done = asked(config, shown("let go of", &pod), Ask::Del(made));
    Outcome {
        result: None,
        notice: done
            .err()
            .map(|error| format!("{error}; it ends with the pod's cgroup")),
    }
}

fn collect(config: &Config) -> Result<Outcome, CniError> {
    let what = "collect what removed sandboxes have left";
    let Some(valid) = &config.valid_attachments else {
        return Ok(Outcome::default());
    };
    let ask_gc = Ask::Gc {
        valid: valid
            .iter()
            .map(|attachment| attachment.container_id.clone())
            .collect(),
    };
    let done = asked(config, what.to_owned(), ask_gc);
    done.map_err(|error| CniError {
        code: Code::TryAgainLater,
        ..error
    })?;
    Ok(Outcome::default())
}

fn status(config: &Config) -> Result<Outcome, CniError> {
    let done = asked(config, "redirect pods of the mesh".to_owned(), Ask::Status);
    let done = done.map_err(|error| CniError {
        code: Code::NotAvailable,
        ..error
    });
    Ok(Outcome {
        result: None,
        notice: unless_open(done, config, "they start without")?,
    })
}

/// Asks the agent for what a call wants. The error says why that was not done.
fn asked(config: &Config, what: String, question: Ask) -> Result<(), CniError> {
    let (code, why) = match ask(&config.socket, question, config.timeout()) {
        Ok(Answer::Done | Answer::NotOurs { .. }) => return Ok(()),
        Ok(Answer::Failed {
            reason,
            again: true,
        }) => (Code::TryAgainLater, reason),
        Ok(Answer::Failed { reason, .. }) => (Code::NotRedirected, reason),
        Err(unreachable) => (Code::TryAgainLater, unreachable.to_string()),
    };
    Err(CniError::new(code, what, why))
}

/// With `failOpen`, what was not done is no error and only told, with what comes of it.
fn unless_open(
    done: Result<(), CniError>,
    config: &Config,
    consequence: &str,
) -> Result<Option<String>, CniError> {
    match done {
        Err(error) if config.fail_open => Ok(Some(format!("{error}; {consequence} (failOpen)"))),
        done => done.map(|()| None),
    }
}

fn shown(verb: &str, pod: &PodRef) -> String {
    format!("{verb} pod {}/{}", pod.namespace, pod.name)
}

fn not_chained() -> CniError {
    CniError::new(
        Code::InvalidConfig,
        "read \"prevResult\"",
        "there is none: this plugin makes no interface, so put it after one that does, into its \"plugins\" list",
    )
}
