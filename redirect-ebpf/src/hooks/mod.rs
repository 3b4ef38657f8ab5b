//! The hooks, one file each. Entry points only translate the hook's ABI and contain no unsafe code.

#![expect(
    clippy::needless_pass_by_value,
    reason = "the entry points' attributes pass the context by value"
)]

mod connect;
mod getpeername;
mod getsockname;
mod getsockopt;
mod recvmsg;
mod sendmsg;
mod sk_lookup;
mod sock_ops;
