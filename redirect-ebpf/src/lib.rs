//! Empty on purpose: a library target is what lets redirect-user name this crate as a dependency.
#![no_std]
