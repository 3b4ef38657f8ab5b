//! One file per hook. Entry points only translate the hook's ABI; no unsafe.

mod connect;
mod getpeername;
mod getsockname;
mod getsockopt;
mod sock_ops;
