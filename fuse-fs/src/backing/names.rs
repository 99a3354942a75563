//! Requests that look names up, make, remove and move them.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, linkat, mkdirat, mknodat, openat, readlinkat,
    renameat_with, statat, symlinkat, unlinkat,
};

use super::{Backing, Done, Request, done, number};
use crate::api::{Errno, Ruler};
use crate::credentials::Groups;
use crate::nodes::key_of;
use crate::wire::{self, ROOT};

impl Backing {
    pub(super) fn lookup(
        &mut self,
        request: &Request<'_>,
        name: &OsStr,
        ruler: &mut dyn Ruler,
    ) -> Result<Done, Errno> {
        let folder = request.header.node;
        if folder == ROOT && ruler.hidden(name) {
            return Err(Errno(libc::ENOENT));
        }
        let node = self.find_name(request, folder, name);
        match node {
            Ok(node) => {
                self.recent.looked_up(request, node);
                self.entry(request.mount, node, Some((folder, name)))
            }
            Err(errno) => {
                if errno.0 == libc::ENOENT {
                    self.nodes.remove_name(folder, name);
                }
                Err(errno)
            }
        }
    }

    /// Looks a name up on the backing, with the rights of the caller.
    fn find_name(
        &mut self,
        request: &Request<'_>,
        folder: u64,
        name: &OsStr,
    ) -> Result<u64, Errno> {
        let parent = self.file(folder)?;
        // Cheaper than an open, and enough for a file that is known already.
        let stat = self.as_caller(request, Groups::IfRefused, || {
            Ok(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
        })?;
        let node = match self.nodes.find(key_of(&stat)) {
            Some(node) => node,
            None => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                // That the caller may do this was decided above.
                let file = openat(parent, name, flags, Mode::empty())?;
                let stat = statat(&file, c"", AtFlags::EMPTY_PATH)?;
                self.nodes.intern(file, &stat)
            }
        };
        self.nodes.name_is(folder, name, node);
        Ok(node)
    }

    /// Introduces what was just made under a name.
    fn made(&mut self, request: &Request<'_>, folder: u64, name: &OsStr) -> Result<Done, Errno> {
        let node = self.find_name(request, folder, name)?;
        self.entry(request.mount, node, Some((folder, name)))
    }

    pub(super) fn symlink(
        &mut self,
        request: &Request<'_>,
        name: &OsStr,
        target: &OsStr,
    ) -> Result<Done, Errno> {
        let folder = request.header.node;
        let parent = self.file(folder)?;
        self.as_caller(request, Groups::IfRefused, || Ok(symlinkat(target, parent, name)?))?;
        self.made(request, folder, name)
    }

    pub(super) fn mknod(
        &mut self,
        request: &Request<'_>,
        name: &OsStr,
        mode: u32,
        device: u32,
    ) -> Result<Done, Errno> {
        let folder = request.header.node;
        let parent = self.file(folder)?;
        let (kind, bits) = (FileType::from_raw_mode(mode), Mode::from_raw_mode(mode));
        let device = wire::decode_device(device);
        self.as_caller(request, groups_for(mode), || {
            Ok(mknodat(parent, name, kind, bits, device)?)
        })?;
        self.made(request, folder, name)
    }

    pub(super) fn mkdir(
        &mut self,
        request: &Request<'_>,
        name: &OsStr,
        mode: u32,
    ) -> Result<Done, Errno> {
        let folder = request.header.node;
        let parent = self.file(folder)?;
        let bits = Mode::from_raw_mode(mode);
        self.as_caller(request, groups_for(mode), || Ok(mkdirat(parent, name, bits)?))?;
        self.made(request, folder, name)
    }

    pub(super) fn unlink(
        &mut self,
        request: &Request<'_>,
        name: &OsStr,
        flags: AtFlags,
    ) -> Result<Done, Errno> {
        let folder = request.header.node;
        let node = self.nodes.child(folder, name);
        let parent = self.file(folder)?;
        self.as_caller(request, Groups::IfRefused, || Ok(unlinkat(parent, name, flags)?))?;
        self.nodes.remove_name(folder, name);
        Ok(Done { node, ..Done::default() })
    }

    pub(super) fn rename(
        &mut self,
        request: &Request<'_>,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        flags: u32,
    ) -> Result<Done, Errno> {
        let (old, new) = (self.file(from.0)?, self.file(to.0)?);
        let flags = RenameFlags::from_bits_retain(flags);
        self.as_caller(request, Groups::IfRefused, || {
            Ok(renameat_with(old, from.1, new, to.1, flags)?)
        })?;
        if flags.contains(RenameFlags::EXCHANGE) {
            self.nodes.exchanged(from, to);
        } else {
            self.nodes.renamed(from, to);
        }
        Ok(Done { node: self.nodes.child(to.0, to.1), ..Done::default() })
    }

    pub(super) fn link(
        &mut self,
        request: &Request<'_>,
        node: u64,
        name: &OsStr,
    ) -> Result<Done, Errno> {
        let folder = request.header.node;
        let (old, new) = (self.file(node)?, self.file(folder)?);
        // Not AT_EMPTY_PATH, which wants CAP_DAC_READ_SEARCH (linkat(2)).
        self.as_caller(request, Groups::IfRefused, || {
            let proc = self.proc_fds.as_fd();
            Ok(linkat(proc, number(old), new, name, AtFlags::SYMLINK_FOLLOW)?)
        })?;
        self.nodes.name_is(folder, name, node);
        self.entry(request.mount, node, Some((folder, name)))
    }

    pub(super) fn read_link(&self, node: u64) -> Result<Done, Errno> {
        let text = readlinkat(self.file(node)?, c"", Vec::new())?;
        Ok(Done { body: text.into_bytes(), ..done(node) })
    }
}

/// A set-group-id bit stays only if the caller is in the group, without an error if it is not.
pub(super) fn groups_for(mode: u32) -> Groups {
    if mode & libc::S_ISGID != 0 { Groups::Always } else { Groups::IfRefused }
}
