//! The protection of system calls that a signal interrupts.
#![expect(unsafe_code, reason = "pthread_sigmask has no safe wrapper")]

use std::{io, mem::MaybeUninit, ptr};

use anyhow::{Context as _, Result};

use super::thread::run_in_new_thread;

/// Calls `act` in a new thread that receives no signals; the other threads of this process still
/// receive them.
///
/// The verifier ends with `EAGAIN` as soon as a signal is pending (`do_check`,
/// kernel/bpf/verifier.c), even one that is ignored. An example is the end of a child process that
/// is noticed while some thread is about to start another child. A feature probe that loads a small
/// program would then report that the feature is missing.
pub fn without_signals<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    run_in_new_thread(|| {
        block_all().context("block all signals")?;
        act()
    })
}

/// Blocks all signals for the current thread.
fn block_all() -> io::Result<()> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call writes the set that it gets a pointer to, and cannot fail.
    let _: i32 = unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set was just written; the null pointer means that the old mask is not wanted.
    let status = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), ptr::null_mut()) };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(status))
    }
}
