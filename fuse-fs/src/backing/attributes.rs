//! Requests about what a file is: its attributes, extended attributes, its file system.

use std::ffi::OsStr;

use rustix::fs::{
    Access, AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags,
    accessat, chmodat, chownat, fstatvfs, ftruncate, utimensat,
};
use rustix::process::{Gid, Uid};

use super::{Backing, Done, Request, done, number};
use crate::api::{Errno, Kind, NewTime, Ruler};
use crate::credentials::Groups;
use crate::wire::{ROOT, SetAttr, Writer, fattr};

/// A time that stays as it is.
pub(super) const OMIT: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };

/// The most that one extended attribute or a list of them has (xattr(7)).
const XATTR_BYTES_MAX: usize = 64 << 10;

pub(super) fn timespec(time: NewTime) -> Timespec {
    match time {
        NewTime::Now => NOW,
        NewTime::At { secs, nanos } => Timespec { tv_sec: secs, tv_nsec: nanos.into() },
    }
}

/// What a SETATTR is. The kernel sends several things in one only where one call does several: a
/// truncate with new times, a chown with a mode. The first of these rows that applies names it.
///
/// | sets | kind |
/// |---|---|
/// | size | truncate |
/// | user or group | chown |
/// | mode | chmod |
/// | atime or mtime | utimes |
/// | nothing (`chown(f, -1, -1)`) | chown |
pub(super) fn kind_of(valid: u32) -> Kind {
    let sets = |bits: u32| valid & bits != 0;
    if sets(fattr::SIZE) {
        Kind::Truncate
    } else if sets(fattr::UID | fattr::GID) {
        Kind::Chown
    } else if sets(fattr::MODE) {
        Kind::Chmod
    } else if sets(fattr::ATIME | fattr::MTIME) {
        Kind::Utimes
    } else {
        Kind::Chown
    }
}

/// The time that a SETATTR sets: `is_set`, `is_now` of its valid bits.
fn new_time((is_set, is_now): (bool, bool), secs: i64, nanos: u32) -> Option<NewTime> {
    match (is_set, is_now) {
        (false, _) => None,
        (true, true) => Some(NewTime::Now),
        (true, false) => Some(NewTime::At { secs, nanos }),
    }
}

pub(super) fn new_mtime(set: &SetAttr) -> Option<NewTime> {
    let bits = (set.valid & fattr::MTIME != 0, set.valid & fattr::MTIME_NOW != 0);
    new_time(bits, set.mtime, set.mtime_nanos)
}

fn new_atime(set: &SetAttr) -> Option<NewTime> {
    let bits = (set.valid & fattr::ATIME != 0, set.valid & fattr::ATIME_NOW != 0);
    new_time(bits, set.atime, set.atime_nanos)
}

pub(super) fn new_owner(set: &SetAttr) -> (Option<u32>, Option<u32>) {
    (
        (set.valid & fattr::UID != 0).then_some(set.uid),
        (set.valid & fattr::GID != 0).then_some(set.gid),
    )
}

impl Backing {
    pub(super) fn get_attr(&self, node: u64, handle: Option<u64>) -> Result<Done, Errno> {
        let _ = handle;
        let mut body = Writer::default();
        body.attributes(&self.stat(node)?);
        Ok(Done { body: body.0, ..done(node) })
    }

    pub(super) fn set_attr(&self, request: &Request<'_>, set: &SetAttr) -> Result<Done, Errno> {
        let node = request.header.node;
        let kind = kind_of(set.valid);
        if kind == Kind::Truncate {
            self.truncate(request, set)?;
        }
        if kind == Kind::Chown {
            self.chown(request, new_owner(set))?;
        }
        if set.valid & fattr::MODE != 0 {
            let (file, mode) = (self.file(node)?, Mode::from_raw_mode(set.mode));
            self.as_caller(request, Groups::Always, || {
                Ok(chmodat(&self.proc_fds, number(file), mode, AtFlags::empty())?)
            })?;
        }
        let times = (new_atime(set), new_mtime(set));
        // With a truncate the backing has marked the times itself.
        if times != (None, None) && kind != Kind::Truncate {
            self.set_times(request, times)?;
        }
        self.get_attr(node, None)
    }

    fn truncate(&self, request: &Request<'_>, set: &SetAttr) -> Result<(), Errno> {
        if set.valid & fattr::FH != 0 {
            let handle = self.handle(set.handle)?;
            return self
                .as_caller(request, Groups::IfRefused, || Ok(ftruncate(&handle.file, set.size)?));
        }
        let file = self.file(request.header.node)?;
        self.as_caller(request, Groups::IfRefused, || {
            let file = self.reopen(file, OFlags::WRONLY | OFlags::NONBLOCK)?;
            Ok(ftruncate(file, set.size)?)
        })
    }

    fn chown(
        &self,
        request: &Request<'_>,
        (user, group): (Option<u32>, Option<u32>),
    ) -> Result<(), Errno> {
        let file = self.file(request.header.node)?;
        let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        self.as_caller(request, Groups::Always, || {
            Ok(chownat(file, c"", user, group, AtFlags::EMPTY_PATH)?)
        })
    }

    fn set_times(
        &self,
        request: &Request<'_>,
        (atime, mtime): (Option<NewTime>, Option<NewTime>),
    ) -> Result<(), Errno> {
        let file = self.file(request.header.node)?;
        let times = Timestamps {
            last_access: atime.map_or(OMIT, timespec),
            last_modification: mtime.map_or(OMIT, timespec),
        };
        self.as_caller(request, Groups::IfRefused, || {
            Ok(utimensat(file, c"", &times, AtFlags::EMPTY_PATH)?)
        })
    }

    pub(super) fn access(&self, request: &Request<'_>, mask: u32) -> Result<Done, Errno> {
        let node = request.header.node;
        let file = self.file(node)?;
        let access = Access::from_bits_truncate(mask);
        // AT_EACCESS: as the file-access ids, which are the caller's, not as the daemon.
        self.as_caller(request, Groups::IfRefused, || {
            Ok(accessat(&self.proc_fds, number(file), access, AtFlags::EACCESS)?)
        })?;
        Ok(done(node))
    }

    pub(super) fn statfs(
        &self,
        request: &Request<'_>,
        ruler: &mut dyn Ruler,
    ) -> Result<Done, Errno> {
        let mut real = fstatvfs(self.file(request.header.node).or_else(|_| self.file(ROOT))?)?;
        if let Some(profile) = ruler.statfs(request.mount) {
            if let Some(bytes) = profile.free_bytes {
                real.f_bfree = bytes / real.f_frsize.max(1);
                real.f_bavail = real.f_bfree;
                real.f_blocks = real.f_blocks.max(real.f_bfree);
            }
            if let Some(inodes) = profile.free_inodes {
                real.f_ffree = inodes;
                real.f_files = real.f_files.max(inodes);
            }
        }
        let mut body = Writer::default();
        body.u64(real.f_blocks).u64(real.f_bfree).u64(real.f_bavail);
        body.u64(real.f_files).u64(real.f_ffree);
        let half = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        body.u32(half(real.f_bsize)).u32(half(real.f_namemax)).u32(half(real.f_frsize));
        body.zeros(28);
        Ok(Done { body: body.0, ..done(request.header.node) })
    }

    /// Extended attributes go through a path: an `O_PATH` descriptor has none (open(2)).
    fn xattr_path(&self, node: u64) -> Result<String, Errno> {
        use std::os::fd::AsRawFd;
        Ok(format!("/proc/self/fd/{}", self.file(node)?.as_raw_fd()))
    }

    pub(super) fn set_xattr(
        &self,
        request: &Request<'_>,
        name: &OsStr,
        value: &[u8],
        flags: u32,
    ) -> Result<Done, Errno> {
        let path = self.xattr_path(request.header.node)?;
        let flags = XattrFlags::from_bits_retain(flags);
        self.as_caller(request, Groups::IfRefused, || {
            Ok(rustix::fs::setxattr(&*path, name, value, flags)?)
        })?;
        Ok(done(request.header.node))
    }

    pub(super) fn get_xattr(
        &self,
        request: &Request<'_>,
        name: &OsStr,
        size: u32,
    ) -> Result<Done, Errno> {
        let path = self.xattr_path(request.header.node)?;
        let value = self.as_caller(request, Groups::IfRefused, || {
            let mut value = Vec::with_capacity(XATTR_BYTES_MAX);
            let buffer = rustix::buffer::spare_capacity(&mut value);
            rustix::fs::getxattr(&*path, name, buffer)?;
            Ok(value)
        })?;
        sized(request.header.node, value, size)
    }

    pub(super) fn list_xattr(&self, request: &Request<'_>, size: u32) -> Result<Done, Errno> {
        let path = self.xattr_path(request.header.node)?;
        let mut list = Vec::with_capacity(XATTR_BYTES_MAX);
        rustix::fs::listxattr(&*path, rustix::buffer::spare_capacity(&mut list))?;
        sized(request.header.node, list, size)
    }

    pub(super) fn remove_xattr(&self, request: &Request<'_>, name: &OsStr) -> Result<Done, Errno> {
        let path = self.xattr_path(request.header.node)?;
        self.as_caller(request, Groups::IfRefused, || Ok(rustix::fs::removexattr(&*path, name)?))?;
        Ok(done(request.header.node))
    }
}

/// A caller that has room for nothing asks for the length.
fn sized(node: u64, value: Vec<u8>, room: u32) -> Result<Done, Errno> {
    let len = u32::try_from(value.len()).expect("bounded by the buffer it was read into");
    if room == 0 {
        let mut body = Writer::default();
        body.u32(len).u32(0);
        return Ok(Done { body: body.0, ..done(node) });
    }
    if len > room {
        return Err(Errno(libc::ERANGE));
    }
    Ok(Done { body: value, count: len.into(), ..done(node) })
}
