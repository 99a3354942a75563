//! What the lock does to files, in small pieces.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW};

/// The record's name in the lock's folder.
pub(crate) const OWNER: &str = "owner";
/// The name of the file that a beat refreshes.
pub(crate) const BEAT: &str = "beat";

/// Which file it is, while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    pub(crate) fn of(meta: &fs::Metadata) -> Identity {
        Identity(meta.dev(), meta.ino())
    }
}

/// A file at one look: two that are equal say that nothing happened to it in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) identity: Identity,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(meta: &fs::Metadata) -> Stamp {
        Stamp { identity: Identity::of(meta), mtime: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// `None` where nothing is there; any other error stays one.
pub(crate) fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a name leads to this file; a second look where the first fails, since one error may be a
/// passing one. `None` if nobody can tell.
pub(crate) fn is_at(path: &Path, identity: Identity) -> Option<bool> {
    let look = || present(fs::symlink_metadata(path)).ok();
    let seen = look().or_else(look)?;
    Some(seen.is_some_and(|meta| Identity::of(&meta) == identity))
}

pub(crate) fn open_to_look(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    fs::OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)
}

pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// `resource.lock` + `.token` and the like.
pub(crate) fn beside(lock: &Path, suffix: &str) -> PathBuf {
    let mut name = lock.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Both times of a file.
pub(crate) fn times(time: Timespec) -> Timestamps {
    Timestamps { last_access: time, last_modification: time }
}

/// The present, as the file system sees it (utimensat(2)).
pub(crate) const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
