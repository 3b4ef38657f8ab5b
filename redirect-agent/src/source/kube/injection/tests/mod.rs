//! Tables of pods and decisions.
#![expect(clippy::too_many_lines, reason = "a table is as long as it is")]

mod fixtures;
mod gates;
mod policy;
