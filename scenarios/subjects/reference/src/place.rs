//! The lock's folder: made complete beside, published by one rename, taken away by one rename.
//!
//! Each rename is made inside the recovery lock, under a check before it and a check after it: the
//! first because a name may lead elsewhere by now, the second because the recovery lock keeps only
//! those out who use this library. An error of a rename proves nothing (its answer may have been
//! lost), so what counts is where the folder is afterwards.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::files::{Identity, Stamp, beside, discard, parent, sync_folder};
use crate::owner::Owner;
use crate::recovery::Recovery;

/// The record's name in a lock's folder.
pub(crate) const OWNER: &str = "owner";
/// The name of the file that a beat refreshes.
pub(crate) const BEAT: &str = "beat";
/// How long a release that failed waits before it tries again.
const RETRY: Duration = Duration::from_millis(10);
/// How many names are looked at when leftovers are looked for.
const NAMES_MAX: usize = 10_000;

/// A published lock of this process.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) lock: PathBuf,
    folder: Identity,
    /// Open, so that no other folder gets this one's number.
    #[expect(dead_code, reason = "that it is open is what counts")]
    folder_file: File,
    /// The record. Its flock is the life lock, which ends when this is closed.
    #[expect(dead_code, reason = "that it is open is what counts")]
    record: File,
    pub(crate) record_identity: Identity,
    /// The beat's file; its owner's descriptor refreshes nothing else.
    pub(crate) beat: File,
    pub(crate) beat_stamp: Stamp,
    nonce: String,
}

/// A lock could not be given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// It was lost before: it is gone, or another's, and was not touched.
    #[error("the lock {} is gone, or another's by now; nothing was touched", .0.display())]
    NotMine(PathBuf),
    /// Another process was inside the recovery lock all the time. Whoever wants the lock gets it
    /// after stale-after.
    #[error("the lock {} could not be given back: {}.recovery was in use all the time", .0.display(), .0.display())]
    Busy(PathBuf),
    /// The file system did not answer in time.
    #[error("giving back the lock {} did not return in time", .0.display())]
    Hung(PathBuf),
    /// The file system refused. Whoever wants the lock gets it after stale-after.
    #[error("the lock {} could not be given back", lock.display())]
    Io {
        /// Which lock.
        lock: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes a complete lock and publishes it. `None` if another's is there.
pub(crate) fn publish(
    lock: &Path,
    owner: &Owner,
    _inside: &Recovery,
) -> io::Result<Option<Placed>> {
    let new = beside(lock, &format!("new-{}", owner.nonce));
    let placed = match prepare(lock, &new, owner) {
        Ok(placed) => placed,
        Err(error) => {
            // On a full disk as well, nothing of it stays.
            discard(&new);
            return Err(error);
        }
    };
    match fs::rename(&new, lock) {
        Ok(()) => Ok(is_at(lock, placed.folder).unwrap_or(true).then_some(placed)),
        Err(_) if is_at(lock, placed.folder) == Some(true) => Ok(Some(placed)),
        Err(error) => {
            // Should it be in place after all: its life lock ends here, so it is nobody's.
            discard(&new);
            match error.raw_os_error() {
                Some(libc::ENOTEMPTY | libc::EEXIST | libc::ENOTDIR) => Ok(None),
                _ => Err(error),
            }
        }
    }
}

/// Whether a name leads to a folder; `None` if nobody can tell. A second look, since one error may
/// be a passing one.
fn is_at(path: &Path, folder: Identity) -> Option<bool> {
    let look = || Identity::at(path).ok();
    look().or_else(look).map(|there| there == Some(folder))
}

/// Makes everything of a lock, under a name that nobody looks at.
fn prepare(lock: &Path, new: &Path, owner: &Owner) -> io::Result<Placed> {
    fs::create_dir(new)?;
    let path = new.join(OWNER);
    let create = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
    };
    let mut record = create(&path)?;
    flock(&record, FlockOperation::NonBlockingLockExclusive)?;
    let text = owner.to_record();
    record.write_all(text.as_bytes())?;
    record.sync_all()?;
    // Whatever a file system says of a write: a lock whose record cannot be read is not published.
    if fs::read(&path)? != text.as_bytes() {
        return Err(io::Error::other("the lock's record does not read back"));
    }
    let beat = create(&new.join(BEAT))?;
    let folder_file = File::open(new)?;
    // So that a crash of the machine does not publish a folder without its files.
    sync_folder(&folder_file)?;
    Ok(Placed {
        lock: lock.to_path_buf(),
        folder: Identity::of(&folder_file.metadata()?),
        folder_file,
        record_identity: Identity::of(&record.metadata()?),
        record,
        beat_stamp: Stamp::of(&beat.metadata()?),
        beat,
        nonce: owner.nonce.clone(),
    })
}

/// Moves a lock's folder away, and says where it is now, for [`discard`]: removing it takes longer
/// than the recovery lock is to be held. `None` if another folder was there; that is not touched.
pub(crate) fn take_away(
    lock: &Path,
    folder: Identity,
    name: &str,
    _inside: &Recovery,
) -> io::Result<Option<PathBuf>> {
    if Identity::at(lock)? != Some(folder) {
        return Ok(None);
    }
    let away = beside(lock, &format!("old-{name}"));
    let renamed = fs::rename(lock, &away);
    match (renamed, is_at(&away, folder)) {
        // Also where it cannot be looked at: it was moved, and its number is in nobody's way.
        (_, Some(true)) | (Ok(()), None) => Ok(Some(away)),
        // Somebody who does not use the recovery lock was faster: it goes back where it was, unless
        // the name is taken already.
        (Ok(()), Some(false)) => {
            fs::rename(&away, lock)?;
            Ok(None)
        }
        (Err(error), _) => Err(error),
    }
}

/// What crashed processes left beside the lock. Nobody else is inside, so nobody uses it now, and
/// nobody will: its names are given once.
pub(crate) fn leftovers(lock: &Path, _inside: &Recovery) -> Vec<PathBuf> {
    let Some(name) = lock.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let prefixes = [format!("{name}.new-"), format!("{name}.old-")];
    let is_leftover = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
    };
    let entries = fs::read_dir(parent(lock)).into_iter().flatten().flatten();
    entries.take(NAMES_MAX).filter(is_leftover).map(|entry| entry.path()).collect()
}

impl Placed {
    /// Takes back what was just published. What stays has no life lock any more.
    pub(crate) fn unpublish(self, inside: &Recovery) {
        if let Ok(Some(away)) = take_away(&self.lock, self.folder, &self.nonce, inside) {
            discard(&away);
        }
    }

    /// Gives the lock back, trying until `deadline`, and says which folder is to be removed now.
    /// Touches nobody else's. However it ends, the life lock ends with it.
    pub(crate) fn give_back(self, deadline: Instant) -> Result<PathBuf, ReleaseError> {
        loop {
            let result = self.try_to_give_back(deadline);
            let may_pass = matches!(result, Err(ReleaseError::Io { .. }));
            if !may_pass || Instant::now() >= deadline {
                return result;
            }
            std::thread::sleep(RETRY);
        }
    }

    fn try_to_give_back(&self, deadline: Instant) -> Result<PathBuf, ReleaseError> {
        let failed = |source| ReleaseError::Io { lock: self.lock.clone(), source };
        let inside = Recovery::enter(&self.lock, deadline).map_err(failed)?;
        let inside = inside.ok_or_else(|| ReleaseError::Busy(self.lock.clone()))?;
        let away = take_away(&self.lock, self.folder, &self.nonce, &inside).map_err(failed)?;
        away.ok_or_else(|| ReleaseError::NotMine(self.lock.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::{Ages, Here};

    const AGES: Ages = Ages { stale: Duration::from_secs(9), beat: Duration::from_secs(3) };

    fn inside(lock: &Path) -> Recovery {
        let deadline = Instant::now() + Duration::from_secs(20);
        Recovery::enter(lock, deadline).unwrap().unwrap()
    }

    fn published(lock: &Path) -> Placed {
        publish(lock, &Here::new(AGES).owner(1), &inside(lock)).unwrap().unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_published_is_complete_and_what_is_given_back_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        let placed = published(&lock);
        assert_eq!(names(&lock), [BEAT, OWNER]);
        assert!(publish(&lock, &Here::new(AGES).owner(2), &inside(&lock)).unwrap().is_none());
        assert_eq!(names(folder.path()), ["l", "l.recovery"], "the loser leaves nothing");
        discard(&placed.give_back(Instant::now()).unwrap());
        assert_eq!(names(folder.path()), ["l.recovery"]);
    }

    #[test]
    fn a_lock_that_is_anothers_by_now_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        let lost = published(&lock);
        fs::rename(&lock, folder.path().join("elsewhere")).unwrap();
        let heir = published(&lock);
        let folder_of_lost = lost.folder;
        let listing = fs::metadata(folder.path()).unwrap().modified().unwrap();
        let released = lost.give_back(Instant::now());
        assert!(matches!(released, Err(ReleaseError::NotMine(_))), "{released:?}");
        assert!(take_away(&lock, folder_of_lost, "x", &inside(&lock)).unwrap().is_none());
        let listing_now = fs::metadata(folder.path()).unwrap().modified().unwrap();
        assert_eq!(listing_now, listing, "not even moved away and back");
        assert_eq!(names(&lock), [BEAT, OWNER]);
        heir.give_back(Instant::now()).unwrap();
    }

    #[test]
    fn a_lock_that_cannot_be_made_complete_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        let owner = Here::new(AGES).owner(1);
        let half_made = beside(&lock, &format!("new-{}", owner.nonce));
        fs::create_dir(&half_made).unwrap();
        assert!(publish(&lock, &owner, &inside(&lock)).is_err());
        assert_eq!(names(folder.path()), ["l.recovery"]);
    }

    #[test]
    fn a_release_does_not_wait_for_ever_for_the_recovery_lock() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        let placed = published(&lock);
        let somebody = inside(&lock);
        let released = placed.give_back(Instant::now() + Duration::from_millis(20));
        assert!(matches!(released, Err(ReleaseError::Busy(_))), "{released:?}");
        drop(somebody);
    }

    #[test]
    fn leftovers_of_the_dead_are_found_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        for name in ["l.new-1", "l.old-2", "ll.new-3", "l.newer"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("x"), "").unwrap();
        }
        leftovers(&lock, &inside(&lock)).iter().for_each(|path| discard(path));
        assert_eq!(names(folder.path()), ["l.newer", "l.recovery", "ll.new-3"]);
    }
}
