//! The plain heartbeat lock that so many projects wrote by hand: a folder made by `mkdir`, a file
//! in it whose mtime a thread refreshes, and contenders who take a lock whose mtime is old.
//!
//! It tells its user nothing, and believes the age alone.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use deadbeat_kit::{Guard, Lock, Notice, Tried};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

/// How often a contender looks.
const POLL: Duration = Duration::from_millis(25);

/// The lock.
#[derive(Debug)]
pub(crate) struct PlainLock {
    folder: PathBuf,
    stale: Duration,
    beat: Duration,
}

impl PlainLock {
    pub(crate) fn new(folder: PathBuf, stale: Duration, beat: Duration) -> PlainLock {
        PlainLock { folder, stale, beat }
    }

    fn beat_file(&self) -> PathBuf {
        self.folder.join("beat")
    }

    /// Whether the lock looks dead: by the beat's mtime, or the folder's where there is none.
    fn is_stale(&self) -> bool {
        let mtime = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
        let age = mtime(&self.beat_file())
            .or_else(|_| mtime(&self.folder))
            .map(|then| SystemTime::now().duration_since(then).unwrap_or_default());
        age.is_ok_and(|age| age >= self.stale)
    }

    fn take(&self) -> io::Result<()> {
        fs::create_dir(&self.folder)?;
        File::create(self.beat_file()).map(drop)
    }
}

impl Lock for PlainLock {
    type Guard = PlainGuard;

    fn acquire(&mut self, deadline: Instant) -> Tried<PlainGuard> {
        loop {
            match self.take() {
                Ok(()) => return Tried::Taken(PlainGuard::new(self)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Tried::Failed(error.to_string()),
            }
            if self.is_stale() {
                // Whoever is faster has it; the other finds it taken.
                let _ = fs::remove_dir_all(&self.folder);
                continue;
            }
            if Instant::now() >= deadline {
                return Tried::GaveUp;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The lock, held and refreshed.
#[derive(Debug)]
pub(crate) struct PlainGuard {
    folder: PathBuf,
    /// Dropping it ends the beat thread.
    stop: Sender<()>,
    beats: JoinHandle<()>,
}

impl PlainGuard {
    fn new(lock: &PlainLock) -> PlainGuard {
        let (stop, stopped) = mpsc::channel();
        let (file, every) = (lock.beat_file(), lock.beat);
        let beats = std::thread::spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let _ = touch(&file);
            }
        });
        PlainGuard { folder: lock.folder.clone(), stop, beats }
    }
}

impl Guard for PlainGuard {
    fn token(&self) -> Option<u64> {
        None
    }

    fn next_notice(&self, patience: Duration) -> Option<Notice> {
        std::thread::sleep(patience);
        None
    }

    fn release(self) -> Result<(), String> {
        drop(self.stop);
        // A beat that panicked refreshes nothing any more, which is all that is wanted.
        let _ = self.beats.join();
        let removed = fs::remove_dir_all(&self.folder);
        removed.map_err(|error| error.to_string())
    }
}

fn touch(file: &Path) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(utimensat(CWD, file, &times, AtFlags::empty())?)
}
