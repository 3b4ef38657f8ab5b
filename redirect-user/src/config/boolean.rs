//! Booleans as text.

/// Parses the spellings of Go's `strconv.ParseBool`; `None` for every other text.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// The text of a switch.
pub(crate) const fn bool_text(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}
