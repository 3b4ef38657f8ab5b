//! The BPF object: one program per hook, without logic in the entry points.
#![no_std]
#![no_main]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::integer_division,
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_arithmetic
)]

mod ctx;
mod decision;
mod hooks;
mod kernel;
mod listener;
mod log;
mod maps;
mod owner;
mod shadow;
mod source_addr;
mod storage;

/// The kernel lets only GPL-compatible programs read kernel memory.
#[expect(unsafe_code, reason = "a section name is an unsafe attribute")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
const fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
