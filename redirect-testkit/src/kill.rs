// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program that is killed after a certain number of changes.
//!
//! The program is traced (`ptrace(2)`): its changes are counted over all its threads, and the program is
//! killed as it begins the next one. Between two changes a program only reads, or makes things that end
//! with it. So kills after 0, 1, 2 … changes leave every state that a kill can leave.
#![expect(unsafe_code, reason = "the kernel describes a system call in a union")]

use std::{collections::HashSet, fmt, io::Read as _, process::Stdio, thread};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::command::program;

/// A shell script that stops, so that tracing can begin, and then executes its arguments.
const STOPPED: &str = "kill -STOP $$; exec \"$@\"";

/// System calls that change something which other processes see. Of `bpf`, not every command does.
const CHANGES: &[(libc::c_long, &str)] = &[
    (libc::SYS_bpf, "bpf"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_mkdirat, "mkdir"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_renameat, "rename"),
    (libc::SYS_renameat2, "rename"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, "rmdir"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_unlinkat, "unlink"),
];

/// Commands of `bpf` (enum `bpf_cmd`, include/uapi/linux/bpf.h) that only read, or that make an object which ends
/// with the process unless it is pinned. Every other command counts as a change.
const LEAVE_NOTHING: &[u64] = &[
    0,  // BPF_MAP_CREATE
    1,  // BPF_MAP_LOOKUP_ELEM
    4,  // BPF_MAP_GET_NEXT_KEY
    5,  // BPF_PROG_LOAD
    7,  // BPF_OBJ_GET
    15, // BPF_OBJ_GET_INFO_BY_FD
    18, // BPF_BTF_LOAD
    22, // BPF_MAP_FREEZE
    28, // BPF_LINK_CREATE
];

/// A system call that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The call's name: one name for all variants of a call.
    pub call: &'static str,
    /// The call's first argument.
    pub argument: u64,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}, …)", self.call, self.argument)
    }
}

/// The end of a program that was to be killed.
#[derive(Debug)]
pub enum KillResult {
    /// The program was killed as it began this change.
    Killed(Change),
    /// The program ended by itself, because it makes no more changes than were allowed.
    Exited {
        /// The exit status.
        status: i32,
        /// The standard error.
        stderr: String,
    },
}

/// Runs a command line with nothing but `PATH` in its environment, and kills it when it has made this many
/// changes and begins another. A call that fails is no change.
pub fn kill_after(changes: usize, argv: &[&str]) -> Result<KillResult> {
    // In a thread of its own, because that has no other children to wait for.
    let traced = thread::scope(|scope| scope.spawn(|| trace(changes, argv)).join());
    traced.map_err(|_panic| anyhow!("trace {argv:?}: the tracing thread panicked"))?
}

fn trace(changes: usize, argv: &[&str]) -> Result<KillResult> {
    let mut child = program("sh")
        .args(["-c", STOPPED, "sh"])
        .args(argv)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start a shell")?;
    let pid = Pid::from_raw(child.id().try_into().context("convert the process id")?);
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).context("wait for the shell to stop")?;
    let options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).context("trace the shell")?;
    kill(pid, Signal::SIGCONT).context("continue the shell")?;

    let mut tracer = Tracer {
        pid,
        left: changes,
        begun: HashSet::new(),
        killed_at: None,
    };
    let status = tracer.follow()?;
    let mut stderr = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut stderr)
            .context("read standard error")?;
    }
    match (status, tracer.killed_at) {
        (WaitStatus::Signaled(_, Signal::SIGKILL, _), Some(change)) => {
            Ok(KillResult::Killed(change))
        }
        (WaitStatus::Exited(_, status), _) => Ok(KillResult::Exited { status, stderr }),
        (other, _) => bail!("trace {argv:?}: it ended with {other:?}: {stderr}"),
    }
}

struct Tracer {
    pid: Pid,
    /// The number of changes that the program may still make.
    left: usize,
    /// The threads that are inside a call that changes something.
    begun: HashSet<Pid>,
    killed_at: Option<Change>,
}

impl Tracer {
    /// Traces the program until it has ended.
    fn follow(&mut self) -> Result<WaitStatus> {
        loop {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let status = waitpid(None, Some(flags)).context("wait for the program")?;
            let (thread, signal) = match status {
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    if pid == self.pid {
                        return Ok(status);
                    }
                    continue;
                }
                WaitStatus::PtraceSyscall(thread) => {
                    self.handle(thread)?;
                    (thread, None)
                }
                WaitStatus::PtraceEvent(thread, ..) => (thread, None),
                WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
                WaitStatus::Continued(_) | WaitStatus::StillAlive => continue,
            };
            match ptrace::syscall(thread, signal) {
                // ESRCH: the program was killed.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).context("continue the program"),
            }
        }
    }

    /// Handles a thread that begins or ends a system call.
    fn handle(&mut self, thread: Pid) -> Result<()> {
        let info = match ptrace::syscall_info(thread) {
            Ok(info) => info,
            Err(Errno::ESRCH) => return Ok(()),
            Err(error) => return Err(error).context("get the system call's number"),
        };
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            // SAFETY: at the beginning of a call the kernel has filled this member of the union.
            let entry = unsafe { info.u.entry };
            if let Some(change) = change(entry.nr, entry.args[0]) {
                self.begun.insert(thread);
                if self.left == 0 && self.killed_at.is_none() {
                    self.killed_at = Some(change);
                    kill(self.pid, Signal::SIGKILL).context("kill the program")?;
                }
            }
        } else if info.op == libc::PTRACE_SYSCALL_INFO_EXIT {
            // SAFETY: at the end of a call the kernel has filled this member of the union.
            let exit = unsafe { info.u.exit };
            if self.begun.remove(&thread) && exit.is_error == 0 {
                self.left = self.left.saturating_sub(1);
            }
        }
        Ok(())
    }
}

fn change(number: u64, argument: u64) -> Option<Change> {
    let is = |known: libc::c_long| u64::try_from(known) == Ok(number);
    let (_, call) = CHANGES.iter().find(|(known, _)| is(*known))?;
    let leaves = *call != "bpf" || !LEAVE_NOTHING.contains(&argument);
    leaves.then_some(Change { call, argument })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_program_is_killed_after_a_given_number_of_changes() {
        let folder = std::env::temp_dir().join(format!("redirect-kill-{}", std::process::id()));
        fs::create_dir_all(folder.join("there")).unwrap();
        let name = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let names = ["there", "first", "second"].map(name);
        let [there, first, second] = names.each_ref().map(String::as_str);
        let made = || [first, second].map(|name| fs::exists(name).unwrap());

        // The first call fails, because the folder exists, and does not count.
        let argv = ["mkdir", there, first, second];
        for (changes, left) in [(0, [false, false]), (1, [true, false])] {
            let fate = kill_after(changes, &argv).unwrap();
            assert!(
                matches!(&fate, KillResult::Killed(change) if change.call == "mkdir"),
                "{fate:?}"
            );
            assert_eq!(made(), left, "{changes}");
        }
        fs::remove_dir(first).unwrap();
        let fate = kill_after(2, &argv).unwrap();
        assert!(
            matches!(&fate, KillResult::Exited { status: 1, stderr } if stderr.contains(there)),
            "{fate:?}"
        );
        assert_eq!(made(), [true, true]);
        fs::remove_dir_all(folder).unwrap();
    }
}
