//! What the lock does to files, in small pieces.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How long removing what nobody needs any more may keep anybody waiting.
const SWEEP_WAIT: Duration = Duration::from_millis(200);

/// A file's identity while it exists. Its number may be given to another file afterwards: who
/// compares identities over time keeps the file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(meta: &fs::Metadata) -> Identity {
        Identity { device: meta.dev(), inode: meta.ino() }
    }

    /// Of what `path` itself is; `None` if there is nothing.
    pub(crate) fn at(path: &Path) -> io::Result<Option<Identity>> {
        present(fs::symlink_metadata(path)).map(|meta| meta.map(|meta| Identity::of(&meta)))
    }
}

/// A file as it was at one look. Two that are equal say that nothing happened to it in between;
/// its time is compared with nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) identity: Identity,
    pub(crate) mtime: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(meta: &fs::Metadata) -> Stamp {
        Stamp { identity: Identity::of(meta), mtime: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// `None` where nothing is there. Any other error stays one: it does not mean that.
pub(crate) fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens for reading what somebody else made: no link is followed, and no pipe is waited for.
pub(crate) fn open_warily(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// `resource.lock` + `.token` and the like.
pub(crate) fn beside(lock: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = lock.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// The folder that a path is in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes the names in an open folder last (fsync(2): a file's own fsync does not do that).
pub(crate) fn sync_folder(folder: &File) -> io::Result<()> {
    match folder.sync_all() {
        // Some file systems have nothing to sync of a folder.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other,
    }
}

/// What a file system has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) free_bytes: u64,
    pub(crate) free_inodes: u64,
    /// 0 on file systems that have no such number (btrfs): then no inodes can run out.
    pub(crate) inodes: u64,
}

/// Free bytes and inodes of the file system that holds an open file, for a message.
pub(crate) fn space(file: &File) -> Option<Space> {
    let shown = rustix::fs::fstatvfs(file).ok()?;
    Some(Space {
        free_bytes: shown.f_bavail.saturating_mul(shown.f_frsize),
        free_inodes: shown.f_favail,
        inodes: shown.f_files,
    })
}

/// Removes a folder of ours that nobody else uses; what is left of it is harmless.
pub(crate) fn discard(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}

/// Removes such folders without waiting long for a file system that hangs.
pub(crate) fn sweep(folders: Vec<PathBuf>) {
    if !folders.is_empty() {
        let swept = move || folders.iter().for_each(|folder| discard(folder));
        let _ = bounded("lock-sweep", Instant::now() + SWEEP_WAIT, swept);
    }
}

/// Does `work` on a thread of its own and waits for it until `deadline`; `None` if it has not come
/// back by then. Its result is dropped, should it come later. Where no thread can be had the work
/// is done here, without a bound.
pub(crate) fn bounded<T: Send + 'static>(
    name: &str,
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (send, receive) = channel();
    let slot = Arc::new(Mutex::new(Some(work)));
    let its_slot = Arc::clone(&slot);
    let take = |slot: &Mutex<Option<_>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let spawned = Builder::new().name(name.to_owned()).spawn(move || {
        if let Some(work) = take(&its_slot) {
            // Nobody waits for it any more: it is dropped, and that gives a lock back.
            let _ = send.send(work());
        }
    });
    if spawned.is_err() {
        return take(&slot).map(|work| work());
    }
    receive.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_not_waited_for_and_its_result_is_dropped() {
        let (go, wait) = channel::<()>();
        let (told, dropped) = channel();
        struct Tells(std::sync::mpsc::Sender<()>);
        impl Drop for Tells {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let soon = Instant::now() + Duration::from_millis(20);
        let hung = bounded("hangs", soon, move || {
            let _ = wait.recv();
            Tells(told)
        });
        assert!(hung.is_none());
        go.send(()).unwrap();
        dropped.recv_timeout(Duration::from_secs(10)).unwrap();
        let later = Instant::now() + Duration::from_secs(10);
        assert_eq!(bounded("returns", later, || 7), Some(7));
    }

    #[test]
    fn a_bare_name_is_in_this_folder() {
        assert_eq!(parent(Path::new("a.lock")), Path::new("."));
        assert_eq!(parent(Path::new("/x/a.lock")), Path::new("/x"));
        assert_eq!(beside(Path::new("x/a.lock"), "token"), Path::new("x/a.lock.token"));
    }
}
