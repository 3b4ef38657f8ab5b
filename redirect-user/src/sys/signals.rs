//! Keeping signals away from calls that give up when one comes in.
#![expect(unsafe_code, reason = "pthread_sigmask has no safe wrapper")]

use std::{io, mem::MaybeUninit, ptr};

use anyhow::{Context as _, Result};

use super::thread::apart;

/// Does something in a thread of its own that takes no signals; the others of this process still do.
///
/// The verifier ends with `EAGAIN` as soon as a signal is pending (`do_check`,
/// kernel/bpf/verifier.c), even one that is ignored: a child's end that was noticed while some thread
/// was about to start another. A question to the kernel by loading a small program is answered no.
pub fn undisturbed<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    apart(|| {
        block_all().context("block all signals")?;
        act()
    })
}

/// From the current thread.
fn block_all() -> io::Result<()> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call writes the set that it gets a pointer to, and cannot fail.
    let _: i32 = unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set was just written; a null pointer for the old mask means that it is not wanted.
    let status = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), ptr::null_mut()) };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(status))
    }
}
