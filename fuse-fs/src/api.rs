//! What the file system tells its caller, and what the caller can answer.
//!
//! Data only: nothing here touches a file. Paths are relative to the backing folder, and the
//! empty path is the backing folder itself. Times are seconds and nanoseconds since 1970, lengths
//! and offsets are bytes.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One mount of the file system: the one that a role sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountId(pub u32);

/// One operation. Unique in a [`FaultFs`](crate::FaultFs), and increasing in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// An error number of errno(3), positive.
///
/// The kernel takes 1 to 511 from a file system; anything else reaches the client as EIO.
/// `ENOSYS` makes the kernel stop asking for some operations, so it is no use as a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Errno {
        Errno(errno.raw_os_error())
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> std::io::Error {
        std::io::Error::from_raw_os_error(errno.0)
    }
}

/// Who asked, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The thread, numbered in the PID namespace in which the mount was made. 0 where no process
    /// stands behind a request (release, write-back), or one outside that namespace.
    pub tid: u32,
    /// The user as whom the kernel checks file access (fsuid of credentials(7)).
    pub uid: u32,
    /// The group, likewise.
    pub gid: u32,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// One component of a path is looked up. Every path call begins with these.
    Lookup,
    /// stat and its kin, access, and chdir.
    Stat,
    /// utimensat and its kin.
    Utimes,
    /// chmod and its kin.
    Chmod,
    /// chown and its kin.
    Chown,
    /// truncate and ftruncate. An `O_TRUNC` is part of the open.
    Truncate,
    /// A file that was there is opened.
    Open,
    /// A file that was not there is created and opened.
    Create,
    /// A read.
    Read,
    /// A write.
    Write,
    /// A close(2), once for each descriptor; it can fail.
    Close,
    /// The last descriptor of an open is gone. It cannot fail, and nobody waits for it.
    Release,
    /// fsync and fdatasync, of files and folders.
    Fsync,
    /// A folder is opened.
    Opendir,
    /// A folder is read.
    Readdir,
    /// mkdir.
    Mkdir,
    /// mknod, mkfifo, and bind of a socket.
    Mknod,
    /// rename.
    Rename,
    /// link. `paths` are of what is linked, `to` is the new name.
    Link,
    /// symlink. `paths` is the new link; its text is not told.
    Symlink,
    /// readlink.
    Readlink,
    /// unlink.
    Unlink,
    /// rmdir.
    Rmdir,
    /// flock(2).
    Flock,
    /// fcntl(2) locks (F_SETLK, F_SETLKW, F_GETLK).
    FcntlLock,
    /// statfs.
    Statfs,
    /// fallocate.
    Fallocate,
    /// copy_file_range; the target is the file written.
    CopyRange,
    /// lseek for data or holes; other seeks reach no file system.
    Seek,
    /// Extended attributes.
    Xattr,
}

/// A time that an operation gives to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewTime {
    /// The time at which it is carried out.
    Now,
    /// A given time.
    At {
        /// Seconds since 1970, before it if negative.
        secs: i64,
        /// Nanoseconds after that second, below 1 000 000 000.
        nanos: u32,
    },
}

/// What a lock operation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRequest {
    /// The lock.
    pub kind: LockKind,
    /// Whether the caller waits until it can have it.
    pub wait: bool,
    /// Whether it only asks who is in the way (F_GETLK).
    pub query: bool,
    /// First byte; 0 for flock.
    pub start: u64,
    /// Last byte, inclusive; `i64::MAX` is the end of the file wherever that is.
    pub end: u64,
}

/// Kinds of lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// A read lock.
    Shared,
    /// A write lock.
    Exclusive,
    /// None: what is held is given up.
    Unlock,
}

/// An operation, before it is carried out.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its number.
    pub id: OpId,
    /// The mount it came through.
    pub mount: MountId,
    /// Who asked.
    pub caller: Caller,
    /// What it does.
    pub kind: Kind,
    /// Every known name of the target, the one that the caller used or looked up last first. A
    /// file without a name keeps its last one here, and is `unlinked`.
    pub paths: Vec<PathBuf>,
    /// The new name, for a rename or link.
    pub to: Option<PathBuf>,
    /// It came through a descriptor. The protocol does not tell for stat, utimes, chmod and chown;
    /// there it is taken from this: a path call looks up its last component just before.
    pub by_descriptor: bool,
    /// The target has no name any more (or never had: a pretended create).
    pub unlinked: bool,
    /// The target's inode number on the backing file system; 0 if there is no target yet.
    pub ino: u64,
    /// Flags of open(2), for open and create, and those of the open for what comes through it.
    pub open_flags: i32,
    /// Where a read, write, fallocate or truncate begins; the kernel's guess for an append.
    pub offset: u64,
    /// How many bytes are read, written or allocated.
    pub len: u64,
    /// A write or truncate beyond the end of the file.
    pub grows: bool,
    /// An open or create with `O_TRUNC`, or a truncate.
    pub truncates: bool,
    /// The new mtime of a utimes; none if only the atime is set.
    pub mtime: Option<NewTime>,
    /// The mode of a chmod, create, mkdir or mknod, the umask applied.
    pub mode: Option<u32>,
    /// User and group of a chown.
    pub owner: Option<(Option<u32>, Option<u32>)>,
    /// What a lock operation asks for.
    pub lock: Option<LockRequest>,
}

impl Operation {
    /// The first of [`paths`](Operation::paths).
    #[must_use]
    pub fn path(&self) -> &Path {
        self.paths.first().map_or(Path::new(""), PathBuf::as_path)
    }
}

/// What shall happen to an operation.
///
/// | ruling | backing | client sees |
/// |---|---|---|
/// | `Proceed` | changed | what the backing said |
/// | `Fail` | untouched | the error |
/// | `FailAfter` | changed, if it lets itself | the error |
/// | `Pretend` | untouched | success |
/// | `Hold`, `Delay` | later | nothing yet |
/// | `Short` | n bytes written | n |
/// | `Torn` | n bytes written | all |
/// | `SetMtime` | changed, then the mtime set | what the backing said |
///
/// A close or release always gives its descriptor and its locks back, whatever is ruled, as on
/// every file system. `Short` and `Torn` on anything but a write, and `Pretend` on what changes
/// nothing (lookup, stat, read, readdir, statfs…), are `Proceed`. An open that is pretended is
/// opened, without truncation. ESTALE on a path call is retried once by the VFS, so it is asked
/// for twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It is carried out.
    Proceed,
    /// It fails; nothing happened.
    Fail(Errno),
    /// It is carried out, and the answer is an error all the same.
    FailAfter(Errno),
    /// Success is reported, nothing happened. What is created so is a nameless file that lives as
    /// long as its descriptors.
    Pretend,
    /// It waits for [`FaultFs::release`](crate::FaultFs::release).
    Hold,
    /// It waits that long, then proceeds.
    Delay(Duration),
    /// Only so many bytes are written, and only so many reported.
    Short(usize),
    /// Only so many bytes are written, but all reported.
    Torn(usize),
    /// It is carried out, then the file gets this mtime.
    SetMtime(NewTime),
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the client is told: bytes read, written or copied, otherwise 0; or the error.
    pub result: Result<u64, Errno>,
    /// The backing carried it out.
    pub effect: bool,
    /// The target's inode number afterwards; 0 if there is none.
    pub ino: u64,
    /// It was not answered at once: held, delayed, or waiting for a lock.
    pub held: bool,
}

/// What statfs shows instead of the backing's own figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatfsProfile {
    /// Bytes free, for root and everybody.
    pub free_bytes: Option<u64>,
    /// Inodes free.
    pub free_inodes: Option<u64>,
}

/// How a [`FaultFs`](crate::FaultFs) behaves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of a file in the root of every mount that is not on the backing: mode 0666, always
    /// empty, and each write goes to [`Ruler::append`]. It is never ruled on. What the backing has
    /// under this name is not seen.
    pub synthetic: Option<OsString>,
    /// Which signals end a held operation.
    pub interrupts: Interrupts,
}

/// Which signals end a held or delayed operation, with EINTR. Waiting for a lock ends with any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interrupts {
    /// Every signal that would interrupt a read from a pipe.
    Any,
    /// Only those that kill, as with a hard-mounted NFS.
    #[default]
    FatalOnly,
}

/// What one call of [`FaultFs::serve`](crate::FaultFs::serve) came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// A request, which is answered, held or needs no answer.
    Handled,
    /// No request waits.
    Idle,
    /// The mount is gone. The caller calls [`FaultFs::remove_mount`](crate::FaultFs::remove_mount).
    Gone,
}

/// Decides about operations and hears of what became of them.
///
/// All calls come from the thread that serves. An implementation must not touch a mount of its own
/// file system: nobody would answer.
pub trait Ruler {
    /// What shall happen to `op`? Called once for each operation, before it is carried out.
    fn rule(&mut self, op: &Operation) -> Ruling;

    /// `op` has its outcome. Called once for each operation, before the client is answered: what
    /// is written down here is written before the client can go on.
    fn settled(&mut self, op: &Operation, outcome: &Outcome);

    /// One write(2) on the synthetic file.
    ///
    /// # Errors
    /// The client gets the error.
    fn append(&mut self, mount: MountId, caller: Caller, data: &[u8]) -> Result<(), Errno>;

    /// What statfs shows on `mount`, in place of what the backing says.
    fn statfs(&mut self, mount: MountId) -> Option<StatfsProfile> {
        let _ = mount;
        None
    }

    /// Whether clients cannot see `name` in the root: neither look it up, list it nor make it.
    fn hidden(&self, name: &OsStr) -> bool {
        let _ = name;
        false
    }
}
