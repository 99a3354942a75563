//! System calls that no crate offers: a signal handler that does not restart what it interrupts,
//! truncate of a path, and a close that tells its error.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::ffi::CString;
use std::os::fd::{IntoRawFd, OwnedFd};

use rustix::io::Errno;

extern "C" fn nothing(_: libc::c_int) {}

/// SIGUSR1 interrupts whatever waits, and does nothing else.
pub(crate) fn let_sigusr1_interrupt() {
    // SAFETY: all zeros is a valid sigaction: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: `action` is one live sigaction, and its handler touches nothing.
    let done = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(done, 0);
}

/// close(2), with its error.
pub(crate) fn close(file: OwnedFd) -> rustix::io::Result<u64> {
    // SAFETY: the descriptor was owned, and nobody else knows it any more.
    result(unsafe { libc::close(file.into_raw_fd()) })
}

/// truncate(2).
pub(crate) fn truncate(path: &str, len: u64) -> rustix::io::Result<u64> {
    let path = CString::new(path).unwrap();
    // SAFETY: `path` is a live string that ends with a zero.
    result(unsafe { libc::truncate(path.as_ptr(), len.cast_signed()) })
}

fn result(done: libc::c_int) -> rustix::io::Result<u64> {
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap();
    if done == 0 { Ok(0) } else { Err(Errno::from_raw_os_error(errno)) }
}

/// tgkill(2): a signal to one thread.
pub(crate) fn signal_thread(pid: i32, tid: i32, signal: libc::c_int) {
    // SAFETY: plain numbers; the worst that a wrong one does is an error.
    let done = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
    assert_eq!(done, 0);
}
