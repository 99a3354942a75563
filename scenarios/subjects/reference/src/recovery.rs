//! The recovery lock: whoever publishes, clears or releases a lock does it alone.
//!
//! It is a flock(2) on `resource.lock.recovery`. Age never breaks it: the kernel frees it when the
//! process that has it dies, and only then. So:
//!
//! | what becomes of the one inside | before its rename | after its rename |
//! |---|---|---|
//! | dies | nothing has happened; a `.new-…` folder may be left over | the rename was the whole step; an `.old-…` folder may be left over |
//! | is stopped, or hangs | the others wait for it: what it would do when it goes on is right only if nobody else was inside | the same |
//!
//! Waiting is bounded: whoever cannot get in says so, and has changed nothing. The file is never
//! removed by this library. If a third party removes it, two may be inside at once; then the
//! identity checks around each rename (module `place`) notice, and the tokens protect the resource.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::files::{Identity, beside};

/// How often it is tried while somebody else is inside.
const POLL: Duration = Duration::from_millis(5);

/// The proof that this process is inside; dropping it is leaving.
#[derive(Debug)]
pub(crate) struct Recovery(#[expect(dead_code, reason = "its flock is what counts")] File);

impl Recovery {
    /// Enters, trying at least once and until `deadline`. `None` if somebody else is inside.
    pub(crate) fn enter(lock: &Path, deadline: Instant) -> io::Result<Option<Recovery>> {
        let path = beside(lock, "recovery");
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    // A file that is not at its name any more keeps nobody out.
                    if is_at(&file, &path)? {
                        return Ok(Some(Recovery(file)));
                    }
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Whether a file is still the one at its name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    Ok(Identity::at(path)? == Some(Identity::of(&file.metadata()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_inside_until_it_leaves_and_a_removed_file_lets_nobody_stay_out() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        let enter = || Recovery::enter(&lock, Instant::now()).unwrap();
        let first = enter().unwrap();
        assert!(enter().is_none());
        drop(first);
        let second = enter().unwrap();
        let path = beside(&lock, "recovery");
        let old = File::open(&path).unwrap();
        assert!(is_at(&old, &path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&old, &path).unwrap());
        // The new file is another one, and its flock is free.
        assert!(enter().is_some());
        assert!(!is_at(&old, &path).unwrap());
        drop(second);
    }
}
