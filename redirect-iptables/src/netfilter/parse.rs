//! The lines of a text, parsed to tables. The text is the output of `iptables-save`, with or without counters, or an
//! input of `iptables-restore` that makes its own chains.

use super::{
    error::{Fault, ParseError},
    model::{Chain, Rule, Ruleset, Table, Target},
    read_rule::read_rule,
    words::words,
};
use crate::rules::Family;

/// Parses the rules of one family.
pub fn parse(family: Family, text: &str) -> Result<Ruleset, ParseError> {
    let mut parser = Parser {
        family,
        tables: Vec::new(),
        open: None,
    };
    let mut last = 0;
    for (line, number) in text.lines().zip(1..) {
        last = number;
        parser
            .line(line.trim(), number)
            .map_err(|fault| ParseError {
                line: number,
                fault,
            })?;
    }
    if parser.open.is_some() {
        return Err(ParseError {
            line: last,
            fault: Fault::CutOff,
        });
    }
    Ok(Ruleset {
        family,
        tables: parser.tables,
    })
}

struct Parser {
    family: Family,
    tables: Vec<Table>,
    /// The table whose end has not been read yet.
    open: Option<Table>,
}

impl Parser {
    fn line(&mut self, line: &str, number: usize) -> Result<(), Fault> {
        let not_rules = || Fault::NotRules(line.to_owned());
        if line.is_empty() {
            return Ok(());
        }
        if let Some(comment) = line.strip_prefix('#') {
            return hidden(comment).map_or(Ok(()), |table| Err(Fault::Hidden(table)));
        }
        if let Some(name) = line.strip_prefix('*') {
            return self.start(name.trim());
        }
        if line == "COMMIT" {
            let table = self.open.take().ok_or(Fault::NoTable)?;
            self.tables.push(with_unknown_targets(table));
            return Ok(());
        }
        let rule = without_counters(line);
        let words = words(rule).ok_or_else(not_rules)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [chain, policy, ..] if chain.starts_with(':') => {
                let policy = (*policy != "-").then(|| (*policy).to_owned());
                self.chain(chain.trim_start_matches(':'), policy)
            }
            ["-N" | "--new-chain", chain] => self.chain(chain, None),
            ["-P" | "--policy", chain, policy] => {
                self.rules(chain)?.policy = Some((*policy).to_owned());
                Ok(())
            }
            ["-A" | "--append", chain, words @ ..] => {
                let rule = self.rule(number, rule, words)?;
                self.rules(chain)?.rules.push(rule);
                Ok(())
            }
            ["-I" | "--insert", chain, words @ ..] => {
                let at = words.first().and_then(|word| word.parse::<usize>().ok());
                let words = words.get(usize::from(at.is_some())..).unwrap_or_default();
                let rule = self.rule(number, rule, words)?;
                let chain = self.rules(chain)?;
                let at = at.unwrap_or(1).saturating_sub(1).min(chain.rules.len());
                chain.rules.insert(at, rule);
                Ok(())
            }
            _ => Err(not_rules()),
        }
    }

    fn rule(&self, line: usize, text: &str, words: &[&str]) -> Result<Rule, Fault> {
        let (tests, target) = read_rule(self.family, words)?;
        Ok(Rule {
            line,
            text: text.to_owned(),
            tests,
            target,
        })
    }

    fn start(&mut self, name: &str) -> Result<(), Fault> {
        if self.open.is_some() {
            return Err(Fault::CutOff);
        }
        if self.tables.iter().any(|table| table.name == name) {
            return Err(Fault::TableAgain(name.to_owned()));
        }
        self.open = Some(Table {
            name: name.to_owned(),
            chains: Vec::new(),
        });
        Ok(())
    }

    fn chain(&mut self, name: &str, policy: Option<String>) -> Result<(), Fault> {
        let table = self.open.as_mut().ok_or(Fault::NoTable)?;
        table.chains.push(Chain {
            name: name.to_owned(),
            policy,
            rules: Vec::new(),
        });
        Ok(())
    }

    /// The chain that a rule is for. Built-in chains need no declaration.
    fn rules(&mut self, name: &str) -> Result<&mut Chain, Fault> {
        let table = self.open.as_mut().ok_or(Fault::NoTable)?;
        let found = table.chains.iter().position(|chain| chain.name == name);
        let at = found.unwrap_or(table.chains.len());
        if found.is_none() {
            if !BUILT_IN.contains(&name) {
                return Err(Fault::NoChain(name.to_owned()));
            }
            table.chains.push(Chain {
                name: name.to_owned(),
                policy: Some("ACCEPT".to_owned()),
                rules: Vec::new(),
            });
        }
        table
            .chains
            .get_mut(at)
            .ok_or_else(|| Fault::NoChain(name.to_owned()))
    }
}

/// The chains that the kernel makes.
const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// A rule without `[packets:bytes]` before it.
fn without_counters(line: &str) -> &str {
    line.strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or(line, |(_, rule)| rule.trim_start())
}

/// The table that `iptables-nft-save` cannot show, according to its comment.
fn hidden(comment: &str) -> Option<String> {
    let rest = comment.trim().strip_prefix("Table `")?;
    let (table, rest) = rest.split_once('\'')?;
    rest.contains("incompatible").then(|| table.to_owned())
}

/// The table, with every jump to a name that is not one of its chains turned into an unknown target.
fn with_unknown_targets(mut table: Table) -> Table {
    let names: Vec<_> = table
        .chains
        .iter()
        .map(|chain| chain.name.clone())
        .collect();
    for rule in table.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
        if let Target::Jump(name) | Target::Goto(name) = &rule.target
            && !names.contains(name)
        {
            rule.target = Target::Unknown(format!("-j {name}"));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (usize, Fault) {
        let error = parse(Family::V4, text).expect_err(text);
        (error.line, error.fault)
    }

    #[test]
    fn counters_comments_and_inserted_rules_are_read() {
        let text = "# Generated\n*nat\n:OUTPUT ACCEPT [1:2]\n:MINE - [0:0]\n\
                    [5:300] -A OUTPUT -p tcp -j MINE\n-I OUTPUT 1 -j ACCEPT\n-I OUTPUT -j DROP\n\
                    -A MINE -j RETURN\nCOMMIT\n";
        let rules = parse(Family::V4, text).expect("rules");
        let output: Vec<_> = rules
            .rules_of("nat", "OUTPUT")
            .iter()
            .map(|rule| (rule.line, rule.target.clone()))
            .collect();
        assert_eq!(
            output,
            [
                (7, Target::Drop),
                (6, Target::Accept),
                (5, Target::Jump("MINE".to_owned()))
            ]
        );
        let text = &rules.rules_of("nat", "OUTPUT")[2].text;
        assert_eq!(text, "-A OUTPUT -p tcp -j MINE");
    }

    #[test]
    fn a_text_that_is_not_rules_is_refused_with_the_line() {
        let cases = [
            ("hello\n", 1, Fault::NotRules("hello".to_owned())),
            ("*nat\n-A OUTPUT -j DROP\n", 2, Fault::CutOff),
            ("*nat\n*raw\n", 2, Fault::CutOff),
            ("-A OUTPUT -j DROP\n", 1, Fault::NoTable),
            ("COMMIT\n", 1, Fault::NoTable),
            (
                "*nat\n-A MINE -j DROP\n",
                2,
                Fault::NoChain("MINE".to_owned()),
            ),
            (
                "*nat\nCOMMIT\n* nat\nCOMMIT\n",
                3,
                Fault::TableAgain("nat".to_owned()),
            ),
            (
                "*nat\n-A OUTPUT -d ::1/128 -j DROP\n",
                2,
                Fault::OtherFamily("::1/128".parse().expect("range"), 4),
            ),
            (
                "# Table `nat' is incompatible, use 'nft' tool.\n",
                1,
                Fault::Hidden("nat".to_owned()),
            ),
            (
                "*nat\n-A OUTPUT -m comment --comment \"x\n",
                2,
                Fault::NotRules("-A OUTPUT -m comment --comment \"x".to_owned()),
            ),
        ];
        for (text, line, expected) in cases {
            assert_eq!(fault(text), (line, expected), "{text}");
        }
    }

    #[test]
    fn a_jump_to_a_missing_chain_is_an_unknown_target() {
        let rules = parse(Family::V4, "*nat\n-A OUTPUT -j MINE\nCOMMIT\n").expect("rules");
        let targets: Vec<_> = rules.rules().map(|rule| rule.target.clone()).collect();
        assert_eq!(targets, [Target::Unknown("-j MINE".to_owned())]);
    }
}
