//! `redirect-cni`: started by a container runtime, as the CNI specification says.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its two outputs are the interface"
)]

use std::{
    env,
    io::{IsTerminal as _, Read as _, stdin},
    process::ExitCode,
};

use redirect_cni::{
    call::{Call, Command},
    config::{Config, NEWEST, VERSIONS},
    error::{CniError, Code},
    plugin::{self, Outcome},
};

const ABOUT: &str = "\
The chained CNI plugin of redirect-agent. A container runtime starts it, with the call in the variables CNI_* and the
network's configuration on standard input; there is nothing for people to start here.

Its entry in a conflist, after the plugin that makes the interface:

  {
    \"type\": \"redirect-cni\",
    \"socket\": \"/run/redirect-agent/cni.sock\",   where the agent listens (this is the default)
    \"timeoutSeconds\": 30,                         how long it may take to attach a pod
    \"failOpen\": false,                            true: what cannot be attached starts without
    \"excludeNamespaces\": [\"kube-system\"]          these are never in the mesh
  }
";

fn main() -> ExitCode {
    if env::var_os("CNI_COMMAND").is_none() && stdin().is_terminal() || env::args().nth(1).is_some()
    {
        println!(
            "{ABOUT}\nVersions of the CNI specification: {}.",
            VERSIONS.join(", ")
        );
        return ExitCode::SUCCESS;
    }
    // Errors before the configuration is read are told in the newest version.
    let mut version = NEWEST.to_owned();
    match run(&mut version) {
        Ok(Outcome { result, notice }) => {
            if let Some(notice) = notice {
                eprintln!("redirect-cni: {notice}");
            }
            if let Some(result) = result {
                println!("{result}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", error.to_json(&version));
            ExitCode::FAILURE
        }
    }
}

fn run(version: &mut String) -> Result<Outcome, CniError> {
    // In any case, so that the runtime can write it.
    let mut text = String::new();
    stdin()
        .read_to_string(&mut text)
        .map_err(|error| CniError::new(Code::Io, "read standard input", error))?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the specification puts the call into the environment"
    )]
    let call = Call::read(|name| env::var(name).ok())?;
    let config = Config::read(&text)?;
    // Asked in the newest version that the runtime knows, which may be newer than ours: the answer says so.
    if call.command != Command::Version {
        config.check_version()?;
    }
    version.clone_from(&config.version);
    plugin::run(call, &config)
}
