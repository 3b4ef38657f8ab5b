//! The language of iptables, both ways: a configuration rendered as Istio's rules, and existing rules
//! read, compared, and turned into options.
//!
//! ```text
//! RedirectConfig ──► rules ──► text for iptables-restore
//!                      ▲
//! iptables-save ──► netfilter ──► import ──► RedirectConfig
//!                      └────────► parity ──► differences from a policy
//! ```
//!
//! This crate decides nothing about a connection: [`parity`] asks redirect-common's table, and
//! [`netfilter`] walks the rules as the kernel would.

pub mod import;
pub mod netfilter;
pub mod parity;
pub mod rules;
