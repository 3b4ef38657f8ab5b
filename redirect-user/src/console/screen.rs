//! The layout of text for a screen: its width, and whether it shows colours.

use std::os::fd::AsFd;

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, presets::NOTHING};
use rustix::termios::{isatty, tcgetwinsize};

/// The properties of a terminal, or of another output that text is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// The width in characters; `None` if lines may have any length.
    width: Option<u16>,
    is_coloured: bool,
}

/// The narrowest width that is used for the layout: below it every word would be on a line of its
/// own.
const NARROWEST: u16 = 40;
/// The fewest characters to which a path is shortened.
const SHORTEST_PATH: usize = 12;

impl Screen {
    /// A file or a pipe: lines of any length, without colours.
    pub const PLAIN: Self = Self {
        width: None,
        is_coloured: false,
    };

    /// A terminal with this many columns, without colours.
    #[must_use]
    pub const fn of_width(width: u16) -> Self {
        Self {
            width: Some(width),
            is_coloured: false,
        }
    }

    /// The screen behind a descriptor. Colours are off if `NO_COLOR` is set (no-color.org).
    pub fn of(descriptor: impl AsFd, no_color: bool) -> Self {
        if !isatty(&descriptor) {
            return Self::PLAIN;
        }
        let width = tcgetwinsize(&descriptor).ok().map(|size| size.ws_col);
        Self {
            // A terminal that does not know its size reports 0.
            width: width
                .filter(|width| *width > 0)
                .map(|width| width.max(NARROWEST)),
            is_coloured: !no_color,
        }
    }

    /// Whether colours are shown.
    #[must_use]
    pub const fn is_coloured(self) -> bool {
        self.is_coloured
    }

    /// Lays out rows below headings, with aligned columns and without lines. If the screen is
    /// narrower than the rows, the last column is wrapped.
    #[must_use]
    pub fn table<const N: usize>(
        self,
        headings: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> String {
        let mut table = Table::new();
        table.set_header(headings);
        self.draw(table, rows)
    }

    /// Lays out rows as [`Self::table`] does, for a last column of paths. Paths are shortened from
    /// the left, because their ends distinguish them.
    #[must_use]
    pub fn table_of_paths<const N: usize>(
        self,
        headings: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> String {
        let mut rows: Vec<_> = rows.into_iter().collect();
        if let Some(width) = self.width {
            let widest = |column: usize| {
                let cells = rows.iter().filter_map(|row| row.get(column));
                let heading = headings.get(column).map_or(0, |heading| heading.len());
                cells
                    .map(|cell| cell.chars().count())
                    .fold(heading, usize::max)
            };
            // Two blanks separate columns.
            let others: usize = (0..N.saturating_sub(1))
                .map(|column| widest(column).saturating_add(2))
                .sum();
            let left = usize::from(width).saturating_sub(others).max(SHORTEST_PATH);
            for path in rows.iter_mut().filter_map(|row| row.last_mut()) {
                *path = shortened(path, left);
            }
        }
        Self {
            width: None,
            ..self
        }
        .table(headings, rows)
    }

    /// Lays out names and their values. A value that does not fit is continued on the next line.
    #[must_use]
    pub fn fields(self, fields: impl IntoIterator<Item = (&'static str, String)>) -> String {
        let rows = fields
            .into_iter()
            .map(|(name, value)| [name.to_owned(), value]);
        self.draw(Table::new(), rows)
    }

    /// Lays out a table that has its headings already, if any.
    fn draw<const N: usize>(
        self,
        mut table: Table,
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> String {
        table.load_style(NOTHING);
        for row in rows {
            table.add_row(row.map(|text| self.cell(text)));
        }
        if self.is_coloured {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if let Some(width) = self.width {
            // The outer columns are padded with a blank each, which is removed below.
            table
                .set_width(width.saturating_add(2))
                .set_content_arrangement(ContentArrangement::Dynamic);
            for column in table.column_iter_mut().take(N.saturating_sub(1)) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        table.lines().fold(String::new(), |text, line| {
            let line = line.strip_prefix(' ').unwrap_or(&line).trim_end();
            text + line + "\n"
        })
    }

    fn cell(self, text: String) -> Cell {
        match color(&text) {
            Some(color) if self.is_coloured => Cell::new(text).fg(color),
            _ => Cell::new(text),
        }
    }
}

/// The colour of a word that is a verdict or the result of a check.
fn color(word: &str) -> Option<Color> {
    match word {
        "out" | "in" | "dns" | "present" => Some(Color::Green),
        "direct" | "unknown" => Some(Color::Yellow),
        "missing" => Some(Color::Red),
        _ => None,
    }
}

/// A path with at most this many characters. Its beginning is cut off.
fn shortened(path: &str, most: usize) -> String {
    let count = path.chars().count();
    if count <= most {
        return path.to_owned();
    }
    let end: String = path
        .chars()
        .skip(count.saturating_sub(most.saturating_sub(1)))
        .collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [[String; 3]; 2] {
        [
            ["redirect", "2", "/sys/fs/cgroup/kubepods.slice/pod1/app"],
            ["shadow", "17", "/sys/fs/cgroup/a"],
        ]
        .map(|row| row.map(str::to_owned))
    }

    #[test]
    fn a_pipe_gets_complete_lines() {
        let text = Screen::PLAIN.table(["MODE", "OUT", "CGROUP"], rows());
        assert_eq!(
            text,
            "MODE      OUT  CGROUP\n\
             redirect  2    /sys/fs/cgroup/kubepods.slice/pod1/app\n\
             shadow    17   /sys/fs/cgroup/a\n"
        );
    }

    #[test]
    fn a_narrow_screen_shortens_paths_from_the_left() {
        let screen = Screen::of_width(40);
        let text = screen.table_of_paths(["MODE", "OUT", "CGROUP"], rows());
        assert_eq!(
            text,
            "MODE      OUT  CGROUP\n\
             redirect  2    …/kubepods.slice/pod1/app\n\
             shadow    17   /sys/fs/cgroup/a\n"
        );
        for line in text.lines() {
            assert!(line.chars().count() <= 40, "{line}");
        }
    }

    #[test]
    fn a_narrow_screen_wraps_the_last_column_only() {
        let screen = Screen::of_width(40);
        let words = "hands the original destination from the client to the proxy";
        let row = ["sock_ops".to_owned(), words.to_owned()];
        let text = screen.table(["PROGRAM", "PURPOSE"], [row]);
        assert!(text.lines().count() > 2, "{text}");
        for line in text.lines().skip(2) {
            assert!(
                line.starts_with("          ") && line.chars().count() <= 40,
                "{text}"
            );
        }
        let fields = screen.fields([("rule", words.to_owned()), ("mode", "short".to_owned())]);
        assert!(
            fields.lines().all(|line| line.chars().count() <= 40),
            "{fields}"
        );
        assert!(fields.ends_with("mode  short\n"), "{fields}");
    }

    #[test]
    fn verdicts_have_colours_on_a_terminal_only() {
        let coloured = Screen {
            width: None,
            is_coloured: true,
        };
        let row = || [["out".to_owned()]];
        assert!(coloured.table(["VERDICT"], row()).contains("\u{1b}["));
        assert!(!Screen::PLAIN.table(["VERDICT"], row()).contains('\u{1b}'));
    }
}
