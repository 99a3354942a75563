//! The court's ear and mouth on the fault file system.

use std::io::Write;

use deadbeat_fs::{
    Caller, Errno as FsErrno, Kind, MountId, Operation, Outcome as FsOutcome, Ruler,
    Ruling as FsRuling, StatfsProfile,
};

use super::troupe::Troupe;
use crate::engine::court::{Court, Ruling};
use crate::engine::deeds::{BALLAST, INODE_BALLAST};
use crate::engine::ground::DIR;
use crate::op::{Op, OpId, OpKind};

impl<O: Write> Court<Troupe, O> {
    fn op_of(&self, operation: &Operation) -> Option<Op> {
        let role = self.world.role_behind(operation.mount)?;
        let paths: Vec<String> = operation.paths.iter().filter_map(|path| below(path)).collect();
        let to = operation.to.as_deref().and_then(below);
        if paths.is_empty() && to.is_none() {
            return None;
        }
        Some(Op {
            id: OpId(operation.id.0),
            role,
            kind: kind_of(operation.kind),
            truncates: operation.truncates,
            paths,
            to,
            by_descriptor: operation.by_descriptor,
            unlinked: operation.unlinked,
            ino: (operation.ino != 0).then_some(operation.ino),
        })
    }
}

impl<O: Write> Ruler for Court<Troupe, O> {
    fn rule(&mut self, operation: &Operation) -> FsRuling {
        let Some(op) = self.op_of(operation) else { return FsRuling::Proceed };
        told_to_fs(self.decide(&op, changes_files(operation)))
    }

    fn settled(&mut self, operation: &Operation, outcome: &FsOutcome) {
        let Some(op) = self.op_of(operation) else { return };
        let told = outcome.result.map_err(|errno| errno.0);
        // Looking up {dir} comes before every operation, and says nothing as long as it is there.
        if op.kind == OpKind::Lookup && op.path().is_empty() && told.is_ok() {
            return;
        }
        self.settle(op, told, outcome.effect, (outcome.ino != 0).then_some(outcome.ino));
    }

    fn append(&mut self, mount: MountId, _: Caller, data: &[u8]) -> Result<(), FsErrno> {
        let role = self.world.role_behind(mount).ok_or(FsErrno(libc::EIO))?;
        self.bury_the_dead();
        self.hear(role, data).map_err(FsErrno)
    }

    fn statfs(&mut self, _: MountId) -> Option<StatfsProfile> {
        let shown = self.shown_space()?;
        Some(StatfsProfile { free_bytes: shown.free, free_inodes: shown.inodes })
    }

    fn hidden(&self, name: &std::ffi::OsStr) -> bool {
        name == BALLAST || name == INODE_BALLAST
    }
}

/// A ruling in the words of the file system.
pub(super) fn told_to_fs(ruling: Ruling) -> FsRuling {
    match ruling {
        Ruling::Proceed => FsRuling::Proceed,
        Ruling::Fail(errno) => FsRuling::Fail(FsErrno(errno)),
        Ruling::FailAfter(errno) => FsRuling::FailAfter(FsErrno(errno)),
        Ruling::Pretend => FsRuling::Pretend,
        Ruling::Hold => FsRuling::Hold,
        Ruling::Short(bytes) => FsRuling::Short(as_length(bytes)),
        Ruling::Torn(bytes) => FsRuling::Torn(as_length(bytes)),
    }
}

fn as_length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A path of the mount, relative to `{dir}`; `None` for what is not below it.
fn below(path: &std::path::Path) -> Option<String> {
    path.strip_prefix(DIR).ok().map(|rest| rest.to_string_lossy().into_owned())
}

pub(super) fn kind_of(kind: Kind) -> OpKind {
    match kind {
        Kind::Lookup => OpKind::Lookup,
        Kind::Stat => OpKind::Stat,
        Kind::Utimes => OpKind::Utimes,
        Kind::Chmod => OpKind::Chmod,
        Kind::Chown => OpKind::Chown,
        Kind::Truncate => OpKind::Truncate,
        Kind::Open => OpKind::Open,
        Kind::Create => OpKind::Create,
        Kind::Read => OpKind::Read,
        Kind::Write => OpKind::Write,
        Kind::Close => OpKind::Close,
        Kind::Fsync => OpKind::Fsync,
        Kind::Readdir => OpKind::Readdir,
        Kind::Mkdir => OpKind::Mkdir,
        Kind::Rename => OpKind::Rename,
        Kind::Link => OpKind::Link,
        Kind::Symlink => OpKind::Symlink,
        Kind::Unlink => OpKind::Unlink,
        Kind::Rmdir => OpKind::Rmdir,
        Kind::Flock => OpKind::Flock,
        Kind::FcntlLock => OpKind::FcntlLock,
        Kind::Statfs => OpKind::Statfs,
        _ => OpKind::Other,
    }
}

/// Whether a read-only file system would refuse it.
pub(super) fn changes_files(operation: &Operation) -> bool {
    match operation.kind {
        Kind::Open => {
            operation.truncates || operation.open_flags & libc::O_ACCMODE != libc::O_RDONLY
        }
        Kind::Utimes
        | Kind::Chmod
        | Kind::Chown
        | Kind::Truncate
        | Kind::Create
        | Kind::Write
        | Kind::Mkdir
        | Kind::Rename
        | Kind::Link
        | Kind::Symlink
        | Kind::Unlink
        | Kind::Rmdir => true,
        _ => false,
    }
}
