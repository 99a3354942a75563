//! Requests that open files and folders, and those that come through a descriptor.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::{
    Access, AtFlags, FallocateFlags, Mode, OFlags, RawDir, SeekFrom, accessat, copy_file_range,
    fallocate, fdatasync, fsync, openat, seek, statat,
};

use super::names::groups_for;
use super::{Backing, Done, Entry, Request, SYNTHETIC_INO, done, number};
use crate::api::{Errno, Ruler};
use crate::credentials::Groups;
use crate::nodes::key_of;
use crate::wire::{FOPEN_DIRECT_IO, PAYLOAD_MAX, ROOT, Writer};

/// Flags of open(2) that mean something on the backing. Not `O_DIRECT`: it would need aligned
/// buffers, which the client's need not be by the time they come here.
const OPEN_FLAGS: OFlags = OFlags::ACCMODE
    .union(OFlags::APPEND)
    .union(OFlags::TRUNC)
    .union(OFlags::SYNC)
    .union(OFlags::DSYNC)
    .union(OFlags::NOATIME);
/// `__FMODE_EXEC`: the kernel opens a program to run it, for which reading it is not needed.
const FOR_EXEC: u32 = 0x20;

pub(super) fn open_flags(flags: u32) -> OFlags {
    OFlags::from_bits_retain(flags) & OPEN_FLAGS
}

impl Backing {
    pub(super) fn open(&mut self, request: &Request<'_>, flags: u32) -> Result<Done, Errno> {
        let node = request.header.node;
        let file = self.file(node)?;
        let wanted = open_flags(flags);
        let opened = if flags & FOR_EXEC == 0 {
            self.as_caller(request, Groups::IfRefused, || self.reopen(file, wanted))?
        } else {
            self.as_caller(request, Groups::IfRefused, || {
                Ok(accessat(&self.proc_fds, number(file), Access::EXEC_OK, AtFlags::EACCESS)?)
            })?;
            self.reopen(file, wanted)?
        };
        let handle = self.add_handle(request.mount, node, opened, wanted);
        let mut body = Writer::default();
        body.opened(handle, FOPEN_DIRECT_IO);
        Ok(Done { body: body.0, handle: Some(handle), ..done(node) })
    }

    pub(super) fn create(
        &mut self,
        request: &Request<'_>,
        name: &OsStr,
        flags: u32,
        mode: u32,
    ) -> Result<Done, Errno> {
        let folder = request.header.node;
        let parent = self.file(folder)?;
        let wanted = open_flags(flags);
        let exclusive = OFlags::from_bits_retain(flags) & OFlags::EXCL;
        let how = wanted | exclusive | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let bits = Mode::from_raw_mode(mode);
        let made =
            self.as_caller(request, groups_for(mode), || Ok(openat(parent, name, how, bits)?));
        // A link was put there since the kernel looked: ESTALE makes it look again.
        let made = made.map_err(|errno| match errno.0 {
            libc::ELOOP => Errno(libc::ESTALE),
            _ => errno,
        })?;
        let stat = rustix::fs::fstat(&made)?;
        let node = match self.nodes.find(key_of(&stat)) {
            Some(node) => node,
            None => {
                let path = self.reopen(made.as_fd(), OFlags::PATH)?;
                self.nodes.intern(path, &stat)
            }
        };
        self.nodes.name_is(folder, name, node);
        let entry = self.entry(request.mount, node, Some((folder, name)))?;
        Ok(self.with_handle(request, entry, made, wanted))
    }

    /// A reply that introduces a file and gives a handle of it.
    pub(super) fn with_handle(
        &mut self,
        request: &Request<'_>,
        entry: Done,
        file: std::os::fd::OwnedFd,
        flags: OFlags,
    ) -> Done {
        let node = entry.node.expect("an entry has a node");
        let handle = self.add_handle(request.mount, node, file, flags);
        let mut body = Writer(entry.body);
        body.opened(handle, FOPEN_DIRECT_IO);
        Done { body: body.0, handle: Some(handle), ..entry }
    }

    pub(super) fn read(&self, handle: u64, offset: u64, size: u32) -> Result<Done, Errno> {
        let handle = self.handle(handle)?;
        let size = usize::try_from(size).unwrap_or(PAYLOAD_MAX).min(PAYLOAD_MAX);
        let mut body = Vec::with_capacity(size);
        let count =
            rustix::io::pread(&handle.file, rustix::buffer::spare_capacity(&mut body), offset)?;
        Ok(Done { body, count: count as u64, ..done(handle.node) })
    }

    pub(super) fn write(
        &self,
        request: &Request<'_>,
        handle: u64,
        offset: u64,
        data: &[u8],
        is_writeback: bool,
    ) -> Result<Done, Errno> {
        let handle = self.handle(handle)?;
        let count = if is_writeback && handle.flags.contains(OFlags::APPEND) {
            // A mapped page belongs where it was, and pwrite(2) on such a descriptor appends.
            let file = self.reopen(self.file(handle.node)?, OFlags::WRONLY)?;
            rustix::io::pwrite(file, data, offset)?
        } else {
            // As the caller: the backing takes set-user-id bits off if it must.
            self.as_caller(request, Groups::IfRefused, || {
                Ok(rustix::io::pwrite(&handle.file, data, offset)?)
            })?
        };
        Ok(written(handle.node, count))
    }

    pub(super) fn fsync(&self, handle: u64, is_data: bool) -> Result<Done, Errno> {
        let handle = self.handle(handle)?;
        let synced = if is_data { fdatasync(&handle.file) } else { fsync(&handle.file) };
        synced?;
        Ok(done(handle.node))
    }

    pub(super) fn open_folder(&mut self, request: &Request<'_>) -> Result<Done, Errno> {
        let node = request.header.node;
        let file = self.file(node)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.as_caller(request, Groups::IfRefused, || self.reopen(file, flags))?;
        let handle = self.add_handle(request.mount, node, opened, flags);
        let mut body = Writer::default();
        body.opened(handle, 0);
        Ok(Done { body: body.0, handle: Some(handle), ..done(node) })
    }

    /// Gives entries from `offset`, which counts them. The folder is read whole at its start, so
    /// that a client that removes what it lists misses nothing.
    pub(super) fn read_folder(
        &mut self,
        handle: u64,
        offset: u64,
        size: u32,
        ruler: &mut dyn Ruler,
    ) -> Result<Done, Errno> {
        if offset == 0 {
            let listing = self.list(handle, ruler)?;
            self.handles.get_mut(&handle).expect("it was just listed").listing = listing;
        }
        let handle = self.handle(handle)?;
        let max = usize::try_from(size).unwrap_or(PAYLOAD_MAX).min(PAYLOAD_MAX);
        let mut body = Writer::default();
        let first = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, entry) in handle.listing.iter().enumerate().skip(first) {
            if !body.dirent(max, (entry.ino, index as u64 + 1, entry.kind), &entry.name) {
                break;
            }
        }
        Ok(Done { body: body.0, ..done(handle.node) })
    }

    fn list(&self, handle: u64, ruler: &mut dyn Ruler) -> Result<Vec<Entry>, Errno> {
        let handle = self.handle(handle)?;
        let is_root = handle.node == ROOT;
        let synthetic = self.options.synthetic.as_deref().filter(|_| is_root);
        let mut listing = Vec::new();
        seek(&handle.file, SeekFrom::Start(0))?;
        let mut buffer = Vec::with_capacity(32 << 10);
        let mut entries = RawDir::new(&handle.file, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            use std::os::unix::ffi::OsStrExt;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if is_root && (ruler.hidden(name) || Some(name) == synthetic) {
                continue;
            }
            let kind = entry.file_type().as_raw_mode() >> 12;
            listing.push(Entry { ino: entry.ino(), kind, name: name.to_owned() });
        }
        if let Some(name) = synthetic {
            let kind = libc::S_IFREG >> 12;
            listing.push(Entry { ino: SYNTHETIC_INO, kind, name: name.to_owned() });
        }
        Ok(listing)
    }

    pub(super) fn fallocate(
        &self,
        request: &Request<'_>,
        handle: u64,
        offset: u64,
        len: u64,
        mode: u32,
    ) -> Result<Done, Errno> {
        let handle = self.handle(handle)?;
        let mode = FallocateFlags::from_bits_retain(mode);
        self.as_caller(request, Groups::IfRefused, || {
            Ok(fallocate(&handle.file, mode, offset, len)?)
        })?;
        Ok(done(handle.node))
    }

    pub(super) fn copy_range(
        &self,
        (from, mut offset): (u64, u64),
        (to, mut to_offset): (u64, u64),
        len: u64,
    ) -> Result<Done, Errno> {
        let (from, to) = (self.handle(from)?, self.handle(to)?);
        // One reply tells 32 bits of length.
        let len = usize::try_from(len.min(1 << 30)).unwrap_or(PAYLOAD_MAX);
        let count =
            copy_file_range(&from.file, Some(&mut offset), &to.file, Some(&mut to_offset), len)?;
        Ok(written(to.node, count))
    }

    pub(super) fn seek(&self, handle: u64, offset: u64, whence: u32) -> Result<Done, Errno> {
        let handle = self.handle(handle)?;
        let from = match i32::try_from(whence) {
            Ok(libc::SEEK_DATA) => SeekFrom::Data(offset),
            Ok(libc::SEEK_HOLE) => SeekFrom::Hole(offset),
            Ok(libc::SEEK_SET) => SeekFrom::Start(offset),
            Ok(libc::SEEK_END) => SeekFrom::End(offset.cast_signed()),
            _ => return Err(Errno(libc::EINVAL)),
        };
        let mut body = Writer::default();
        body.u64(seek(&handle.file, from)?);
        Ok(Done { body: body.0, ..done(handle.node) })
    }

    /// The size of an open file, and whether it only appends.
    pub(super) fn size_of(&self, handle: u64) -> Option<(u64, bool)> {
        let handle = self.handles.get(&handle)?;
        let stat = statat(&handle.file, c"", AtFlags::EMPTY_PATH).ok()?;
        Some((stat.st_size.cast_unsigned(), handle.flags.contains(OFlags::APPEND)))
    }

    /// The file and flags of a handle.
    pub(super) fn handle_of(&self, handle: u64) -> Option<(u64, OFlags)> {
        self.handles.get(&handle).map(|handle| (handle.node, handle.flags))
    }
}

/// The reply to a write.
pub(super) fn written(node: u64, count: usize) -> Done {
    let mut body = Writer::default();
    body.u32(u32::try_from(count).expect("a write is at most a payload")).u32(0);
    Done { body: body.0, count: count as u64, ..done(node) }
}
