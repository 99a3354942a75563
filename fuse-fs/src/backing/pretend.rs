//! Success that is reported and did not happen.
//!
//! What is pretended to be made is a real file without a name: made in a tmpfs that is mounted
//! nowhere, and unlinked there. So its descriptors work, and no look-up finds it. A place that
//! cannot mount takes the backing folder itself, for the moment between the two calls.
//!
//! # Invariants
//! - The backing is as it was before.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, mkdirat, mknodat, openat, statat,
    symlinkat, unlinkat,
};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::files::{open_flags, written};
use super::{Backing, Done, Refusal, Request, done};
use crate::api::{Errno, Ruler};
use crate::wire::{self, Body, ROOT};

/// The name that a nameless file has for a moment. No client sees it: nothing is served then.
const NAME: &str = ".deadbeat-limbo";

/// What is pretended to be made.
enum Thing<'a> {
    Folder { mode: u32 },
    Node { mode: u32, device: u32 },
    Link { target: &'a OsStr },
}

impl Backing {
    /// The answer to a request as if it had been carried out. What changes nothing is carried out.
    pub(crate) fn pretend(
        &mut self,
        request: &Request<'_>,
        ruler: &mut dyn Ruler,
    ) -> Result<Done, Refusal> {
        let node = request.header.node;
        let done = match request.body {
            Body::SetAttr(_) => self.get_attr(node, None),
            Body::MkDir { name, mode } => self.phantom(request, name, &Thing::Folder { mode }),
            Body::MkNod { name, mode, device } => {
                self.phantom(request, name, &Thing::Node { mode, device })
            }
            Body::Symlink { name, target } => self.phantom(request, name, &Thing::Link { target }),
            Body::Create { name, flags, mode } => self.phantom_file(request, name, flags, mode),
            Body::Link { node, .. } => self.entry(request.mount, node, None),
            Body::Open { flags } => self.open(request, flags & !libc::O_TRUNC.cast_unsigned()),
            Body::Write { data, .. } => Ok(written(node, data.len())),
            Body::CopyRange { to, len, .. } => {
                let node = self.handle_of(to).map_or(node, |(node, _)| node);
                Ok(written(node, usize::try_from(len.min(1 << 30)).unwrap_or(0)))
            }
            Body::Unlink { .. }
            | Body::RmDir { .. }
            | Body::Rename { .. }
            | Body::SetLock { .. }
            | Body::Fsync { .. }
            | Body::Fallocate { .. }
            | Body::SetXattr { .. }
            | Body::RemoveXattr { .. } => Ok(done(node)),
            _ => return self.execute(request, ruler),
        };
        done.map_err(Refusal::Error)
    }

    fn phantom(
        &mut self,
        request: &Request<'_>,
        name: &OsStr,
        thing: &Thing<'_>,
    ) -> Result<Done, Errno> {
        let folder = request.header.node;
        // What is there stays in the way, pretended or not.
        if statat(self.file(folder)?, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(Errno(libc::EEXIST));
        }
        let limbo = self.limbo()?;
        match *thing {
            Thing::Folder { mode } => mkdirat(limbo, NAME, Mode::from_raw_mode(mode))?,
            Thing::Node { mode, device } => {
                let kind = FileType::from_raw_mode(mode);
                let bits = Mode::from_raw_mode(mode);
                mknodat(limbo, NAME, kind, bits, wire::decode_device(device))?;
            }
            Thing::Link { target } => symlinkat(target, limbo, NAME)?,
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(limbo, NAME, flags, Mode::empty());
        let is_folder = matches!(thing, Thing::Folder { .. });
        let how = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(limbo, NAME, how)?;
        self.introduce_phantom(request, folder, name, made?)
    }

    fn introduce_phantom(
        &mut self,
        request: &Request<'_>,
        folder: u64,
        name: &OsStr,
        file: OwnedFd,
    ) -> Result<Done, Errno> {
        let (uid, gid) = (request.header.uid, request.header.gid);
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        // Without the right to give files away it is the daemon's, who is then the only user.
        let _ = chownat(&file, c"", owner.0, owner.1, AtFlags::EMPTY_PATH);
        let stat = statat(&file, c"", AtFlags::EMPTY_PATH)?;
        let path = self.nodes.path_below(folder, name);
        let node = self.nodes.intern_phantom(file, &stat, path);
        self.entry(request.mount, node, None)
    }

    fn phantom_file(
        &mut self,
        request: &Request<'_>,
        name: &OsStr,
        flags: u32,
        mode: u32,
    ) -> Result<Done, Errno> {
        let folder = request.header.node;
        if statat(self.file(folder)?, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            // Somebody else has made it meanwhile: nothing is left to pretend but the truncation.
            return self.create(request, name, flags & !libc::O_TRUNC.cast_unsigned(), mode);
        }
        let limbo = self.limbo()?;
        let how = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = openat(limbo, NAME, how, Mode::from_raw_mode(mode))?;
        unlinkat(limbo, NAME, AtFlags::empty())?;
        let path = self.reopen(made.as_fd(), OFlags::PATH)?;
        // By the daemon: a new file's mode says nothing about the descriptor that made it.
        let file = self.reopen(made.as_fd(), open_flags(flags)).unwrap_or(made);
        let entry = self.introduce_phantom(request, folder, name, path)?;
        Ok(self.with_handle(request, entry, file, open_flags(flags)))
    }

    fn limbo(&mut self) -> Result<BorrowedFd<'_>, Errno> {
        if self.limbo.is_none() {
            let made = match mount_limbo() {
                Ok(made) => made,
                Err(_) => rustix::io::fcntl_dupfd_cloexec(self.file(ROOT)?, 0)?,
            };
            self.limbo = Some(made);
        }
        Ok(self.limbo.as_ref().expect("it was just made").as_fd())
    }
}

/// A tmpfs without a mount point: nobody else can reach it, and it goes with its descriptor.
fn mount_limbo() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}
