//! The words of a rule, with the quotes of `iptables-save`.

/// The words of a line; `None` if a quote is not closed.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().push(letters.next()?),
            ' ' | '\t' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_follow_iptables_save() {
        let cases = [
            (
                "-A OUTPUT  -j RETURN",
                Some(&["-A", "OUTPUT", "-j", "RETURN"][..]),
            ),
            (
                r#"--comment "say \"-j DROP\" \\""#,
                Some(&["--comment", r#"say "-j DROP" \"#][..]),
            ),
            (r#"--comment """#, Some(&["--comment", ""][..])),
            (r#"--comment "open"#, None),
            (r#"--comment "open\"#, None),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|words| words.iter().map(ToString::to_string).collect());
            assert_eq!(words(line), expected, "{line}");
        }
    }
}
