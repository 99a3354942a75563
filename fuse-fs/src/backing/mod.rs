//! Carries requests out on the backing folder, with the caller's rights.
//!
//! One function for each request; which of them runs, and what the client is told, is decided in
//! [`server`](crate::server). Nothing here waits: a lock that is taken says so.
//!
//! # Invariants
//! - The backing is reached through its own descriptors only, never through a mount: a daemon that
//!   waits for itself cannot be killed.
//! - Files are opened again through `/proc/self/fd`, whose links lead to the file itself whatever
//!   its name is now (proc_pid_fd(5)).
//! - The process's umask is 0; the kernel applies the client's before it asks.

mod attributes;
mod describe;
mod files;
mod locks;
mod names;
mod pretend;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat, flock, openat, statat};

use crate::api::{Caller, Errno, MountId, Options, Ruler, Ruling};
use crate::credentials::{Credentials, Groups};
use crate::nodes::Nodes;
use crate::wire::{Body, Header, Writer};

use self::locks::Locks;

/// The number of the synthetic file, on every mount.
pub(crate) const SYNTHETIC: u64 = 2;
/// Its inode number: one that no file system counts up to.
pub(crate) const SYNTHETIC_INO: u64 = 1 << 62;

/// What the client gets from a request that was carried out.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The body of the reply.
    pub(crate) body: Vec<u8>,
    /// Bytes read, written or copied.
    pub(crate) count: u64,
    /// The target.
    pub(crate) node: Option<u64>,
    /// The kernel counts one more lookup of `node` when it gets the reply.
    pub(crate) counts_lookup: bool,
    /// The kernel gives this handle back when it has got the reply.
    pub(crate) handle: Option<u64>,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It failed.
    Error(Errno),
    /// Somebody has the lock that it waits for.
    MustWait,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal::Error(errno)
    }
}

impl From<rustix::io::Errno> for Refusal {
    fn from(errno: rustix::io::Errno) -> Refusal {
        Refusal::Error(errno.into())
    }
}

/// One request, and who sent it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) mount: MountId,
    pub(crate) header: Header,
    pub(crate) body: Body<'a>,
}

impl Request<'_> {
    pub(crate) fn caller(&self) -> Caller {
        Caller { tid: self.header.pid, uid: self.header.uid, gid: self.header.gid }
    }
}

/// An open file or folder.
#[derive(Debug)]
struct Handle {
    node: u64,
    mount: MountId,
    file: OwnedFd,
    flags: OFlags,
    /// A flock was asked for on it.
    has_flock: bool,
    /// What a folder held when it was read from the start.
    listing: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    ino: u64,
    kind: u32,
    name: OsString,
}

/// The backing folder, and what clients have open of it.
#[derive(Debug)]
pub(crate) struct Backing {
    pub(crate) nodes: Nodes,
    pub(crate) options: Options,
    handles: BTreeMap<u64, Handle>,
    next_handle: u64,
    locks: Locks,
    credentials: Credentials,
    pub(crate) proc: OwnedFd,
    proc_fds: OwnedFd,
    /// Where nameless files are made; see [`pretend`].
    limbo: Option<OwnedFd>,
    recent: describe::Recent,
}

impl Backing {
    pub(crate) fn new(folder: &OwnedFd, options: Options) -> io::Result<Backing> {
        rustix::process::umask(Mode::empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(folder, c".", flags, Mode::empty())?;
        let stat = statat(&root, c"", AtFlags::EMPTY_PATH)?;
        let proc = openat(CWD, c"/proc", flags, Mode::empty())?;
        let proc_fds = openat(CWD, c"/proc/self/fd", flags, Mode::empty())?;
        Ok(Backing {
            nodes: Nodes::new(root, &stat, SYNTHETIC + 1),
            options,
            handles: BTreeMap::new(),
            next_handle: 1,
            locks: Locks::default(),
            credentials: Credentials::of_daemon(),
            proc,
            proc_fds,
            limbo: None,
            recent: describe::Recent::default(),
        })
    }

    /// Carries a request out.
    pub(crate) fn execute(
        &mut self,
        request: &Request<'_>,
        ruler: &mut dyn Ruler,
    ) -> Result<Done, Refusal> {
        let Header { node, .. } = request.header;
        let done = match request.body {
            Body::Lookup { name } => self.lookup(request, name, ruler),
            Body::GetAttr { handle } => self.get_attr(node, handle),
            Body::SetAttr(set) => self.set_attr(request, &set),
            Body::Access { mask } => self.access(request, mask),
            Body::ReadLink => self.read_link(node),
            Body::Symlink { name, target } => self.symlink(request, name, target),
            Body::MkNod { mode, device, name } => self.mknod(request, name, mode, device),
            Body::MkDir { mode, name } => self.mkdir(request, name, mode),
            Body::Unlink { name } => self.unlink(request, name, AtFlags::empty()),
            Body::RmDir { name } => self.unlink(request, name, AtFlags::REMOVEDIR),
            Body::Rename { folder, flags, name, to } => {
                self.rename(request, (node, name), (folder, to), flags)
            }
            Body::Link { node, name } => self.link(request, node, name),
            Body::Open { flags } => self.open(request, flags),
            Body::Create { flags, mode, name } => self.create(request, name, flags, mode),
            Body::Read { handle, offset, size } => self.read(handle, offset, size),
            Body::Write { handle, offset, is_writeback, data } => {
                self.write(request, handle, offset, data, is_writeback)
            }
            Body::Flush { .. } | Body::Release { .. } | Body::ReleaseDir { .. } => {
                self.give_back(request);
                Ok(Done::default())
            }
            Body::Fsync { handle, is_data } => self.fsync(handle, is_data),
            Body::OpenDir => self.open_folder(request),
            Body::ReadDir { handle, offset, size } => self.read_folder(handle, offset, size, ruler),
            Body::GetLock(lock) => return self.get_lock(request, &lock),
            Body::SetLock { lock, wait } => return self.set_lock(request, &lock, wait),
            Body::StatFs => self.statfs(request, ruler),
            Body::Fallocate { handle, offset, len, mode } => {
                self.fallocate(request, handle, offset, len, mode)
            }
            Body::CopyRange { from, offset, to, to_offset, len } => {
                self.copy_range((from, offset), (to, to_offset), len)
            }
            Body::Seek { handle, offset, whence } => self.seek(handle, offset, whence),
            Body::SetXattr { flags, name, value } => self.set_xattr(request, name, value, flags),
            Body::GetXattr { size, name } => self.get_xattr(request, name, size),
            Body::ListXattr { size } => self.list_xattr(request, size),
            Body::RemoveXattr { name } => self.remove_xattr(request, name),
            Body::Init { .. }
            | Body::Destroy
            | Body::Interrupt { .. }
            | Body::Forget { .. }
            | Body::BatchForget { .. }
            | Body::Other => Err(Errno(libc::ENOSYS)),
        };
        done.map_err(Refusal::Error)
    }

    /// What a request gives back whatever else becomes of it: a handle, or an owner's locks.
    /// Whether a lock may be free now.
    pub(crate) fn give_back(&mut self, request: &Request<'_>) -> bool {
        match request.body {
            Body::Flush { handle, owner } => {
                let node = self.handles.get(&handle).map(|handle| handle.node);
                node.is_some_and(|node| self.locks.release(node, request.mount, owner))
            }
            Body::Release { handle } | Body::ReleaseDir { handle } => {
                self.close(handle);
                true
            }
            _ => false,
        }
    }

    /// Undoes what a reply would have given to the kernel, where the reply is another.
    pub(crate) fn take_back(&mut self, mount: MountId, done: &Done) {
        if let Some(handle) = done.handle {
            self.close(handle);
        }
        if let (true, Some(node)) = (done.counts_lookup, done.node) {
            self.nodes.forget(mount, node, 1);
        }
    }

    /// Closes all that `mount` has open.
    pub(crate) fn forget_mount(&mut self, mount: MountId) {
        let of_it = self.handles.iter().filter(|(_, handle)| handle.mount == mount);
        let open: Vec<u64> = of_it.map(|(id, _)| *id).collect();
        for handle in open {
            self.close(handle);
        }
        self.locks.forget_mount(mount);
        self.recent.forget_mount(mount);
        self.nodes.forget_mount(mount);
    }

    /// After the effect: the target gets another mtime.
    pub(crate) fn apply_ruling(&mut self, done: &Done, ruling: Ruling) -> Result<(), Errno> {
        let (Ruling::SetMtime(time), Some(node)) = (ruling, done.node) else { return Ok(()) };
        let times = rustix::fs::Timestamps {
            last_access: attributes::OMIT,
            last_modification: attributes::timespec(time),
        };
        rustix::fs::utimensat(self.file(node)?, c"", &times, AtFlags::EMPTY_PATH)?;
        Ok(())
    }

    /// The `O_PATH` descriptor of a node. A number that is not known was forgotten: ESTALE.
    fn file(&self, node: u64) -> Result<BorrowedFd<'_>, Errno> {
        self.nodes.file(node).ok_or(Errno(libc::ESTALE))
    }

    fn handle(&self, handle: u64) -> Result<&Handle, Errno> {
        self.handles.get(&handle).ok_or(Errno(libc::EBADF))
    }

    /// Does something with the rights of the caller.
    fn as_caller<T>(
        &self,
        request: &Request<'_>,
        groups: Groups,
        what: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.credentials.act_as(request.caller(), groups, self.proc.as_fd(), what)
    }

    /// Opens a file that is known by a descriptor once more.
    fn reopen(&self, file: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        Ok(openat(&self.proc_fds, number(file), flags, Mode::empty())?)
    }

    fn stat(&self, node: u64) -> Result<Stat, Errno> {
        let mut stat = statat(self.file(node)?, c"", AtFlags::EMPTY_PATH)?;
        if self.nodes.is_phantom(node) {
            // It shall look like a file that is there.
            stat.st_nlink = stat.st_nlink.max(1);
        }
        Ok(stat)
    }

    fn add_handle(&mut self, mount: MountId, node: u64, file: OwnedFd, flags: OFlags) -> u64 {
        let id = self.next_handle;
        self.next_handle += 1;
        let (has_flock, listing) = (false, Vec::new());
        self.handles.insert(id, Handle { node, mount, file, flags, has_flock, listing });
        self.nodes.opened(node);
        id
    }

    fn close(&mut self, handle: u64) {
        if let Some(handle) = self.handles.remove(&handle) {
            if handle.has_flock {
                // As with the other locks: see `locks`.
                let _ = flock(&handle.file, FlockOperation::NonBlockingUnlock);
            }
            self.nodes.closed(handle.node);
        }
    }

    /// The reply that introduces a node to the kernel.
    fn entry(
        &mut self,
        mount: MountId,
        node: u64,
        name: Option<(u64, &OsStr)>,
    ) -> Result<Done, Errno> {
        let stat = self.stat(node)?;
        let name = name.map(|(folder, name)| (folder, name.to_owned()));
        self.nodes.looked_up(mount, node, name);
        let mut body = Writer::default();
        body.entry(node, &stat);
        let counts_lookup = true;
        Ok(Done { body: body.0, node: Some(node), counts_lookup, ..Done::default() })
    }
}

/// The name of a descriptor below `/proc/self/fd`.
fn number(file: BorrowedFd<'_>) -> rustix::path::DecInt {
    rustix::path::DecInt::from_fd(file)
}

/// The answer to what says no more than that it was done.
fn done(node: u64) -> Done {
    Done { node: Some(node), ..Done::default() }
}
