//! One row of the table as text, as it should be or as it was.

/// What is compared of a connection, and shown.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    /// What `explain` said beforehand: verdict and rule.
    pub(crate) explained: String,
    /// The iptables rule that stands for it.
    pub(crate) iptables: String,
    /// The verdict of the rule whose counter moved.
    pub(crate) verdict: String,
    /// The rule whose counter moved.
    pub(crate) rule: String,
    /// Every counter that moved.
    pub(crate) counted: String,
    /// Who answered, and whether somebody stood in between.
    pub(crate) answered: String,
    /// The original destination the proxy was told.
    pub(crate) saw: String,
    /// What `getpeername` told the application.
    pub(crate) peername: String,
}

/// A cell's name, what it should be, and what it is.
pub(crate) type Difference<'a> = (&'static str, &'a str, &'a str);

impl Cells {
    pub(crate) fn differences<'a>(&'a self, seen: &'a Self) -> Vec<Difference<'a>> {
        let named = self.named().into_iter().zip(seen.named());
        named
            .filter(|((_, wanted), (_, got))| wanted != got)
            .map(|((name, wanted), (_, got))| (name, wanted, got))
            .collect()
    }

    fn named(&self) -> [(&'static str, &str); 8] {
        let Self {
            explained,
            iptables,
            verdict,
            rule,
            counted,
            answered,
            saw,
            peername,
        } = self;
        [
            ("explain", explained),
            ("iptables", iptables),
            ("verdict", verdict),
            ("rule", rule),
            ("counted", counted),
            ("answered by", answered),
            ("proxy saw", saw),
            ("getpeername", peername),
        ]
    }
}
