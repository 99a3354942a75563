//! What the standard library and rustix leave to us for a stand-in of a container.
#![expect(unsafe_code, reason = "seccomp has no safe wrapper, and `pre_exec` is marked unsafe")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the child do this before it executes.
///
/// `prepare` runs in a child of a process with threads: it may make system calls and nothing else,
/// no allocation and no lock.
pub(super) fn before_exec(
    command: &mut Command,
    prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the one caller's closure makes system calls on values that were made before the fork.
    unsafe { command.pre_exec(prepare) };
}

/// Installs a filter on this process and all that come from it.
pub(super) fn load(filter: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    let flags: libc::c_ulong = 0;
    let place = &raw const program;
    // SAFETY: `place` is one live program whose instructions the kernel copies and checks.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, place) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
