//! The only unsafe code of the fuse engine: what a child does between fork and exec.
#![expect(unsafe_code, reason = "std marks `pre_exec` unsafe: the closure runs after fork")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

/// Lets the child die by SIGKILL as soon as the thread that spawns it is gone (prctl(2),
/// `PR_SET_PDEATHSIG`), also if that happens before the child gets this far.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let arm = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A parent outside the child's PID namespace reads as none, and cannot be compared.
        match getppid() {
            Some(now) if now != parent => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            _ => Ok(()),
        }
    };
    // SAFETY: `arm` makes two system calls on values it owns, allocates nothing and takes no
    // lock, so it is async-signal-safe, as a child of a threaded process must be.
    unsafe { command.pre_exec(arm) };
}

/// Runs `prepare` in the child before it executes. Only for a process with a single thread.
///
/// # Panics
/// If this process has more than one thread: the child could then wait for ever for a lock that
/// another thread held at the fork.
pub(crate) fn prepare_child(
    command: &mut Command,
    prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    assert_eq!(threads(), Some(1), "only a process with one thread may prepare a child");
    // SAFETY: the assertion above proves that no other thread can hold a lock at the fork, so the
    // child may allocate and call anything that the parent could.
    unsafe { command.pre_exec(prepare) };
}

/// unshare(2) of namespaces.
///
/// # Panics
/// If `flags` would unshare the descriptor table, which other code may rely on.
pub(crate) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "only namespaces are unshared");
    // SAFETY: the assertion above excludes `CLONE_FILES`, the one flag for which rustix marks the
    // call unsafe.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Kills every process of the run's PID namespace but its init, in one step that no fork escapes
/// (kill(2), pid -1).
///
/// # Panics
/// If this process is not the init of a PID namespace: it would kill what it did not start.
pub(crate) fn kill_everyone() {
    assert!(rustix::process::getpid().is_init(), "only a run's supervisor may kill everyone");
    // SAFETY: kill(2) touches no memory of this process. That nobody outside the run can be hit
    // follows from the assertion: pid 1 sees only the processes of its own namespace.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}
