//! The lock around publishing, clearing and giving back: a flock(2), which no age ever breaks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::bugs::{Bug, Bugs};
use crate::files::{Identity, beside, is_at};

/// How often it is tried while somebody else is inside.
const POLL: Duration = Duration::from_millis(5);

/// The proof that this process is inside; dropping it is leaving.
#[derive(Debug)]
pub(crate) enum Inside {
    Flock(#[expect(dead_code, reason = "its flock is what counts")] File),
    Breaker(PathBuf),
    Nothing,
}

impl Inside {
    /// Enters, trying at least once and until `deadline`; `None` if somebody else is inside.
    pub(crate) fn enter(
        lock: &Path,
        stale: Duration,
        bugs: Bugs,
        deadline: Instant,
    ) -> io::Result<Option<Inside>> {
        loop {
            let entered = if bugs.has(Bug::NoRecoveryLock) {
                Some(Inside::Nothing)
            } else if bugs.has(Bug::BreaksTheBreaker) {
                make_breaker(&beside(lock, "recovery"), stale)?
            } else {
                take_flock(&beside(lock, "recovery"))?
            };
            if entered.is_some() || Instant::now() >= deadline {
                return Ok(entered);
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Inside::Breaker(folder) = self {
            // Whose ever it is by now.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn take_flock(path: &Path) -> io::Result<Option<Inside>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        // A file that is not at its name any more keeps nobody out.
        Ok(()) => {
            let identity = Identity::of(&file.metadata()?);
            Ok((is_at(path, identity) == Some(true)).then_some(Inside::Flock(file)))
        }
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn make_breaker(path: &Path, stale: Duration) -> io::Result<Option<Inside>> {
    match fs::create_dir(path) {
        Ok(()) => return Ok(Some(Inside::Breaker(path.to_owned()))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let made = fs::symlink_metadata(path)?.modified()?;
    if SystemTime::now().duration_since(made).unwrap_or_default() >= stale {
        // Whoever made it must be dead; the next try makes a new one.
        let _ = fs::remove_dir(path);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_inside_and_a_breaker_is_broken_by_its_age_alone() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        let enter = |stale, bugs| Inside::enter(&lock, stale, bugs, Instant::now()).unwrap();
        let first = enter(Duration::ZERO, Bugs::none());
        assert!(first.is_some() && enter(Duration::ZERO, Bugs::none()).is_none());
        drop(first);
        fs::remove_file(beside(&lock, "recovery")).unwrap();
        let breaks = Bugs::new(&[Bug::BreaksTheBreaker]);
        let one = enter(Duration::from_secs(3600), breaks);
        assert!(one.is_some() && enter(Duration::from_secs(3600), breaks).is_none());
        assert!(enter(Duration::ZERO, breaks).is_none(), "broken, and made at the next try");
        assert!(enter(Duration::ZERO, breaks).is_some());
    }
}
