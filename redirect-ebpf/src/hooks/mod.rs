//! One file per hook. Entry points only translate the hook's ABI; no unsafe.

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
