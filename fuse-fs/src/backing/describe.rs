//! What a request is, in the words of the caller of this crate.
//!
//! # Invariants
//! - Describing changes nothing on the backing.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use rustix::fs::{AtFlags, OFlags, statat};

use super::{Backing, Request, attributes, locks};
use crate::api::{Kind, MountId, OpId, Operation};
use crate::wire::{Body, ROOT};

/// Threads whose last look-up is remembered. One that dies between look-up and use leaves one
/// behind, so there is a bound.
const THREADS_MAX: usize = 4096;

/// What each thread has just looked up and not used yet.
#[derive(Debug, Default)]
pub(super) struct Recent(BTreeMap<(MountId, u32), u64>);

impl Recent {
    pub(super) fn looked_up(&mut self, request: &Request<'_>, node: u64) {
        if self.0.len() >= THREADS_MAX {
            self.0.clear();
        }
        self.0.insert((request.mount, request.header.pid), node);
    }

    /// Whether the thread has just looked `node` up. Asked once: the next call is another.
    fn take(&mut self, request: &Request<'_>, node: u64) -> bool {
        self.0.remove(&(request.mount, request.header.pid)) == Some(node)
    }

    pub(super) fn forget_mount(&mut self, mount: MountId) {
        self.0.retain(|(of, _), _| *of != mount);
    }
}

/// What a request is about.
enum Target<'a> {
    Node(u64),
    Handle(u64),
    Name(u64, &'a OsStr),
    NewName(u64, &'a OsStr),
}

impl Backing {
    /// Describes a request that is to be ruled on; `None` for one that only the loop is
    /// concerned with.
    pub(crate) fn describe(&mut self, id: OpId, request: &Request<'_>) -> Option<Operation> {
        let (kind, target) = kind_and_target(request)?;
        let mut op = Operation {
            id,
            mount: request.mount,
            caller: request.caller(),
            kind,
            paths: Vec::new(),
            to: None,
            by_descriptor: matches!(target, Target::Handle(_)),
            unlinked: false,
            ino: 0,
            open_flags: 0,
            offset: 0,
            len: 0,
            grows: false,
            truncates: false,
            mtime: None,
            mode: None,
            owner: None,
            lock: None,
        };
        self.describe_target(&mut op, request, &target);
        self.describe_details(&mut op, request);
        Some(op)
    }

    fn describe_target(&mut self, op: &mut Operation, request: &Request<'_>, target: &Target<'_>) {
        match *target {
            Target::Node(node) => {
                self.describe_node(op, node);
                // The kernel asks for attributes of its own between look-up and use.
                if op.kind != Kind::Xattr {
                    let was_looked_up = self.recent.take(request, node);
                    op.by_descriptor = !was_looked_up && node != ROOT;
                }
            }
            Target::Handle(handle) => {
                let (node, flags) =
                    self.handle_of(handle).unwrap_or((request.header.node, OFlags::empty()));
                op.open_flags = flags.bits().cast_signed();
                self.describe_node(op, node);
            }
            Target::Name(folder, name) => self.describe_name(op, folder, name),
            Target::NewName(folder, name) => op.paths.push(self.nodes.path_below(folder, name)),
        }
    }

    fn describe_node(&mut self, op: &mut Operation, node: u64) {
        (op.paths, op.unlinked) = self.nodes.paths(node, op.mount);
        op.ino = self.nodes.ino(node);
    }

    /// A name first, then the file's other names.
    fn describe_name(&mut self, op: &mut Operation, folder: u64, name: &OsStr) {
        let path = self.nodes.path_below(folder, name);
        if let Some(node) = self.nodes.child(folder, name) {
            let (known, _) = self.nodes.paths(node, op.mount);
            if known.contains(&path) {
                op.ino = self.nodes.ino(node);
                op.paths = known.into_iter().filter(|known| *known != path).collect();
            }
        }
        op.paths.insert(0, path);
    }

    fn describe_details(&self, op: &mut Operation, request: &Request<'_>) {
        match request.body {
            Body::Open { flags } => {
                op.open_flags = flags.cast_signed();
                op.truncates = op.open_flags & libc::O_TRUNC != 0;
            }
            Body::Create { flags, mode, name } => {
                op.open_flags = flags.cast_signed();
                // What is created is not truncated: only where another came first is there a file.
                let folder = self.file(request.header.node);
                let exists = folder
                    .is_ok_and(|folder| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok());
                op.truncates = exists && op.open_flags & libc::O_TRUNC != 0;
                op.mode = Some(mode);
            }
            Body::MkDir { mode, .. } | Body::MkNod { mode, .. } => op.mode = Some(mode),
            Body::Rename { folder, to, .. } => op.to = Some(self.nodes.path_below(folder, to)),
            Body::Link { name, .. } => {
                op.to = Some(self.nodes.path_below(request.header.node, name));
            }
            Body::Read { offset, size, .. } => (op.offset, op.len) = (offset, size.into()),
            Body::Write { handle, offset, data, .. } => {
                (op.offset, op.len) = (offset, data.len() as u64);
                op.grows = self.size_of(handle).is_some_and(|(size, appends)| {
                    op.len > 0 && (appends || offset.saturating_add(op.len) > size)
                });
            }
            Body::Fallocate { offset, len, .. } => (op.offset, op.len) = (offset, len),
            Body::CopyRange { to_offset, len, .. } => (op.offset, op.len) = (to_offset, len),
            Body::Seek { offset, .. } => op.offset = offset,
            Body::SetLock { lock, wait } => op.lock = Some(locks::describe(&lock, wait, false)),
            Body::GetLock(lock) => op.lock = Some(locks::describe(&lock, false, true)),
            Body::SetAttr(_) => self.describe_set_attr(op, request),
            _ => {}
        }
    }

    fn describe_set_attr(&self, op: &mut Operation, request: &Request<'_>) {
        let Body::SetAttr(set) = request.body else { return };
        match op.kind {
            Kind::Truncate => {
                op.offset = set.size;
                op.truncates = true;
                let size = self.file(request.header.node).ok().and_then(|file| {
                    statat(file, c"", AtFlags::EMPTY_PATH).ok().map(|s| s.st_size.cast_unsigned())
                });
                op.grows = size.is_some_and(|size| set.size > size);
            }
            Kind::Chown => op.owner = Some(attributes::new_owner(&set)),
            Kind::Chmod => op.mode = Some(set.mode & 0o7777),
            _ => op.mtime = attributes::new_mtime(&set),
        }
    }
}

fn kind_and_target<'a>(request: &Request<'a>) -> Option<(Kind, Target<'a>)> {
    let node = request.header.node;
    let at = Target::Node(node);
    Some(match request.body {
        Body::Lookup { name } => (Kind::Lookup, Target::Name(node, name)),
        Body::GetAttr { handle: None } | Body::Access { .. } => (Kind::Stat, at),
        Body::GetAttr { handle: Some(handle) } => (Kind::Stat, Target::Handle(handle)),
        Body::SetAttr(set) if set.valid & crate::wire::fattr::FH != 0 => {
            (attributes::kind_of(set.valid), Target::Handle(set.handle))
        }
        Body::SetAttr(set) => (attributes::kind_of(set.valid), at),
        Body::ReadLink => (Kind::Readlink, at),
        Body::Symlink { name, .. } => (Kind::Symlink, Target::NewName(node, name)),
        Body::MkNod { name, .. } => (Kind::Mknod, Target::NewName(node, name)),
        Body::MkDir { name, .. } => (Kind::Mkdir, Target::NewName(node, name)),
        Body::Create { name, .. } => (Kind::Create, Target::NewName(node, name)),
        Body::Unlink { name } => (Kind::Unlink, Target::Name(node, name)),
        Body::RmDir { name } => (Kind::Rmdir, Target::Name(node, name)),
        Body::Rename { name, .. } => (Kind::Rename, Target::Name(node, name)),
        Body::Link { node, .. } => (Kind::Link, Target::Node(node)),
        Body::Open { .. } => (Kind::Open, at),
        Body::OpenDir => (Kind::Opendir, at),
        Body::Read { handle, .. } => (Kind::Read, Target::Handle(handle)),
        Body::Write { handle, .. } => (Kind::Write, Target::Handle(handle)),
        Body::Flush { handle, .. } => (Kind::Close, Target::Handle(handle)),
        Body::Release { handle } | Body::ReleaseDir { handle } => {
            (Kind::Release, Target::Handle(handle))
        }
        Body::Fsync { handle, .. } => (Kind::Fsync, Target::Handle(handle)),
        Body::ReadDir { handle, .. } => (Kind::Readdir, Target::Handle(handle)),
        Body::GetLock(lock) | Body::SetLock { lock, .. } => {
            let kind = if lock.is_flock { Kind::Flock } else { Kind::FcntlLock };
            (kind, Target::Handle(lock.handle))
        }
        Body::StatFs => (Kind::Statfs, at),
        Body::Fallocate { handle, .. } => (Kind::Fallocate, Target::Handle(handle)),
        Body::CopyRange { to, .. } => (Kind::CopyRange, Target::Handle(to)),
        Body::Seek { handle, .. } => (Kind::Seek, Target::Handle(handle)),
        Body::SetXattr { .. }
        | Body::GetXattr { .. }
        | Body::ListXattr { .. }
        | Body::RemoveXattr { .. } => (Kind::Xattr, at),
        Body::Init { .. }
        | Body::Destroy
        | Body::Interrupt { .. }
        | Body::Forget { .. }
        | Body::BatchForget { .. }
        | Body::Other => return None,
    })
}
