//! The surroundings of a command: arguments, environment variables and outputs.

use std::{
    ffi::OsString,
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use super::Screen;
use crate::config::{Environment, NameFile};

/// The numbers of colours in escape sequences (ECMA-48, SGR).
const RED: u8 = 31;
const YELLOW: u8 = 33;

/// The surroundings of a command.
pub struct Env {
    /// The arguments, beginning with the program's name.
    pub arguments: Vec<OsString>,
    /// The environment variables.
    pub variables: Environment,
    /// The lookup of users' names.
    pub users: NameFile,
    /// The lookup of groups' names.
    pub groups: NameFile,
    /// The screen behind standard output.
    pub screen: Screen,
    /// The screen behind standard error.
    pub error_screen: Screen,
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
    /// The surroundings of this process. `variables` are the environment variables that can be
    /// options.
    pub fn of_process(variables: Environment) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            arguments: std::env::args_os().collect(),
            variables,
            users: NameFile::users(),
            groups: NameFile::groups(),
            screen: Screen::of(io::stdout(), no_color),
            error_screen: Screen::of(io::stderr(), no_color),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
        }
    }

    /// Prints a line for a person to standard error, apart from the results.
    pub fn note(&mut self, line: &str) {
        ignore(writeln!(self.stderr, "{line}"));
    }

    /// Prints a warning to standard error.
    pub fn warn(&mut self, warning: &str) {
        self.note(&format!("{} {warning}", self.label("warning:", YELLOW)));
    }

    /// Prints an error with its causes to standard error.
    pub fn error(&mut self, error: &anyhow::Error) {
        self.note(&format!("{} {error:#}", self.label("error:", RED)));
    }

    /// The first word of a message, in colour on a terminal.
    fn label(&self, word: &str, color: u8) -> String {
        if self.error_screen.is_coloured() {
            format!("\u{1b}[1;{color}m{word}\u{1b}[0m")
        } else {
            word.to_owned()
        }
    }

    /// Prints clap's message about a command line: help, version, or an error.
    pub fn usage(&mut self, error: &clap::Error) -> ExitCode {
        let text = error.render();
        let (out, screen) = if error.use_stderr() {
            (&mut self.stderr, self.error_screen)
        } else {
            (&mut self.stdout, self.screen)
        };
        ignore(if screen.is_coloured() {
            write!(out, "{}", text.ansi())
        } else {
            write!(out, "{text}")
        });
        u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

/// Ignores the error of an output that was closed: no reader is left.
fn ignore(result: io::Result<()>) {
    drop(result);
}
