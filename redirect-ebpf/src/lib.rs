//! This library is empty on purpose: only because it exists can redirect-user name the crate as a
//! dependency.
#![no_std]
