//! System calls that rustix does not offer: the file-access ids of a thread, and OFD locks.
//!
//! # Invariants
//! - Nothing here keeps state; [`credentials`](crate::credentials) pairs every change of ids with
//!   its undoing.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::api::Errno;

/// Sets the user as whom this thread accesses files; gives the one before. See setfsuid(2): it
/// fails silently, so a caller that must know asks again with `u32::MAX`, which changes nothing.
pub(crate) fn setfsuid(uid: u32) -> u32 {
    // SAFETY: the argument is a plain number, and the call touches no memory.
    unsafe { libc::setfsuid(uid) }.cast_unsigned()
}

/// Likewise for the group, setfsgid(2).
pub(crate) fn setfsgid(gid: u32) -> u32 {
    // SAFETY: the argument is a plain number, and the call touches no memory.
    unsafe { libc::setfsgid(gid) }.cast_unsigned()
}

/// A range lock: `l_type` of fcntl(2), first byte, length (0: to the end of the file, always).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) kind: libc::c_short,
    pub(crate) start: i64,
    pub(crate) len: i64,
}

impl Range {
    fn to_flock(self) -> libc::flock {
        libc::flock {
            l_type: self.kind,
            l_whence: 0, // SEEK_SET
            l_start: self.start,
            l_len: self.len,
            l_pid: 0, // fcntl(2): must be 0 for an OFD lock
        }
    }
}

/// F_OFD_SETLK of fcntl(2): never waits.
pub(crate) fn ofd_set(file: BorrowedFd<'_>, range: Range) -> Result<(), Errno> {
    let lock = range.to_flock();
    // SAFETY: `file` is an open descriptor; `lock` is one live flock that is only read.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if done == -1 { Err(last_errno()) } else { Ok(()) }
}

/// F_OFD_GETLK of fcntl(2): a lock of somebody else that is in the way, and its pid, which is -1
/// for an OFD lock.
pub(crate) fn ofd_get(file: BorrowedFd<'_>, range: Range) -> Result<Option<(Range, i32)>, Errno> {
    let mut lock = range.to_flock();
    // SAFETY: `file` is an open descriptor; `lock` is one live flock, writable by this call alone.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if done == -1 {
        return Err(last_errno());
    }
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    let found = Range { kind: lock.l_type, start: lock.l_start, len: lock.l_len };
    Ok(Some((found, lock.l_pid)))
}

fn last_errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}
