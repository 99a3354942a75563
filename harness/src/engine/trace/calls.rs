//! Which calls make which operation: what must stop where only some operations matter.

use std::collections::BTreeSet;

use crate::op::OpKind;

/// Each kind, and every call that can be one. `fcntl` and `clone` are told apart by their
/// arguments, in the filter.
const CALLS: &[(OpKind, &[i64])] = &[
    (
        OpKind::Utimes,
        &[libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat, libc::SYS_utimensat],
    ),
    (
        OpKind::Write,
        &[
            libc::SYS_write,
            libc::SYS_writev,
            libc::SYS_pwrite64,
            libc::SYS_pwritev,
            libc::SYS_pwritev2,
            libc::SYS_sendfile,
            libc::SYS_copy_file_range,
            libc::SYS_splice,
            libc::SYS_fallocate,
        ],
    ),
    // Opening may truncate.
    (OpKind::Truncate, &[libc::SYS_truncate, libc::SYS_ftruncate]),
    (OpKind::Truncate, OPENS),
    (OpKind::Create, OPENS),
    (OpKind::Create, &[libc::SYS_mknod, libc::SYS_mknodat]),
    (OpKind::Open, OPENS),
    (OpKind::Mkdir, &[libc::SYS_mkdir, libc::SYS_mkdirat]),
    (OpKind::Rename, &[libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2]),
    (OpKind::Link, &[libc::SYS_link, libc::SYS_linkat]),
    (OpKind::Symlink, &[libc::SYS_symlink, libc::SYS_symlinkat]),
    (OpKind::Unlink, &[libc::SYS_unlink, libc::SYS_unlinkat]),
    (OpKind::Rmdir, &[libc::SYS_rmdir, libc::SYS_unlinkat]),
    (
        OpKind::Stat,
        &[
            libc::SYS_stat,
            libc::SYS_lstat,
            libc::SYS_fstat,
            libc::SYS_newfstatat,
            libc::SYS_statx,
            libc::SYS_access,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
        ],
    ),
    (
        OpKind::Read,
        &[libc::SYS_read, libc::SYS_readv, libc::SYS_pread64, libc::SYS_preadv, libc::SYS_preadv2],
    ),
    (OpKind::Readdir, &[libc::SYS_getdents, libc::SYS_getdents64]),
    (OpKind::Chmod, &[libc::SYS_chmod, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchmodat2]),
    (OpKind::Chown, &[libc::SYS_chown, libc::SYS_lchown, libc::SYS_fchown, libc::SYS_fchownat]),
    (OpKind::Fsync, &[libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync_file_range]),
    (OpKind::Close, &[libc::SYS_close]),
    (OpKind::Flock, &[libc::SYS_flock]),
    (OpKind::Statfs, &[libc::SYS_statfs, libc::SYS_fstatfs]),
];

const OPENS: &[i64] = &[libc::SYS_open, libc::SYS_openat, libc::SYS_openat2, libc::SYS_creat];

/// Every call that can make an operation of these kinds.
pub(crate) fn making(kinds: &BTreeSet<OpKind>) -> Vec<i64> {
    let rows = CALLS.iter().filter(|(kind, _)| kinds.contains(kind));
    let calls: BTreeSet<i64> = rows.flat_map(|(_, calls)| calls.iter().copied()).collect();
    calls.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::trace::filter::{BY_DESCRIPTOR, BY_PATH};

    #[test]
    fn every_call_on_files_makes_something() {
        let all: BTreeSet<OpKind> = OpKind::ALL.iter().copied().collect();
        let known: BTreeSet<i64> = making(&all).into_iter().collect();
        let stopped: BTreeSet<i64> = BY_PATH.iter().chain(BY_DESCRIPTOR).copied().collect();
        assert_eq!(known, stopped);
    }

    #[test]
    fn what_nobody_asks_for_does_not_stop() {
        let only = BTreeSet::from([OpKind::Utimes]);
        assert!(making(&only).contains(&libc::SYS_utimensat));
        assert!(!making(&only).contains(&libc::SYS_openat));
    }
}
