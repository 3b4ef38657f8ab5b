//! The world as a command sees it: arguments, environment and where it prints.

use std::{
    ffi::OsString,
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use crate::config::{Environment, NameFile};

/// What a command line is run with.
pub struct Env {
    /// The arguments, the program's name first.
    pub arguments: Vec<OsString>,
    /// The environment variables.
    pub variables: Environment,
    /// Who has which id.
    pub users: NameFile,
    /// Which group has which id.
    pub groups: NameFile,
    /// Whether standard output is a terminal: only then is it coloured.
    pub terminal: bool,
    /// Standard output.
    pub stdout: Box<dyn Write>,
    /// Standard error.
    pub stderr: Box<dyn Write>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

impl Env {
    /// Prints a line for a person, apart from the results.
    pub fn note(&mut self, line: &str) {
        ignore(writeln!(self.stderr, "{line}"));
    }

    /// Prints an error with its causes.
    pub fn error(&mut self, error: &anyhow::Error) {
        self.note(&format!("error: {error:#}"));
    }

    /// Prints what clap has to say about a command line: help, version, or what is wrong with it.
    pub fn usage(&mut self, error: &clap::Error) -> ExitCode {
        let text = error.render();
        if error.use_stderr() {
            ignore(write!(self.stderr, "{text}"));
        } else if self.terminal {
            ignore(write!(self.stdout, "{}", text.ansi()));
        } else {
            ignore(write!(self.stdout, "{text}"));
        }
        u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

/// Where nobody reads any more, there is nobody to tell.
fn ignore(result: io::Result<()>) {
    drop(result);
}
