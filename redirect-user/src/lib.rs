//! The redirector's user side, as a library: every `redirectctl` command is a thin call into it.
//!
//! ```text
//! config ──► policy ──► bpf ──► node ──► cli ──► bin/redirectctl
//!               ▲        ▲
//! sys ──────────┴────────┘          redirect-common below all of them
//! ```
//!
//! Strings become types in [`config`], types become map rows in [`policy`], rows reach the kernel
//! through [`bpf`], and [`node`] holds the operations. [`rules`] writes types down as iptables
//! rules; [`netfilter`] reads such rules, [`import`] makes types of them, and [`parity`] compares
//! them with a policy. Only [`bpf`] names aya; only [`sys`] makes system calls of its own.

pub mod bpf;
pub mod cli;
pub mod config;
pub mod docs;
pub mod exec;
pub mod import;
pub mod netfilter;
pub mod node;
pub mod parity;
pub mod policy;
pub mod proxy;
pub mod rules;
pub mod sys;
