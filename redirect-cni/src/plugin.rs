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

fn sandbox(call: Call) -> Sandbox {
    let Call {
        command: _,
        container_id,
        netns,
        pod,
    } = call;
    Sandbox {
        container_id,
        netns,
        pod,
    }
}

fn add(call: Call, config: &Config) -> Result<Outcome, CniError> {
    let done = |notice| Outcome {
        result: config.previous.clone(),
        notice,
    };
    if config.previous.is_none() {
        return Err(not_chained());
    }
    let Some(pod) = call.pod.clone() else {
        return Ok(done(None));
    };
    if config.exclude_namespaces.contains(&pod.namespace) {
        return Ok(done(None));
    }
    let failed = |code, reason: String| {
        let what = shown("redirect", &pod);
        if config.fail_open {
            return Ok(done(Some(format!(
                "{what}: {reason}; it starts without (failOpen)"
            ))));
        }
        Err(CniError::new(code, what, reason))
    };
    match ask(&config.socket, Ask::Add(sandbox(call)), config.timeout()) {
        Ok(Answer::Done | Answer::NotOurs { .. }) => Ok(done(None)),
        Ok(Answer::Failed {
            reason,
            again: true,
        }) => failed(Code::TryAgainLater, reason),
        Ok(Answer::Failed { reason, .. }) => failed(Code::NotRedirected, reason),
        Err(unreachable) => failed(Code::TryAgainLater, unreachable.to_string()),
    }
}

fn check(call: Call, config: &Config) -> Result<Outcome, CniError> {
    if config.previous.is_none() {
        return Err(not_chained());
    }
    let Some(pod) = call.pod.clone() else {
        return Ok(Outcome::default());
    };
    let what = shown("check", &pod);
    match ask(&config.socket, Ask::Check(sandbox(call)), config.timeout()) {
        Ok(Answer::Done | Answer::NotOurs { .. }) => Ok(Outcome::default()),
        Ok(Answer::Failed { reason, .. }) => Err(CniError::new(Code::NotRedirected, what, reason)),
        Err(unreachable) => Err(CniError::new(Code::TryAgainLater, what, unreachable)),
    }
}

/// Always succeeds: a runtime calls until it does, and what is attached ends with the pod's cgroup in any case.
fn delete(call: Call, config: &Config) -> Outcome {
    let Some(pod) = call.pod.clone() else {
        return Outcome::default();
    };
    let why = match ask(&config.socket, Ask::Del(sandbox(call)), config.timeout()) {
        Ok(Answer::Done | Answer::NotOurs { .. }) => return Outcome::default(),
        Ok(Answer::Failed { reason, .. }) => reason,
        Err(unreachable) => unreachable.to_string(),
    };
    Outcome {
        result: None,
        notice: Some(format!(
            "{}: {why}; it ends with the pod's cgroup",
            shown("let go of", &pod)
        )),
    }
}

fn collect(config: &Config) -> Result<Outcome, CniError> {
    let what = "collect what removed sandboxes have left";
    let valid = config.valid_attachments.iter();
    let ask_gc = Ask::Gc {
        valid: valid
            .map(|attachment| attachment.container_id.clone())
            .collect(),
    };
    match ask(&config.socket, ask_gc, config.timeout()) {
        Ok(Answer::Done | Answer::NotOurs { .. }) => Ok(Outcome::default()),
        Ok(Answer::Failed { reason, .. }) => Err(CniError::new(Code::TryAgainLater, what, reason)),
        Err(unreachable) => Err(CniError::new(Code::TryAgainLater, what, unreachable)),
    }
}

fn status(config: &Config) -> Result<Outcome, CniError> {
    let unavailable = |why: String| {
        if config.fail_open {
            return Ok(Outcome {
                result: None,
                notice: Some(format!("{why}; pods start without redirection (failOpen)")),
            });
        }
        Err(CniError::new(
            Code::NotAvailable,
            "redirect pods of the mesh",
            why,
        ))
    };
    match ask(&config.socket, Ask::Status, config.timeout()) {
        Ok(Answer::Done | Answer::NotOurs { .. }) => Ok(Outcome::default()),
        Ok(Answer::Failed { reason, .. }) => unavailable(reason),
        Err(unreachable) => unavailable(unreachable.to_string()),
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
