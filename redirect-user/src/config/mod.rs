//! Strings to types.
