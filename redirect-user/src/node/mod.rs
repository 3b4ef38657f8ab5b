//! The redirector's state on this machine, and what can be done with it.
//!
//! All state is in the kernel and on a BPF file system; nothing here outlives a command. A
//! [`Reader`] shares its lock with other readers; a [`Writer`] is alone.
//!
//! One row per pod is the switch: a pod is attached exactly if its row names a policy. Whatever
//! else exists without such a row was left by a process that was killed, and the next writer
//! collects it ([`Writer::open`]). An error is undone by the same collection.
//!
//! Depends on `bpf`, `policy` and `sys`. Used by `cli`, `exec`, `parity` and redirect-agent.

mod contents;
mod drain;
mod explain;
mod follow;
mod inbound;
mod list;
mod other_layouts;
mod preflight;
mod reader;
mod refresh;
mod resolvers;
mod shadow;
mod uninstall;
mod upgrade;
mod writer;

pub use explain::{Explanation, Question, Step, explain, explain_inbound};
pub use follow::{FollowEvent, FollowEventKind, Scope, follow};
pub use list::PodSummary;
pub use other_layouts::attached_by_others;
pub use preflight::{Warning, check_listeners, check_netns, check_processes};
pub use reader::{Pod, Reader};
pub use refresh::AddressChange;
pub use resolvers::{ResolvConf, find_resolvers};
pub use shadow::{PodShadow, ShadowDiff, ShadowFindings};
pub use uninstall::{Removed, attached_anywhere, uninstall};
pub use upgrade::Upgraded;
pub use writer::{AttachError, Writer};
