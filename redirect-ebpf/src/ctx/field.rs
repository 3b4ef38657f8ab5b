//! Access to single fields of a context, in the sizes that the verifier allows.
//!
//! Every field is read with a volatile load: the compiler may otherwise merge two loads into
//! arithmetic on a context or socket pointer, which the verifier refuses.

use redirect_common::net::BeAddr;

/// `AF_INET`.
pub(super) const AF_INET: u32 = 2;
/// `AF_INET6`.
pub(super) const AF_INET6: u32 = 10;
/// `IPPROTO_TCP`.
pub(super) const IPPROTO_TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub(super) const IPPROTO_UDP: u32 = 17;

/// Reads a field through a raw pointer to it.
macro_rules! get {
    ($base:expr, $($field:tt).+) => {{
        let base = $base;
        // SAFETY: the verifier knows the context's layout and checks the access.
        unsafe { core::ptr::read_volatile(&raw const (*base).$($field).+) }
    }};
}

/// Writes a field through a raw pointer to it.
macro_rules! set {
    ($base:expr, $($field:tt).+, $value:expr) => {{
        let (base, value) = ($base, $value);
        // SAFETY: the verifier knows the context's layout and which fields may be written.
        unsafe { core::ptr::write_volatile(&raw mut (*base).$($field).+, value) }
    }};
}

/// Reads four words one by one: the verifier allows only word-sized access to addresses.
macro_rules! get_words {
    ($base:expr, $field:ident) => {{
        let base = $base;
        // SAFETY: as in `get`; the pointers stay inside the array.
        unsafe {
            let words = (&raw const (*base).$field).cast::<u32>();
            [
                core::ptr::read_volatile(words),
                core::ptr::read_volatile(words.wrapping_add(1)),
                core::ptr::read_volatile(words.wrapping_add(2)),
                core::ptr::read_volatile(words.wrapping_add(3)),
            ]
        }
    }};
}

/// Writes an address word by word: the verifier allows only word-sized access.
macro_rules! set_words {
    ($base:expr, $field:ident, $addr:expr) => {{
        let (base, [a, b, c, d]) = ($base, $addr.words());
        // SAFETY: as in `set`; the pointers stay inside the array.
        unsafe {
            let words = (&raw mut (*base).$field).cast::<u32>();
            core::ptr::write_volatile(words, a);
            core::ptr::write_volatile(words.wrapping_add(1), b);
            core::ptr::write_volatile(words.wrapping_add(2), c);
            core::ptr::write_volatile(words.wrapping_add(3), d);
        }
    }};
}

/// Writes a number over the first word of a field, reads it back, and restores the field.
macro_rules! through_word {
    ($base:expr, $field:ident, $number:expr) => {{
        let (base, number) = ($base, $number);
        // SAFETY: as in `set`; every address begins with a word that may be read and written.
        unsafe {
            let word = (&raw mut (*base).$field).cast::<u32>();
            let saved = core::ptr::read_volatile(word);
            core::ptr::write_volatile(word, number);
            let number = core::ptr::read_volatile(word);
            core::ptr::write_volatile(word, saved);
            number
        }
    }};
}

/// An address of a socket, IPv4 or IPv6 according to the socket's family.
pub(super) const fn address(family: u32, v4: u32, v6: [u32; 4]) -> BeAddr {
    if family == AF_INET {
        BeAddr::from_network4(v4)
    } else {
        BeAddr::from_network6(v6)
    }
}

pub(super) use get;
pub(super) use get_words;
pub(super) use set;
pub(super) use set_words;
pub(super) use through_word;
