//! The redirector's state on this machine, and the operations on it.
//!
//! All state is in the kernel and on a BPF file system; none of it is in a process. A [`Writer`]
//! holds the lock of the state directory. A [`Reader`] needs none: see [`Reader::read`].
//!
//! A pod is attached exactly if its row names a policy. Everything else that exists without such a
//! row was left by a process that was killed, and the next writer removes it ([`Writer::open`]). A
//! failed change is undone in the same way.

mod ancestors;
mod contents;
mod drain;
mod explain;
mod follow;
mod health;
mod inbound;
mod layout_folders;
mod list;
mod other_layouts;
mod preflight;
mod range_edit;
mod reader;
mod reading;
mod recovery;
mod refresh;
mod repair;
mod resolvers;
mod shadow;
mod uninstall;
mod upgrade;
mod writer;

pub use ancestors::Conflict;
pub use explain::{Explanation, Question, Step, explain, explain_inbound};
pub use follow::{FollowEvent, FollowEventKind, Scope, follow};
pub use health::{Fault, ForeignProgram, Health, MissingProgram, missing_text};
pub use layout_folders::attached_by_others;
pub use list::PodSummary;
pub use preflight::{Warning, check_listeners, check_netns, check_processes};
pub use reader::{Pod, Reader};
pub use refresh::AddressChange;
pub use resolvers::{ResolvConf, find_resolvers};
pub use shadow::{PodShadow, ShadowDiff, ShadowFindings};
pub use uninstall::{Removed, attached_anywhere, uninstall};
pub use upgrade::{FailedUpgrade, Upgraded};
pub use writer::{AttachError, Writer};
