//! The library that every user-space program stands on: from options to attached programs and the live maps.
//!
//! ```text
//! config ──► policy ──► bpf ──► node ──► redirectctl, redirect-agent
//!               ▲        ▲
//! sys ──────────┴────────┘              redirect-common below all of them
//! ```
//!
//! Strings become types in [`config`], types become map rows in [`policy`], rows reach the kernel
//! through [`bpf`], and [`node`] holds the operations. [`console`] is how programs read their
//! surroundings and print. Only [`bpf`] names aya; only [`sys`] makes system calls of its own.

pub mod bpf;
pub mod config;
pub mod console;
pub mod node;
pub mod policy;
pub mod sys;
