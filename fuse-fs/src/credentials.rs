//! Does backing operations with the rights of whoever asked.
//!
//! The mounts have no `default_permissions`, so it is the backing's kernel that refuses, and it
//! must see the caller: setfsuid(2) changes the user for file access of this one thread and, away
//! from 0, takes the file-system capabilities out of the effective set. Where the daemon is not
//! root (it may have capabilities in a user namespace all the same) they are taken out by hand.
//!
//! What is not carried over: capabilities that a caller that is root has given up, and reserved
//! blocks (`CAP_SYS_RESOURCE` stays with the daemon).
//!
//! # Invariants
//! - What [`Credentials::assume`] changes is changed for the calling thread only, and back when
//!   the guard drops. If it cannot be changed back, this panics: going on would serve one caller
//!   with the rights of another.

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, getegid, geteuid, getgroups};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups,
};
use std::os::fd::BorrowedFd;

use crate::api::{Caller, Errno};
use crate::sys;

/// The capabilities of capabilities(7) that let one pass a permission check on a file.
const FILE_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP);

/// `/proc/TID/status` is about 1.5 kB, plus up to 11 bytes for each group.
const STATUS_BYTES_MAX: usize = 64 << 10;

/// Who the daemon is.
#[derive(Debug)]
pub(crate) struct Credentials {
    uid: u32,
    gid: u32,
    groups: Vec<Gid>,
    has_set_gid: bool,
}

/// When the caller's supplementary groups matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Only where the operation is refused without them. Reading them costs ten operations.
    IfRefused,
    /// Always: the operation succeeds without them too, but differently.
    Always,
}

impl Credentials {
    /// Reads those of the calling thread.
    pub(crate) fn of_daemon() -> Credentials {
        Credentials {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            groups: getgroups().unwrap_or_default(),
            has_set_gid: capabilities(None)
                .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETGID)),
        }
    }

    /// Does `what` with the rights of `caller`. It may be done twice: again with the caller's
    /// supplementary groups where it was refused without them, which means that it had no effect.
    pub(crate) fn act_as<T>(
        &self,
        caller: Caller,
        groups: Groups,
        proc: BorrowedFd<'_>,
        mut what: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if self.is_mighty(caller) {
            let _guard = self.assume(caller, &[]);
            return what();
        }
        if groups == Groups::Always {
            let theirs = groups_of(proc, caller);
            let _guard = self.assume(caller, &theirs);
            return what();
        }
        let first = {
            let _guard = self.assume(caller, &[]);
            what()
        };
        match first {
            Err(Errno(libc::EACCES | libc::EPERM)) => {}
            other => return other,
        }
        let theirs = groups_of(proc, caller);
        if theirs.iter().all(|group| group.as_raw() == caller.gid) {
            return first;
        }
        let _guard = self.assume(caller, &theirs);
        what()
    }

    /// Root passes every check, so its groups do not matter.
    fn is_mighty(&self, caller: Caller) -> bool {
        caller.uid == 0 && self.uid == 0
    }

    fn assume(&self, caller: Caller, groups: &[Gid]) -> Guard<'_> {
        let mut guard = Guard { daemon: self, has_ids: false, has_groups: false, lost: None };
        let is_mighty = self.is_mighty(caller);
        // Groups first and ids last: without CAP_SETGID, which stays, nothing here works anyway.
        if !is_mighty && self.has_set_gid && self.groups != groups {
            guard.has_groups = set_thread_groups(groups).is_ok();
        }
        if caller.uid != self.uid || caller.gid != self.gid {
            sys::setfsgid(caller.gid);
            sys::setfsuid(caller.uid);
            guard.has_ids = true;
        }
        // From 0 to another id the kernel does this itself.
        if !is_mighty && self.uid != 0 {
            guard.lose_capabilities();
        }
        guard
    }
}

/// Puts the daemon's own rights back.
#[must_use]
struct Guard<'a> {
    daemon: &'a Credentials,
    has_ids: bool,
    has_groups: bool,
    lost: Option<CapabilitySets>,
}

impl Guard<'_> {
    fn lose_capabilities(&mut self) {
        let Ok(sets) = capabilities(None) else { return };
        if !sets.effective.intersects(FILE_CAPABILITIES) {
            return;
        }
        let fewer = CapabilitySets { effective: sets.effective - FILE_CAPABILITIES, ..sets };
        if set_capabilities(None, fewer).is_ok() {
            self.lost = Some(sets);
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(sets) = self.lost {
            set_capabilities(None, sets).expect("what is permitted can be made effective again");
        }
        if self.has_ids {
            sys::setfsuid(self.daemon.uid);
            sys::setfsgid(self.daemon.gid);
            // setfsuid(2) does not fail visibly; an impossible id only asks.
            assert_eq!(sys::setfsuid(u32::MAX), self.daemon.uid, "the daemon's own fsuid");
        }
        if self.has_groups {
            set_thread_groups(&self.daemon.groups).expect("groups that were there can be set");
        }
    }
}

/// The supplementary groups of a thread; none if it cannot be found.
fn groups_of(proc: BorrowedFd<'_>, caller: Caller) -> Vec<Gid> {
    let status = read_proc(proc, &format!("{}/status", caller.tid)).unwrap_or_default();
    parse_groups(&status)
}

fn parse_groups(status: &str) -> Vec<Gid> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or("");
    let numbers = line.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
    numbers.map(Gid::from_raw).collect()
}

/// Reads a small file below /proc.
pub(crate) fn read_proc(proc: BorrowedFd<'_>, path: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(proc, path, flags, Mode::empty()).ok()?;
    let mut bytes = Vec::with_capacity(4096);
    while bytes.len() < STATUS_BYTES_MAX {
        bytes.reserve(4096);
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return None,
        }
    }
    // A command line or name in there can be any bytes.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the groups line is found whatever the process calls itself.
    #[test]
    fn groups_are_read_from_their_own_line() {
        let status = "Name:\tGroups: 7\nUmask:\t0022\nGroups:\t4 24 1000 \nVmPeak:\t 1 kB\n";
        let groups: Vec<u32> = parse_groups(status).iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(groups, [4, 24, 1000]);
        assert!(parse_groups("").is_empty());
    }
}
