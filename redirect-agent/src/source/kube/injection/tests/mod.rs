//! Which pods are ours, and how they are redirected: tables.
#![expect(clippy::too_many_lines, reason = "a table is as long as it is")]

mod fixtures;
mod gates;
mod policy;
