//! The redirector's user side, as a library: every `redirectctl` command is a thin call into it.
//!
//! Strings become types in [`config`], types become map rows in `policy`, rows reach the kernel in
//! `bpf`. Only `bpf` names aya; only `sys` makes system calls of its own.

pub mod config;
pub mod proxy;
