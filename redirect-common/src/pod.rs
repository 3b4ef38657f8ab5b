//! Asserts of the maps' layout, and aya's `Pod` for every key and row: the only unsafe code of the
//! crate.

use core::mem::offset_of;

use crate::abi::{
    Destination, DnsPending, FlowKey, Hits, IdKey, KernelFeatures, ListenerKey, LocalKey, Meta,
    NetnsOffsets, OrigDst, OwnerOffsets, PolicyRecord, PolicyRow, PortKey, ShadowDiffKey,
    StandInKey,
};

const _: () = {
    assert!(size_of::<PolicyRow>() == 264 && align_of::<PolicyRow>() == 8);
    assert!(offset_of!(PolicyRow, policy) == 8);
    assert!(offset_of!(PolicyRow, out_port) == 20);
    assert!(offset_of!(PolicyRow, proxy_uids) == 32);
    assert!(offset_of!(PolicyRow, source4) == 64);
    assert!(offset_of!(PolicyRow, loopback4) == 96);
    assert!(offset_of!(PolicyRow, interfaces) == 104);
    assert!(offset_of!(PolicyRow, interface_names) == 136);
    assert!(size_of::<Hits>() == 53 * 8);
    assert!(size_of::<PortKey>() == 4);
    assert!(size_of::<PolicyRecord>() == 60);
    assert!(size_of::<IdKey>() == 12);
    assert!(size_of::<LocalKey>() == 24);
    assert!(size_of::<ListenerKey>() == 16);
    assert!(offset_of!(ListenerKey, reserved) == 12);
    assert!(size_of::<StandInKey>() == 16);
    assert!(offset_of!(StandInKey, reserved) == 12);
    assert!(size_of::<Destination>() == 8);
    assert!(size_of::<FlowKey>() == 48);
    assert!(offset_of!(FlowKey, reserved) == 44);
    assert!(size_of::<OrigDst>() == 28);
    assert!(size_of::<DnsPending>() == 2 * (8 * 16 + 16));
    assert!(size_of::<OwnerOffsets>() == 20);
    assert!(size_of::<NetnsOffsets>() == 8);
    assert!(size_of::<KernelFeatures>() == 4);
    assert!(size_of::<ShadowDiffKey>() == 28);
    assert!(size_of::<Meta>() == 32);
};

#[cfg(feature = "user")]
mod user {
    #![expect(unsafe_code, reason = "aya::Pod is an unsafe marker trait")]

    use aya::Pod;

    use crate::abi::{
        CidrFlags, Destination, Fingerprint, FlowKey, GroupFlags, Hits, IdKey, KernelFeatures,
        ListenerKey, LocalFlags, LocalKey, Meta, NetnsOffsets, OrigDst, OwnerOffsets, PolicyId,
        PolicyRecord, PolicyRow, PortFlags, PortKey, ShadowDiffKey, StandInKey,
    };

    // SAFETY: `repr(transparent)` over an integer: no padding, every bit pattern is valid.
    unsafe impl Pod for CidrFlags {}
    // SAFETY: as above.
    unsafe impl Pod for PortFlags {}
    // SAFETY: as above.
    unsafe impl Pod for GroupFlags {}
    // SAFETY: as above.
    unsafe impl Pod for LocalFlags {}
    // SAFETY: as above.
    unsafe impl Pod for KernelFeatures {}
    // SAFETY: as above.
    unsafe impl Pod for PolicyId {}
    // SAFETY: `repr(transparent)` over bytes: no padding, every bit pattern is valid.
    unsafe impl Pod for Fingerprint {}
    // SAFETY: `repr(C)` of integers whose sizes add up to the asserted size: no padding.
    unsafe impl Pod for PolicyRow {}
    // SAFETY: as above.
    unsafe impl Pod for Hits {}
    // SAFETY: as above.
    unsafe impl Pod for Destination {}
    // SAFETY: as above.
    unsafe impl Pod for StandInKey {}
    // SAFETY: as above.
    unsafe impl Pod for PortKey {}
    // SAFETY: as above.
    unsafe impl Pod for PolicyRecord {}
    // SAFETY: as above.
    unsafe impl Pod for IdKey {}
    // SAFETY: as above.
    unsafe impl Pod for LocalKey {}
    // SAFETY: as above.
    unsafe impl Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl Pod for ShadowDiffKey {}
    // SAFETY: as above.
    unsafe impl Pod for ListenerKey {}
    // SAFETY: as above.
    unsafe impl Pod for OrigDst {}
    // SAFETY: as above.
    unsafe impl Pod for OwnerOffsets {}
    // SAFETY: as above.
    unsafe impl Pod for NetnsOffsets {}
    // SAFETY: as above.
    unsafe impl Pod for Meta {}
}
