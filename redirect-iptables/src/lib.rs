//! The language of iptables, both ways: a configuration written down as Istio's rules, and rules
//! that are there read, compared and made options of.
//!
//! ```text
//! RedirectConfig ──► rules ──► text for iptables-restore
//!                      ▲
//! iptables-save ──► netfilter ──► import ──► RedirectConfig
//!                      └────────► parity ──► differences from a policy
//! ```
//!
//! Nothing here decides about a connection: [`parity`] asks redirect-common's table, and
//! [`netfilter`] walks the rules as the kernel would.

pub mod import;
pub mod netfilter;
pub mod parity;
pub mod rules;
