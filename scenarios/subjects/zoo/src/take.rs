//! Taking the lock, free or from the dead.
//!
//! The lock's folder is made complete beside, and appears and disappears by one rename, inside the
//! recovery lock and after one more look there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use deadbeat_kit::{Lock, Tried};

use crate::beat::{Beats, Settings, acquisition_failed};
use crate::bugs::{Bug, Bugs};
use crate::files::{BEAT, Identity, OWNER, Stamp, beside, create_new, is_at, present};
use crate::held::Held;
use crate::look::{Action, Look, Watcher};
use crate::record::Record;
use crate::recovery::Inside;

/// How often a contender looks in a stale age.
const POLLS: u32 = 10;

/// The lock.
#[derive(Debug)]
pub(crate) struct ZooLock {
    lock: PathBuf,
    settings: Settings,
    /// How many acquisitions this process has had.
    taken: u32,
}

/// A published lock of this process.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) lock: PathBuf,
    folder: Identity,
    /// Open, so that no other folder gets this one's number.
    #[expect(dead_code, reason = "that it is open is what counts")]
    folder_file: File,
    pub(crate) record_identity: Identity,
    pub(crate) beat: File,
    pub(crate) beat_stamp: Stamp,
    nonce: String,
}

impl ZooLock {
    pub(crate) fn new(lock: PathBuf, stale: Duration, beat: Duration, bugs: Bugs) -> ZooLock {
        ZooLock { lock, settings: Settings { stale, beat, bugs }, taken: 0 }
    }

    /// One look, and what it allows. `None` if the lock cannot be had now.
    fn attempt(&self, watcher: &mut Watcher) -> io::Result<Option<Held>> {
        let (seen, action) = watcher.look()?;
        if action == Action::Wait {
            return Ok(None);
        }
        let Settings { stale, bugs, .. } = self.settings;
        let Some(inside) = Inside::enter(&self.lock, stale, bugs, Instant::now())? else {
            return Ok(None);
        };
        if bugs.has(Bug::NoRecoveryLock) {
            return self.take(watcher, &seen, action);
        }
        // Somebody may have been faster.
        let (seen, action) = watcher.look()?;
        let held = self.take(watcher, &seen, action);
        drop(inside);
        held
    }

    /// Clears what was seen, if it has to be, and publishes a lock of one's own.
    fn take(&self, watcher: &mut Watcher, seen: &Look, action: Action) -> io::Result<Option<Held>> {
        let bugs = self.settings.bugs;
        if action == Action::Wait {
            return Ok(None);
        }
        let owner = match seen {
            Look::Lock(seen) => seen.record.as_ref(),
            Look::Nothing | Look::NotAFolder => None,
        };
        let floor = owner.map_or(0, |owner| owner.token);
        let token = draw_token(&self.lock, floor, bugs)?;
        if action == Action::Clear && !self.clear(watcher, seen)? {
            return Ok(None);
        }
        let record = Record { token, ..watcher.me.clone() };
        let begun = Instant::now();
        let Some(placed) = publish(&self.lock, &record, bugs)? else { return Ok(None) };
        match Beats::start(&placed, self.settings, begun, self.taken) {
            Ok(beats) => {
                let token = (!bugs.has(Bug::Unfenced)).then_some(token);
                Ok(Some(Held::new(placed, beats, token, self.settings)))
            }
            Err(error) => {
                // Without a beat this must not be a lock.
                if placed.take_away()? {
                    placed.discard();
                }
                Err(error)
            }
        }
    }

    /// Takes away the lock that was seen. `false` if it is not to be taken away any more.
    fn clear(&self, watcher: &mut Watcher, seen: &Look) -> io::Result<bool> {
        let Look::Lock(seen) = seen else { return Ok(true) };
        let away = beside(&self.lock, &format!("old-{}", watcher.me.nonce));
        if self.settings.bugs.has(Bug::NoRecoveryLock) {
            // By its path: what is there now, whose ever it is.
            let _ = fs::rename(&self.lock, &away);
            let _ = fs::remove_dir_all(&away);
            return Ok(true);
        }
        // Drawing a token took a while; an owner may have beaten meanwhile.
        let (again, action) = watcher.look()?;
        let is_same = matches!(&again, Look::Lock(now) if now.signs.folder == seen.signs.folder);
        if !is_same || action != Action::Clear {
            return Ok(false);
        }
        let _ = fs::remove_dir_all(&away);
        if self.settings.bugs.has(Bug::BreaksTheBreaker) {
            // Nobody else is inside, or so it thinks.
            fs::rename(&self.lock, &away)?;
        } else {
            move_away(&self.lock, &away, seen.signs.folder)?;
        }
        let _ = fs::remove_dir_all(&away);
        Ok(true)
    }
}

impl Lock for ZooLock {
    type Guard = Held;

    fn acquire(&mut self, deadline: Instant) -> Tried<Held> {
        let Settings { stale, beat, bugs } = self.settings;
        let me = Record::of_this_process(stale, beat);
        let mut watcher = Watcher::new(self.lock.clone(), me, bugs);
        loop {
            let why = match self.attempt(&mut watcher) {
                Ok(Some(held)) => {
                    self.taken += 1;
                    return Tried::Taken(held);
                }
                Ok(None) => "somebody has it".to_owned(),
                // An error does not end the trying: a full disk may become free.
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                acquisition_failed(bugs);
                eprintln!("the lock {} could not be had in time: {why}", self.lock.display());
                return Tried::GaveUp;
            }
            std::thread::sleep(stale / POLLS);
        }
    }
}

/// Moves a lock's folder to another name. An error of the rename proves nothing, as its answer may
/// have been lost: what counts is where the folder is.
fn move_away(lock: &Path, away: &Path, folder: Identity) -> io::Result<()> {
    match (fs::rename(lock, away), is_at(away, folder)) {
        (_, Some(true)) | (Ok(()), None) => Ok(()),
        (Ok(()), Some(false)) => {
            // Somebody without the recovery lock was faster: it goes back.
            fs::rename(away, lock)?;
            Err(io::Error::other("another process changed the lock"))
        }
        (Err(error), _) => Err(error),
    }
}

/// Makes a complete lock and publishes it. `None` if another's is there.
fn publish(lock: &Path, record: &Record, bugs: Bugs) -> io::Result<Option<Placed>> {
    if bugs.has(Bug::HalfMade) || bugs.has(Bug::EmptyBlocks) {
        return publish_in_place(lock, record);
    }
    let new = beside(lock, &format!("new-{}", record.nonce));
    let _ = fs::remove_dir_all(&new);
    let prepared = fs::create_dir(&new).and_then(|()| fill(lock, &new, record, true));
    let placed = prepared.inspect_err(|_| {
        let _ = fs::remove_dir_all(&new);
    })?;
    match fs::rename(&new, lock) {
        Err(_) if bugs.has(Bug::BelievesTheAnswer) => {}
        // What counts is where the folder is, whatever the answer.
        Ok(()) => return Ok((is_at(lock, placed.folder) != Some(false)).then_some(placed)),
        Err(_) if is_at(lock, placed.folder) == Some(true) => return Ok(Some(placed)),
        Err(_) => {}
    }
    let _ = fs::remove_dir_all(&new);
    Ok(None)
}

/// Makes the lock where everybody sees it, piece by piece, and leaves what there is of it should
/// that fail.
fn publish_in_place(lock: &Path, record: &Record) -> io::Result<Option<Placed>> {
    match fs::create_dir(lock) {
        Ok(()) => fill(lock, lock, record, false).map(Some),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes everything of a lock in a new folder.
fn fill(lock: &Path, folder: &Path, record: &Record, reads_back: bool) -> io::Result<Placed> {
    let path = folder.join(OWNER);
    let text = record.to_text();
    let mut file = create_new(&path)?;
    file.write_all(text.as_bytes())?;
    if reads_back && fs::read(&path)? != text.as_bytes() {
        return Err(io::Error::other("the record does not read back"));
    }
    let beat = create_new(&folder.join(BEAT))?;
    let folder_file = File::open(folder)?;
    Ok(Placed {
        lock: lock.to_owned(),
        folder: Identity::of(&folder_file.metadata()?),
        folder_file,
        record_identity: Identity::of(&file.metadata()?),
        beat_stamp: Stamp::of(&beat.metadata()?),
        beat,
        nonce: record.nonce.clone(),
    })
}

/// Draws a token above everything that is known: the last one, the floor, and the clock.
fn draw_token(lock: &Path, floor: u64, bugs: Bugs) -> io::Result<u64> {
    if bugs.has(Bug::Unfenced) {
        return Ok(0);
    }
    let path = beside(lock, "token");
    let forgets = bugs.has(Bug::ForgetsTokens);
    let last = match present(fs::read_to_string(&path)) {
        Err(_) if forgets => None,
        other => other?,
    };
    // A torn one is none: the floor and the clock stand in for it.
    let last = last.and_then(|text| text.strip_suffix(" end\n")?.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let clock = u64::try_from(now.as_micros()).unwrap_or(u64::MAX - 1);
    let known = if forgets { last.unwrap_or(0) } else { last.unwrap_or(0).max(floor).max(clock) };
    let next = known.checked_add(1).ok_or_else(|| io::Error::other("the tokens are used up"))?;
    let text = format!("{next} end\n");
    let new = beside(lock, "token.new");
    fs::write(&new, &text)?;
    if fs::read_to_string(&new)? != text {
        return Err(io::Error::other("the token does not read back"));
    }
    fs::rename(&new, &path)?;
    Ok(next)
}

impl Placed {
    /// Where it is moved to when it is given back.
    fn away(&self) -> PathBuf {
        beside(&self.lock, &format!("old-{}", self.nonce))
    }

    /// Moves the lock away. `false` if it is not one's own any more, and was not touched.
    pub(crate) fn take_away(&self) -> io::Result<bool> {
        let seen = present(fs::symlink_metadata(&self.lock))?;
        if seen.is_none_or(|meta| Identity::of(&meta) != self.folder) {
            return Ok(false);
        }
        move_away(&self.lock, &self.away(), self.folder).map(|()| true)
    }

    /// Removes what was moved away; what is left of it is harmless.
    pub(crate) fn discard(&self) {
        let _ = fs::remove_dir_all(self.away());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock_at(path: &Path, bugs: Bugs) -> ZooLock {
        ZooLock::new(path.to_owned(), Duration::from_secs(60), Duration::from_secs(20), bugs)
    }

    #[test]
    fn tokens_rise_without_their_file_unless_they_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        let first = draw_token(&lock, 0, Bugs::none()).unwrap();
        assert!(draw_token(&lock, 0, Bugs::none()).unwrap() > first);
        fs::remove_file(beside(&lock, "token")).unwrap();
        assert!(draw_token(&lock, 0, Bugs::none()).unwrap() > first);
        fs::write(beside(&lock, "token"), "12").unwrap();
        assert_eq!(draw_token(&lock, 0, Bugs::new(&[Bug::ForgetsTokens])).unwrap(), 1);
    }

    #[test]
    fn a_lock_is_had_by_one_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        let Tried::Taken(held) = lock_at(&path, Bugs::none()).acquire(Instant::now()) else {
            panic!("free")
        };
        assert!(matches!(lock_at(&path, Bugs::none()).acquire(Instant::now()), Tried::GaveUp));
        deadbeat_kit::Guard::release(held).unwrap();
        let names = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["l.recovery", "l.token"]);
    }
}
