//! Help, examples and completions.
#![expect(clippy::unnecessary_wraps, reason = "all tests have one type")]

use clap::Command;
use redirect_testkit::cases;

use crate::{
    Cases,
    Needs::Nothing,
    Tested,
    ctl::{self, BINARY},
};

pub(crate) const CASES: &[Cases] = cases! {
    Nothing => [
        every_command_has_help_with_an_example,
        texts_fit_a_terminal_and_examples_can_be_copied,
        completions_contain_every_command,
        the_version_is_that_of_the_package,
    ],
};

/// Collects every path of subcommands, the empty one first.
fn paths(command: &Command, path: &[String], found: &mut Vec<Vec<String>>) {
    found.push(path.to_vec());
    for child in command.get_subcommands() {
        paths(
            child,
            &[path, &[child.get_name().to_owned()]].concat(),
            found,
        );
    }
}

fn help(path: &[String], flag: &str) -> String {
    let words: Vec<_> = path.iter().map(String::as_str).collect();
    ctl::run(&[&[BINARY], &words[..], &[flag]].concat(), &[], "").ok()
}

fn every_command_has_help_with_an_example() -> Tested {
    let command = redirectctl::cli::command();
    let mut all = Vec::new();
    paths(&command, &[], &mut all);
    assert!(all.len() > 15, "{all:?}");
    for path in &all {
        let name = ["redirectctl"]
            .into_iter()
            .chain(path.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ");
        let text = help(path, "--help");
        assert!(text.contains(&format!("Usage: {name}")), "{text}");
        let (_, examples) = text
            .split_once("\nExample")
            .unwrap_or_else(|| panic!("{name} has no example: {text}"));
        assert!(
            examples.contains(&format!("\n  {name}")),
            "{name}: {examples}"
        );
        assert!(help(path, "-h").contains("Example"), "{name} -h");
        for line in text.lines() {
            assert!(
                !line.contains('\u{1b}') && line.chars().count() <= 120,
                "{name}: {line}"
            );
        }
    }
    Ok(())
}

/// Checks the texts after the options of a command and of its subcommands.
fn assert_after_help(command: &Command) {
    let text = command.get_after_help().unwrap().to_string();
    for line in text.lines() {
        assert!(line.chars().count() <= 79, "{}: {line}", command.get_name());
    }
    let (_, examples) = text.split_once("Example").unwrap();
    let mut continues = false;
    for line in examples.lines().skip(1).take_while(|line| !line.is_empty()) {
        assert_eq!(line.starts_with("    "), continues, "{line}");
        continues = line.ends_with('\\') || line.ends_with('|');
    }
    assert!(!continues, "{text}");
    command.get_subcommands().for_each(assert_after_help);
}

fn texts_fit_a_terminal_and_examples_can_be_copied() -> Tested {
    assert_after_help(&redirectctl::cli::command());
    Ok(())
}

fn completions_contain_every_command() -> Tested {
    let command = redirectctl::cli::command();
    for shell in ["bash", "zsh", "fish"] {
        let script = ctl::run(&[BINARY, "completions", shell], &[], "").ok();
        for child in command.get_subcommands() {
            assert!(
                script.contains(child.get_name()),
                "{shell}: {}",
                child.get_name()
            );
        }
        assert!(script.contains("istio-service-exclude-cidr"), "{shell}");
    }
    let script = ctl::run(&[BINARY, "completions", "bash"], &[], "").ok();
    assert_eq!(ctl::run(&["bash", "-n"], &[], &script).ok(), "");
    Ok(())
}

fn the_version_is_that_of_the_package() -> Tested {
    let version = concat!("redirectctl ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(ctl::run(&[BINARY, "--version"], &[], "").ok(), version);
    Ok(())
}
