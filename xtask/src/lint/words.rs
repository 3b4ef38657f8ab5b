//! The language of the project: retired words stay out, and no comment begins without its noun.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{command, workspace};

/// The words, one a line with its replacement.
const LIST: &str = include_str!("retired_words.txt");
/// Where the list is, which names all of them.
const LIST_PATH: &str = "xtask/src/lint/retired_words.txt";
/// This file, whose tests need retired words.
const OWN_PATH: &str = "xtask/src/lint/words.rs";
/// The endings of files that are read.
const KINDS: [&str; 7] = ["rs", "md", "toml", "yaml", "tpl", "json", "txt"];
/// Words that a sentence does not begin with: the reader would have to look for its noun.
const OPENERS: [&str; 6] = ["What", "Who", "Whoever", "Whose", "Whom", "That"];
/// How many findings are printed.
const SHOWN: usize = 30;

/// Fails with the places of retired words, and of comments that begin with one of [`OPENERS`].
pub(crate) fn check() -> Result<()> {
    let root = workspace::root();
    let mut git = Command::new("git");
    let listed = command::output(git.current_dir(&root).args(["ls-files"]))
        .context("list the files under version control")?;
    let retired: Vec<_> = retired().collect();
    let mut findings = Vec::new();
    for path in listed.lines().filter(|path| is_read(path)) {
        // A file that was removed and not yet committed.
        let Ok(text) = fs::read_to_string(root.join(path)) else {
            continue;
        };
        for (line, number) in text.lines().zip(1..) {
            for (word, instead) in &retired {
                if contains(line, word) {
                    findings.push(format!("{path}:{number}: \"{word}\": use \"{instead}\""));
                }
            }
            if let Some(word) = opener(path, line) {
                findings.push(format!(
                    "{path}:{number}: begins with \"{word}\": begin with the noun or the verb"
                ));
            }
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    let shown = findings.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    bail!(
        "check words: {} places ({LIST_PATH} lists the words):\n{}",
        findings.len(),
        shown.join("\n")
    )
}

fn is_read(path: &str) -> bool {
    path != LIST_PATH && path != OWN_PATH && KINDS.contains(&kind(path))
}

/// The ending of a path, without its dot; empty if there is none.
fn kind(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, kind)| kind)
}

/// The words of the list, with their replacements.
fn retired() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = LIST.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" = "))
}

/// Whether a line has a word that is not a part of another one.
fn contains(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        let after = line.get(at + word.len()..).unwrap_or_default();
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// The word that a comment, or a paragraph of a page, begins with and should not. Questions may.
fn opener(path: &str, line: &str) -> Option<&'static str> {
    let text = line.trim_start();
    let text = match kind(path) {
        "rs" => text.strip_prefix("//")?.trim_start_matches(['/', '!']),
        "md" => text.trim_start_matches(['-', '*', '|']),
        _ => return None,
    };
    let text = text.trim_start();
    let word = OPENERS.into_iter().find(|word| {
        let rest = text.strip_prefix(word);
        rest.is_some_and(|rest| rest.starts_with([' ', ',', '\'']))
    })?;
    (!line.trim_end().ends_with('?')).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_word_is_found_as_a_whole_word_only() {
        assert!(contains("the owner folder is locked", "owner folder"));
        assert!(contains("hand_over(pod)", "hand_over"));
        assert!(!contains("my_hand_over", "hand_over"));
    }

    #[test]
    fn every_word_of_the_list_has_a_replacement() {
        let lines = LIST
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        assert_eq!(lines.count(), retired().count());
        assert!(retired().all(|(word, instead)| !word.is_empty() && !instead.is_empty()));
    }

    #[test]
    fn a_comment_that_begins_without_its_noun_is_found() {
        assert_eq!(opener("a.rs", "    /// What is redirected."), Some("What"));
        assert_eq!(opener("a.rs", "//! Whoever reads it."), Some("Whoever"));
        assert_eq!(opener("a.md", "- That is so."), Some("That"));
        for line in [
            "/// Whatever comes.",
            "let what = 1; // What",
            "// What is it?",
            "/// Why.",
        ] {
            assert_eq!(opener("a.rs", line), None, "{line}");
        }
        assert_eq!(opener("a.yaml", "# What"), None);
    }
}
