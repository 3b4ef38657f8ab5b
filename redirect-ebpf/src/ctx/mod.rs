//! Safe accessors to the contexts of the hooks, one file per kind of context.

mod field;
mod netns;
mod sk_lookup;
mod sock_addr;
mod sock_ops;
mod sockaddr_in;
mod sockopt;

pub(crate) use self::{
    sk_lookup::SkLookup,
    sock_addr::{Family, SockAddr},
    sock_ops::SockOps,
    sockaddr_in::{SockAddrIn, SockAddrIn6},
    sockopt::SockOpt,
};
