//! flock and fcntl locks, forwarded to the backing file so that they exclude across mounts.
//!
//! flock(2) belongs to an open file, and each open of a client is one of ours: it is taken on the
//! handle's own descriptor. fcntl(2) locks belong to a process, of which we are one for all: each
//! lock owner gets a descriptor of its own per file, with OFD locks on it. Nothing waits here.
//!
//! What is not carried over: EDEADLK, which the kernel does not find for OFD locks.
//!
//! # Invariants
//! - An owner's descriptor lives from its first lock on a file to the first close it makes of that
//!   file (fcntl(2): any close gives all up), or the end of its mount.
//! - `held` is a copy of what the kernel has, kept for its pids: OFD locks have none.
//! - A lock is given up in so many words before its descriptor is closed: a child that the daemon's
//!   process is just starting has a duplicate until its exec, and would hold the lock till then.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::{Backing, Done, Refusal, Request, done};
use crate::api::{Errno, LockKind, LockRequest, MountId};
use crate::sys::{self, Range};
use crate::wire::{Lock, Writer};

/// Whose lock: file, mount, and what the kernel calls the lock owner there.
type Holder = (u64, MountId, u64);

#[derive(Debug)]
struct Owner {
    file: OwnedFd,
    held: Vec<Held>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    start: u64,
    /// Inclusive.
    end: u64,
    pid: u32,
}

/// All owners of fcntl locks.
#[derive(Debug, Default)]
pub(super) struct Locks {
    owners: BTreeMap<Holder, Owner>,
}

impl Locks {
    /// Gives up what an owner holds of a file; whether there was anything.
    pub(super) fn release(&mut self, node: u64, mount: MountId, owner: u64) -> bool {
        let owner = self.owners.remove(&(node, mount, owner));
        owner.map(|owner| owner.unlock()).is_some()
    }

    pub(super) fn forget_mount(&mut self, mount: MountId) {
        self.owners.retain(|(_, of, _), owner| {
            if *of == mount {
                owner.unlock();
            }
            *of != mount
        });
    }

    /// The process that holds something of `range` other than `asking`.
    fn pid_of(&self, asking: Holder, range: Range) -> Option<u32> {
        let (start, end) = (range.start.cast_unsigned(), range_end(range));
        let others = self.owners.iter().filter(|(key, _)| key.0 == asking.0 && **key != asking);
        let mut held = others.flat_map(|(_, owner)| &owner.held);
        held.find(|held| held.start <= end && start <= held.end).map(|held| held.pid)
    }
}

impl Owner {
    fn unlock(&self) {
        let all = Range { kind: F_UNLCK, start: 0, len: 0 };
        // An unlock of what is locked cannot fail but for want of memory to split a range.
        let _ = sys::ofd_set(self.file.as_fd(), all);
    }

    /// Notes that `start..=end` is now locked by `pid`, or by nobody.
    fn note(&mut self, start: u64, end: u64, pid: Option<u32>) {
        let mut rest = Vec::with_capacity(self.held.len() + 2);
        for held in &self.held {
            if held.start < start {
                rest.push(Held { end: held.end.min(start - 1), ..*held });
            }
            if held.end > end {
                rest.push(Held { start: held.start.max(end + 1), ..*held });
            }
        }
        rest.extend(pid.map(|pid| Held { start, end, pid }));
        self.held = rest;
    }
}

fn range_end(range: Range) -> u64 {
    if range.len == 0 { END } else { (range.start + range.len - 1).cast_unsigned() }
}

#[expect(clippy::cast_possible_truncation, reason = "it is 2")]
const F_UNLCK: libc::c_short = libc::F_UNLCK as libc::c_short;

/// `OFFSET_MAX`: the end of the file, wherever that is.
const END: u64 = i64::MAX.cast_unsigned();

fn range_of(lock: &Lock) -> Result<Range, Errno> {
    let invalid = Errno(libc::EINVAL);
    let kind = i16::try_from(lock.kind).map_err(|_| invalid)?;
    let start = i64::try_from(lock.start).map_err(|_| invalid)?;
    if lock.end < lock.start {
        return Err(invalid);
    }
    let len = if lock.end >= END { 0 } else { (lock.end - lock.start + 1).cast_signed() };
    Ok(Range { kind, start, len })
}

fn kind_of(lock: &Lock) -> LockKind {
    match i32::try_from(lock.kind) {
        Ok(libc::F_RDLCK) => LockKind::Shared,
        Ok(libc::F_WRLCK) => LockKind::Exclusive,
        _ => LockKind::Unlock,
    }
}

/// What a caller is told of a lock request.
pub(super) fn describe(lock: &Lock, wait: bool, query: bool) -> LockRequest {
    let range = if lock.is_flock { (0, END) } else { (lock.start, lock.end) };
    LockRequest { kind: kind_of(lock), wait, query, start: range.0, end: range.1 }
}

impl Backing {
    pub(super) fn set_lock(
        &mut self,
        request: &Request<'_>,
        lock: &Lock,
        wait: bool,
    ) -> Result<Done, Refusal> {
        let node = request.header.node;
        let set = if lock.is_flock { self.flock(lock) } else { self.fcntl_lock(request, lock) };
        match set {
            Ok(()) => Ok(done(node)),
            // fcntl(2) may say either.
            Err(Errno(libc::EAGAIN | libc::EACCES)) if wait => Err(Refusal::MustWait),
            Err(errno) => Err(Refusal::Error(errno)),
        }
    }

    fn flock(&mut self, lock: &Lock) -> Result<(), Errno> {
        let operation = match kind_of(lock) {
            LockKind::Shared => FlockOperation::NonBlockingLockShared,
            LockKind::Exclusive => FlockOperation::NonBlockingLockExclusive,
            LockKind::Unlock => FlockOperation::NonBlockingUnlock,
        };
        let handle = self.handles.get_mut(&lock.handle).ok_or(Errno(libc::EBADF))?;
        handle.has_flock = true;
        Ok(flock(&handle.file, operation)?)
    }

    fn fcntl_lock(&mut self, request: &Request<'_>, lock: &Lock) -> Result<(), Errno> {
        let range = range_of(lock)?;
        let holder = (request.header.node, request.mount, lock.owner);
        let unlocks = kind_of(lock) == LockKind::Unlock;
        if !self.locks.owners.contains_key(&holder) {
            if unlocks {
                return Ok(());
            }
            let file = self.lock_file(request.header.node)?;
            self.locks.owners.insert(holder, Owner { file, held: Vec::new() });
        }
        let owner = self.locks.owners.get_mut(&holder).expect("it was just inserted");
        let set = sys::ofd_set(owner.file.as_fd(), range);
        if set.is_ok() {
            owner.note(lock.start, lock.end.min(END), (!unlocks).then_some(lock.pid));
        }
        if owner.held.is_empty() {
            self.locks.owners.remove(&holder);
        }
        set
    }

    pub(super) fn get_lock(&mut self, request: &Request<'_>, lock: &Lock) -> Result<Done, Refusal> {
        let node = request.header.node;
        let range = range_of(lock)?;
        let holder = (node, request.mount, lock.owner);
        let in_the_way = match self.locks.owners.get(&holder) {
            Some(owner) => sys::ofd_get(owner.file.as_fd(), range)?,
            None => sys::ofd_get(self.lock_file(node)?.as_fd(), range)?,
        };
        let mut body = Writer::default();
        match in_the_way {
            None => {
                let unlocked = libc::F_UNLCK.cast_unsigned();
                body.u64(lock.start).u64(lock.end).u32(unlocked).u32(0);
            }
            Some((found, pid)) => {
                // A lock that somebody set on the backing itself has a pid of its own.
                let known = self.locks.pid_of(holder, found);
                let pid = known.unwrap_or(u32::try_from(pid).unwrap_or(0));
                body.u64(found.start.cast_unsigned()).u64(range_end(found));
                body.u32(u32::try_from(found.kind).unwrap_or(0)).u32(pid);
            }
        }
        Ok(Done { body: body.0, ..done(node) })
    }

    /// A descriptor for locks. Opened by the daemon for itself: the kernel has checked that the
    /// client's own descriptor may take the lock.
    fn lock_file(&self, node: u64) -> Result<OwnedFd, Errno> {
        let file = self.file(node)?;
        // A file on a read-only file system, or a program that runs, can only be read.
        let tries = [OFlags::RDWR, OFlags::RDONLY, OFlags::WRONLY];
        let mut last = Errno(libc::ENOLCK);
        for flags in tries {
            match self.reopen(file, flags | OFlags::NONBLOCK) {
                Ok(file) => return Ok(file),
                Err(errno) => last = errno,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the copy of the ranges is split and cut as the kernel does it.
    #[test]
    fn noted_ranges_are_cut_and_replaced() {
        let file = rustix::fs::memfd_create("ranges", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut owner = Owner { file, held: Vec::new() };
        owner.note(0, END, Some(1));
        owner.note(10, 19, None);
        let held = |start, end, pid| Held { start, end, pid };
        assert_eq!(owner.held, [held(0, 9, 1), held(20, END, 1)]);
        owner.note(5, 24, Some(2));
        assert_eq!(owner.held, [held(0, 4, 1), held(25, END, 1), held(5, 24, 2)]);
        owner.note(0, END, None);
        assert_eq!(owner.held, []);
    }
}
