//! The program `redirect-cni`: a container runtime starts it, as the CNI specification says.
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
    plugin::{self, CallOutput},
};

const ABOUT: &str = "\
The chained CNI plugin of redirect-agent. A container runtime starts it, with the call in the variables CNI_* and the
network's configuration on standard input. It is of no use on a command line.

Its entry in a conflist, after the plugin that creates the interface:

  {
    \"type\": \"redirect-cni\",
    \"socket\": \"/run/redirect-agent/cni.sock\",
    \"timeoutSeconds\": 30,
    \"failOpen\": false,
    \"excludeNamespaces\": [\"kube-system\"]
  }

  socket             socket of the agent (this is the default)
  timeoutSeconds     limit for the agent's answer; the agent itself answers within 28 s
  failOpen           true: pods that cannot be attached start without redirection
  excludeNamespaces  pods that start without asking the agent; give the agent's mesh file the same list
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
    // Errors before the configuration is read use the newest version.
    let mut version = NEWEST.to_owned();
    match run(&mut version) {
        Ok(CallOutput { result, notice }) => {
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

fn run(version: &mut String) -> Result<CallOutput, CniError> {
    // Read first in any case: the runtime blocks until its configuration is written.
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
    // libcni sends VERSION in its own newest version, which may be newer than the supported ones; the result names
    // these.
    if call.command != Command::Version {
        config.check_version()?;
    }
    version.clone_from(&config.version);
    plugin::run(call, &config)
}
