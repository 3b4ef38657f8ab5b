//! The layout of the maps: names, keys and rows. Padding is explicit and sizes are asserted,
//! because the kernel compares keys byte by byte.

mod cidr;
mod flags;
mod flow;
mod group;
mod ids;
mod kernel;
mod listener;
mod local;
mod maps;
mod meta;
mod owner;
mod pending_queries;
mod policy;
mod policy_record;
mod port;
mod shadow;
mod stand_in;

pub use cidr::{Cidr4Data, Cidr6Data, CidrFlags};
pub use flow::{FlowKey, OrigDst, Role};
pub use group::GroupFlags;
pub use ids::{IDS, IdKey, IdLine, MAX_IDS};
pub use kernel::{KERNEL_FEATURES, KernelFeatures, NETNS_OFFSETS, NetnsOffsets};
pub use listener::{INBOUND_POD, ListenerKey};
pub use local::{LocalFlags, LocalKey};
pub use maps::{
    ABI_VERSION, MAX_CIDRS, MAX_FLOWS, MAX_GROUPS, MAX_INBOUND, MAX_LISTENERS, MAX_LOCALS,
    MAX_NAMESPACES, MAX_POLICIES, MAX_PORTS, MAX_SHADOW_DIFFS, MAX_SHADOW_FLOWS, MAX_STAND_INS,
    MAX_STAND_INS_OF_ONE, MapName,
};
pub use meta::{META, Meta};
pub use owner::{OWNER_OFFSETS, OwnerOffsets};
pub use pending_queries::{DnsPending, PendingQueries};
pub use policy::{
    Hits, INTERFACE_NAME, MAX_INTERFACES, PROXY_IDS, PolicyId, PolicyRow, RowFlags, Serial,
};
pub use policy_record::{Fingerprint, POLICIES, PolicyRecord};
pub use port::{PortFlags, PortKey};
pub use shadow::ShadowDiffKey;
pub use stand_in::{Destination, PER_DESTINATION, StandIn, StandInKey};
