//! What the lock does to files, in small pieces.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How often a lock file that somebody else has is tried.
const FLOCK_POLL: Duration = Duration::from_millis(5);

/// A file's identity while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(meta: &fs::Metadata) -> Identity {
        Identity { device: meta.dev(), inode: meta.ino() }
    }
}

/// A file that is locked as long as this lives.
#[derive(Debug)]
pub(crate) struct Flocked(File);

impl Flocked {
    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

/// Takes an exclusive flock, within a bound: who has it may be stopped.
pub(crate) fn flock_until(file: File, deadline: Instant) -> io::Result<Flocked> {
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Flocked(file)),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(FLOCK_POLL);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(io::ErrorKind::TimedOut.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// `resource.lock` + `.token` and the like.
pub(crate) fn beside(lock: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = lock.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Free bytes and inodes of the file system that holds `path`, for a message.
pub(crate) fn space(path: &Path) -> Option<Space> {
    let shown = rustix::fs::statvfs(path).ok()?;
    Some(Space {
        free_bytes: shown.f_bavail.saturating_mul(shown.f_frsize),
        free_inodes: shown.f_favail,
        inodes: shown.f_files,
    })
}

/// What a file system has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) free_bytes: u64,
    pub(crate) free_inodes: u64,
    /// 0 on file systems that have no such number (btrfs): then no inodes can run out.
    pub(crate) inodes: u64,
}

/// Removes a folder of ours that nobody else uses; what is left of it is harmless.
pub(crate) fn discard(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}
