//! From a system call to the file that it is about: numbers and registers in, names out.
//!
//! Nothing is remembered between calls: which file a descriptor means is asked of the kernel
//! (`/proc/PID/fd`) while the thread is stopped, so dup, fork, exec and passed descriptors need no
//! book-keeping. Paths are resolved as the thread would, except for chroot(2).

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::arch_x86_64::Regs;
use super::folders::Folders;
use super::sys;
use crate::op::OpKind;

/// What one argument of a call names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// A path, relative to a folder's descriptor; whether a last symbolic link is followed.
    Path { at: i32, path: u64, follow: bool },
    /// An open file.
    Descriptor(i32),
}

/// What a call is about, before its names are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    kind: OpKind,
    first: Named,
    second: Option<Named>,
    /// `open` flags, where it opens.
    open_flags: Option<i32>,
}

/// A file as a call names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) path: PathBuf,
    pub(crate) by_descriptor: bool,
    pub(crate) unlinked: bool,
    /// The descriptor that named it.
    pub(crate) fd: Option<i32>,
    /// Where the thread keeps the path that named it.
    pub(crate) text_at: Option<u64>,
}

/// A call on files.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) kind: OpKind,
    pub(crate) first: Resolved,
    pub(crate) second: Option<Resolved>,
    pub(crate) open_flags: Option<i32>,
    /// Which state of the files the names are from.
    pub(crate) state: u64,
    /// What was seen of the first file, where it was looked at (then `None` inside means that it
    /// was not there).
    pub(crate) seen: Option<Option<Metadata>>,
}

const HERE: i32 = libc::AT_FDCWD;
const PATH_BYTES_MAX: usize = 4096;

fn path_at(at: i32, path: u64, follow: bool) -> Named {
    Named::Path { at, path, follow }
}

fn one(kind: OpKind, first: Named) -> Option<Shape> {
    Some(Shape { kind, first, second: None, open_flags: None })
}

fn opens(first: Named, flags: i32) -> Option<Shape> {
    Some(Shape { kind: OpKind::Open, first, second: None, open_flags: Some(flags) })
}

fn two(kind: OpKind, first: Named, second: Named) -> Option<Shape> {
    Some(Shape { kind, first, second: Some(second), open_flags: None })
}

/// What a call by path is about; `None` for calls that take no path.
fn path_shape(tid: i32, r: &Regs) -> Option<Shape> {
    use OpKind::{
        Chmod, Chown, Create, Link, Mkdir, Rename, Rmdir, Stat, Statfs, Symlink, Truncate, Unlink,
        Utimes,
    };
    let follows = |index: usize| r.int(index) & libc::AT_SYMLINK_NOFOLLOW == 0;
    let open_follows = |flags: i32| flags & libc::O_NOFOLLOW == 0 && !is_exclusive(flags);
    let here = |index: usize, follow| path_at(HERE, r.arg(index), follow);
    let at = |index: usize, follow| path_at(r.int(index), r.arg(index + 1), follow);
    match r.nr() {
        libc::SYS_open => opens(here(0, open_follows(r.int(1))), r.int(1)),
        libc::SYS_creat => opens(here(0, true), libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC),
        libc::SYS_openat => opens(at(0, open_follows(r.int(2))), r.int(2)),
        libc::SYS_openat2 => {
            let mut how = [0; 8];
            sys::read_memory(tid, r.arg(2), &mut how).ok()?;
            let flags = i32::try_from(u64::from_ne_bytes(how)).ok()?;
            opens(at(0, open_follows(flags)), flags)
        }
        libc::SYS_stat | libc::SYS_access => one(Stat, here(0, true)),
        libc::SYS_lstat => one(Stat, here(0, false)),
        libc::SYS_newfstatat | libc::SYS_faccessat2 => one(Stat, at(0, follows(3))),
        libc::SYS_statx => one(Stat, at(0, follows(2))),
        libc::SYS_faccessat => one(Stat, at(0, true)),
        libc::SYS_statfs => one(Statfs, here(0, true)),
        libc::SYS_mkdir => one(Mkdir, here(0, false)),
        libc::SYS_mkdirat => one(Mkdir, at(0, false)),
        libc::SYS_mknod => one(Create, here(0, false)),
        libc::SYS_mknodat => one(Create, at(0, false)),
        libc::SYS_rmdir => one(Rmdir, here(0, false)),
        libc::SYS_unlink => one(Unlink, here(0, false)),
        libc::SYS_unlinkat => {
            let kind = if r.int(2) & libc::AT_REMOVEDIR == 0 { Unlink } else { Rmdir };
            one(kind, at(0, false))
        }
        libc::SYS_rename => two(Rename, here(0, false), here(1, false)),
        libc::SYS_renameat | libc::SYS_renameat2 => two(Rename, at(0, false), at(2, false)),
        libc::SYS_link => two(Link, here(0, false), here(1, false)),
        libc::SYS_linkat => {
            let follow = r.int(4) & libc::AT_SYMLINK_FOLLOW != 0;
            two(Link, at(0, follow), at(2, false))
        }
        // The first argument of a symlink is a text, not a file.
        libc::SYS_symlink => two(Symlink, here(1, false), here(1, false)),
        libc::SYS_symlinkat => two(Symlink, at(1, false), at(1, false)),
        libc::SYS_chmod => one(Chmod, here(0, true)),
        libc::SYS_fchmodat => one(Chmod, at(0, true)),
        libc::SYS_fchmodat2 => one(Chmod, at(0, follows(3))),
        libc::SYS_chown => one(Chown, here(0, true)),
        libc::SYS_lchown => one(Chown, here(0, false)),
        libc::SYS_fchownat => one(Chown, at(0, follows(4))),
        libc::SYS_utime | libc::SYS_utimes => one(Utimes, here(0, true)),
        libc::SYS_futimesat => one(Utimes, at(0, true)),
        libc::SYS_utimensat => one(Utimes, at(0, follows(3))),
        libc::SYS_truncate => one(Truncate, here(0, true)),
        _ => None,
    }
}

/// What a call by descriptor is about.
fn descriptor_shape(r: &Regs) -> Option<Shape> {
    use OpKind::{
        Chmod, Chown, Close, FcntlLock, Flock, Fsync, Read, Readdir, Stat, Statfs, Truncate, Write,
    };
    let (kind, index) = match r.nr() {
        libc::SYS_read
        | libc::SYS_readv
        | libc::SYS_pread64
        | libc::SYS_preadv
        | libc::SYS_preadv2 => (Read, 0),
        libc::SYS_write
        | libc::SYS_writev
        | libc::SYS_pwrite64
        | libc::SYS_pwritev
        | libc::SYS_pwritev2
        | libc::SYS_sendfile
        | libc::SYS_fallocate => (Write, 0),
        libc::SYS_copy_file_range | libc::SYS_splice => (Write, 2),
        libc::SYS_fstat => (Stat, 0),
        libc::SYS_fstatfs => (Statfs, 0),
        libc::SYS_fchmod => (Chmod, 0),
        libc::SYS_fchown => (Chown, 0),
        libc::SYS_ftruncate => (Truncate, 0),
        libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_sync_file_range => (Fsync, 0),
        libc::SYS_getdents | libc::SYS_getdents64 => (Readdir, 0),
        libc::SYS_flock => (Flock, 0),
        libc::SYS_fcntl => (FcntlLock, 0),
        libc::SYS_close => (Close, 0),
        // Only shared, writable ones stop; the caller refuses them.
        libc::SYS_mmap => (OpKind::Other, 4),
        _ => return None,
    };
    one(kind, Named::Descriptor(r.int(index)))
}

/// Whether an open fails if the file is there.
pub(crate) fn is_exclusive(flags: i32) -> bool {
    flags & (libc::O_CREAT | libc::O_EXCL) == libc::O_CREAT | libc::O_EXCL
}

/// The descriptor that a call is about, and nothing else.
pub(crate) fn descriptor(regs: &Regs) -> Option<i32> {
    match descriptor_shape(regs)?.first {
        Named::Descriptor(fd) => Some(fd),
        Named::Path { .. } => None,
    }
}

/// Whether the call is one on files at all, whatever they are.
///
/// `state` is the state of the files that it is told by.
pub(crate) fn call(tid: i32, regs: &Regs, folders: &mut Folders, state: u64) -> Option<Call> {
    let shape = path_shape(tid, regs).or_else(|| descriptor_shape(regs))?;
    if changes_names(shape.kind) {
        folders.change();
    }
    let (first, seen) = resolve(tid, shape.first, folders)?;
    let second = match shape.second {
        Some(named) => Some(resolve(tid, named, folders)?.0),
        None => None,
    };
    let Shape { kind, open_flags, .. } = shape;
    Some(Call { kind, first, second, open_flags, state, seen })
}

/// The call on a descriptor whose file is known; `None` for other calls.
pub(crate) fn call_on(regs: &Regs, first: Resolved, state: u64) -> Option<Call> {
    let Shape { kind, open_flags, .. } = descriptor_shape(regs)?;
    Some(Call { kind, first, second: None, open_flags, state, seen: None })
}

/// Whether a path may lead elsewhere after such a call.
pub(crate) fn changes_names(kind: OpKind) -> bool {
    use OpKind::{Link, Mkdir, Rename, Rmdir, Symlink, Unlink};
    matches!(kind, Mkdir | Rename | Rmdir | Symlink | Unlink | Link)
}

/// What a call names, and the file's attributes where they had to be looked at (then `None` inside
/// means that it is not there).
fn resolve(
    tid: i32,
    named: Named,
    folders: &mut Folders,
) -> Option<(Resolved, Option<Option<Metadata>>)> {
    let open = |fd| Some((open_file(tid, fd)?, None));
    match named {
        Named::Descriptor(fd) => open(fd),
        Named::Path { at, path: 0, .. } => open(at),
        Named::Path { at, path: path_at, follow } => {
            let text = read_path(tid, path_at)?;
            if text.as_os_str().is_empty() {
                return open(at);
            }
            let (path, meta) = if text.is_absolute() {
                folders.resolve(tid, &text, follow)
            } else {
                folders.resolve(tid, &folder(tid, at)?.join(text), follow)
            };
            let text_at = Some(path_at);
            Some((
                Resolved { path, by_descriptor: false, unlinked: false, fd: None, text_at },
                meta,
            ))
        }
    }
}

/// What a descriptor leads to (proc_pid_fd(5)): a path, or the likes of `pipe:[42]`.
pub(crate) fn link(tid: i32, fd: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{tid}/fd/{fd}")).ok()
}

/// The file behind a descriptor; `None` for pipes, sockets and the like.
pub(crate) fn open_file(tid: i32, fd: i32) -> Option<Resolved> {
    if fd == HERE {
        let path = folder(tid, fd)?;
        return Some(Resolved {
            path,
            by_descriptor: true,
            unlinked: false,
            fd: None,
            text_at: None,
        });
    }
    file_of(&link(tid, fd)?, fd)
}

/// The file that a descriptor's link tells of.
pub(crate) fn file_of(link: &std::path::Path, fd: i32) -> Option<Resolved> {
    let bytes = link.as_os_str().as_bytes();
    if bytes.first() != Some(&b'/') {
        return None;
    }
    let alive = bytes.strip_suffix(b" (deleted)");
    let path = PathBuf::from(OsString::from_vec(alive.unwrap_or(bytes).to_vec()));
    Some(Resolved {
        path,
        by_descriptor: true,
        unlinked: alive.is_some(),
        fd: Some(fd),
        text_at: None,
    })
}

fn folder(tid: i32, at: i32) -> Option<PathBuf> {
    let link = if at == HERE { format!("/proc/{tid}/cwd") } else { format!("/proc/{tid}/fd/{at}") };
    fs::read_link(link).ok()
}

/// The path that a call opens or asks about, as it is written; absolute, though links and dots may
/// be in it.
pub(crate) fn written_path(tid: i32, regs: &Regs) -> Option<PathBuf> {
    let (at, path) = match regs.nr() {
        libc::SYS_open | libc::SYS_creat | libc::SYS_stat | libc::SYS_lstat => (HERE, regs.arg(0)),
        libc::SYS_openat | libc::SYS_openat2 | libc::SYS_newfstatat | libc::SYS_statx => {
            (regs.int(0), regs.arg(1))
        }
        _ => return None,
    };
    let path = read_path(tid, path)?;
    Some(if path.is_absolute() { path } else { folder(tid, at)?.join(path) })
}

/// A path from the thread's memory; `None` where the call will fail with EFAULT or ENAMETOOLONG.
fn read_path(tid: i32, address: u64) -> Option<PathBuf> {
    let mut text = Vec::new();
    let mut place = address;
    while text.len() < PATH_BYTES_MAX {
        // Never across a page that may not be there. Paths are short, so little is read first.
        let to_page_end = 4096 - usize::try_from(place % 4096).ok()?;
        let mut bytes = vec![0; to_page_end.min(256)];
        let read = sys::read_memory(tid, place, &mut bytes).ok()?;
        if let Some(end) = bytes[..read].iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&bytes[..end]);
            return Some(PathBuf::from(OsString::from_vec(text)));
        }
        text.extend_from_slice(&bytes[..read]);
        place = place.checked_add(u64::try_from(read).ok().filter(|read| *read > 0)?)?;
    }
    None
}
