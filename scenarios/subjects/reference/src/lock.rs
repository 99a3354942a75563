//! Taking the lock, taking it over from the dead, and giving it back.
//!
//! # Invariants
//! - The lock's folder appears complete, by one rename; nobody ever sees a lock without an owner.
//! - It disappears by one rename as well, under a check that it is the folder that was meant.
//! - Only whoever has the recovery lock moves another's folder away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime};

use crate::beat::{Beats, Event, Pulse, beat_file};
use crate::files::{Identity, beside, discard, flock_until};
use crate::owner::{Fate, Owner, RECORD_BYTES_MAX};
use crate::policy::{Health, Policy};
use crate::token;

/// How long a fencing token may take to be drawn.
const TOKEN_WAIT: Duration = Duration::from_secs(1);

/// How a lock behaves. All who use one lock must agree on it.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The age at which an owner that cannot be judged may be thought dead.
    pub stale: Duration,
    /// How often the lock is refreshed.
    pub beat: Duration,
    /// How often a contender looks.
    pub poll: Duration,
    /// What the holder does about a lost lock.
    pub policy: Policy,
}

/// The lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Patience ended.
    #[error("lock {} could not be had in time{}", lock.display(), last.as_deref().map(|why| format!(": {why}")).unwrap_or_default())]
    TimedOut {
        /// Which lock.
        lock: PathBuf,
        /// The last error on the way, if there was one: a full disk, say.
        last: Option<String>,
    },
    /// This process cannot say who it is.
    #[error("this process cannot identify itself")]
    Identity(#[source] io::Error),
}

/// A lock, not held yet.
#[derive(Debug)]
pub struct ReferenceLock {
    lock: PathBuf,
    config: Config,
    watched: Option<Watched>,
}

/// A beat that a contender has been looking at, and since when by its own clock: the age of an
/// mtime means nothing across hosts and clock steps, this does.
#[derive(Debug, PartialEq)]
struct Watched {
    identity: Identity,
    mtime: Option<SystemTime>,
    since: Instant,
}

impl ReferenceLock {
    /// The lock at `lock`.
    #[must_use]
    pub fn new(lock: impl Into<PathBuf>, config: Config) -> ReferenceLock {
        ReferenceLock { lock: lock.into(), config, watched: None }
    }

    /// Takes the lock, or tries to until `deadline`. Errors of the file system do not end the
    /// trying: a full disk may become free.
    ///
    /// # Errors
    /// It could not be had in time.
    pub fn acquire(&mut self, deadline: Instant) -> Result<Guard, LockError> {
        let me = Owner::this_process().map_err(LockError::Identity)?;
        let mut last;
        loop {
            match self.step(&me) {
                Ok(Tried::Taken(guard)) => return Ok(guard),
                Ok(Tried::Freed) => continue,
                Ok(Tried::Busy) => last = None,
                Err(error) => last = Some(error.to_string()),
            }
            if Instant::now() >= deadline {
                return Err(LockError::TimedOut { lock: self.lock.clone(), last });
            }
            std::thread::sleep(self.config.poll);
        }
    }

    fn step(&mut self, me: &Owner) -> io::Result<Tried> {
        match fs::symlink_metadata(&self.lock) {
            Ok(meta) => {
                let freed = self.take_over(me, Identity::of(&meta))?;
                Ok(if freed { Tried::Freed } else { Tried::Busy })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(self.take(me)?.map_or(Tried::Busy, Tried::Taken))
            }
            // Any other error says nothing about the lock: least of all that it is free.
            Err(error) => Err(error),
        }
    }

    /// Makes a complete lock beside, and moves it into place.
    fn take(&self, me: &Owner) -> io::Result<Option<Guard>> {
        let prepared = beside(&self.lock, &me.nonce);
        let begun = Instant::now();
        let made = prepare(&prepared, me);
        let (file, folder) = made.inspect_err(|_| discard(&prepared))?;
        if let Err(error) = fs::rename(&prepared, &self.lock) {
            discard(&prepared);
            return match error.raw_os_error() {
                Some(libc::ENOTEMPTY | libc::EEXIST) => Ok(None),
                _ => Err(error),
            };
        }
        let owned = Owned { lock: self.lock.clone(), folder, nonce: me.nonce.clone() };
        match self.arm(&owned, file, begun) {
            Ok(Some((token, beats))) => {
                Ok(Some(Guard { owned, token, beats: Some(beats), policy: self.config.policy }))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                // Without a token or a beat this must not be a lock; what cannot be given back
                // now is freed by this process's death.
                let _ = owned.give_back();
                Err(error)
            }
        }
    }

    /// Draws the token and starts the beat. `None` if somebody moved the lock away meanwhile.
    fn arm(&self, owned: &Owned, file: File, begun: Instant) -> io::Result<Option<(u64, Beats)>> {
        let token = token::next(&beside(&self.lock, "token"), Instant::now() + TOKEN_WAIT)?;
        // After the token: whoever takes the lock from now on draws a higher one.
        if !owned.is_in_place()? {
            return Ok(None);
        }
        let identity = Identity::of(&file.metadata()?);
        let beat = beat_file(&self.lock);
        let pulse = Pulse { lock: self.lock.clone(), beat, file, identity };
        let beats = Beats::start(pulse, self.config.stale, self.config.beat, begun)?;
        Ok(Some((token, beats)))
    }

    /// Moves a dead owner's lock away. Says whether it did.
    fn take_over(&mut self, me: &Owner, folder: Identity) -> io::Result<bool> {
        let record = read_record(&self.lock)?;
        if !self.may_take_over(record.as_ref(), me, folder)? {
            return Ok(false);
        }
        let recovery = beside(&self.lock, "recovery");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(recovery)?;
        let Ok(_recovery) = flock_until(file, Instant::now()) else { return Ok(false) };
        // Somebody may have been faster before the recovery lock was ours.
        let same_folder =
            fs::symlink_metadata(&self.lock).is_ok_and(|meta| Identity::of(&meta) == folder);
        if !same_folder || read_record(&self.lock)? != record {
            return Ok(false);
        }
        let dead = Owned { lock: self.lock.clone(), folder, nonce: format!("dead-{}", me.nonce) };
        self.watched = None;
        dead.give_back().map(|()| true)
    }

    /// Whether the owner is dead, or cannot be judged and has been silent for stale-after.
    fn may_take_over(
        &mut self,
        record: Option<&Owner>,
        me: &Owner,
        folder: Identity,
    ) -> io::Result<bool> {
        match record.map_or(Fate::Unknown, |owner| owner.fate(me)) {
            Fate::Alive => Ok(false),
            Fate::Dead => Ok(true),
            Fate::Unknown => {
                let mtime = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
                let mtime = match mtime(&beat_file(&self.lock)) {
                    Ok(mtime) => Some(mtime),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                };
                let is_same = self
                    .watched
                    .as_ref()
                    .is_some_and(|seen| seen.identity == folder && seen.mtime == mtime);
                if !is_same {
                    let since = Instant::now();
                    self.watched = Some(Watched { identity: folder, mtime, since });
                }
                let since = self.watched.as_ref().map_or_else(Instant::now, |seen| seen.since);
                // A beat more than stale-after: the contender's first look may have come late.
                Ok(since.elapsed() >= self.config.stale + self.config.beat)
            }
        }
    }
}

/// What one look at the lock came to.
enum Tried {
    Taken(Guard),
    Freed,
    Busy,
}

/// Makes a complete lock: owner, then beat. On a full disk nothing of it stays.
fn prepare(folder: &Path, me: &Owner) -> io::Result<(File, Identity)> {
    fs::create_dir(folder)?;
    let mut owner = OpenOptions::new().write(true).create_new(true).open(folder.join("owner"))?;
    owner.write_all(me.to_record().as_bytes())?;
    owner.sync_all()?;
    let beat = OpenOptions::new().write(true).create_new(true).open(beat_file(folder))?;
    Ok((beat, Identity::of(&fs::symlink_metadata(folder)?)))
}

/// The owner's record; `None` if there is none that can be read as one. An error is an error: it
/// does not mean that nobody owns the lock.
fn read_record(lock: &Path) -> io::Result<Option<Owner>> {
    let file = match File::open(lock.join("owner")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(RECORD_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(Owner::from_record(&String::from_utf8_lossy(&bytes)))
}

/// A folder that is known by its identity, wherever its name leads by now.
#[derive(Debug)]
struct Owned {
    lock: PathBuf,
    folder: Identity,
    nonce: String,
}

impl Owned {
    /// Whether the lock's name leads to this folder.
    fn is_in_place(&self) -> io::Result<bool> {
        match fs::symlink_metadata(&self.lock) {
            Ok(meta) => Ok(Identity::of(&meta) == self.folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Moves this folder away in one step, and removes it there. Touches nobody else's.
    fn give_back(&self) -> io::Result<()> {
        if !self.is_in_place()? {
            return Err(io::Error::other("the lock is gone, or another's"));
        }
        let away = beside(&self.lock, &format!("released-{}", self.nonce));
        fs::rename(&self.lock, &away)?;
        let moved = Identity::of(&fs::symlink_metadata(&away)?);
        if moved != self.folder {
            // Replaced between the look and the rename: it goes back where it was, unless
            // somebody has taken the free name already.
            return match fs::rename(&away, &self.lock) {
                Ok(()) => Err(io::Error::other("the lock is another's")),
                Err(error) => Err(error),
            };
        }
        discard(&away);
        Ok(())
    }
}

/// A lock that is held. Dropping it releases it.
#[derive(Debug)]
#[must_use]
pub struct Guard {
    owned: Owned,
    token: u64,
    beats: Option<Beats>,
    policy: Policy,
}

impl Guard {
    /// The fencing token: higher than every one before it. The protected resource is to refuse
    /// whatever comes with a lower one.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// How the lock is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.beats.as_ref().map_or(Health::Lost, Beats::health)
    }

    /// What the holder is to do once the lock is lost.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What the lock tells its holder, as it happens.
    ///
    /// # Panics
    /// Never: the beat ends only with the guard.
    #[must_use]
    pub fn events(&self) -> &Receiver<Event> {
        self.beats.as_ref().expect("the beat ends only with the guard").events()
    }

    /// Gives the lock back. What is not one's own any more is not touched.
    ///
    /// # Errors
    /// The lock was gone or another's, or the file system refused.
    pub fn release(mut self) -> io::Result<()> {
        self.beats.take();
        self.owned.give_back()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.beats.take().is_some() {
            // Nobody is left to be told; a dead owner's lock is taken over.
            let _ = self.owned.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            stale: Duration::from_millis(400),
            beat: Duration::from_millis(50),
            poll: Duration::from_millis(5),
            policy: Policy::Abort,
        }
    }

    fn soon(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    /// A lock whose owner's record says what `change` makes of this process.
    fn foreign(lock: &Path, change: impl FnOnce(&mut Owner)) {
        let mut owner = Owner::this_process().unwrap();
        change(&mut owner);
        fs::create_dir(lock).unwrap();
        fs::write(lock.join("owner"), owner.to_record()).unwrap();
        fs::write(lock.join("beat"), "").unwrap();
    }

    #[test]
    fn it_excludes_and_frees_and_its_tokens_rise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        let first = ReferenceLock::new(&path, config()).acquire(soon(2000)).unwrap();
        let busy = ReferenceLock::new(&path, config()).acquire(soon(900));
        assert!(matches!(busy, Err(LockError::TimedOut { .. })));
        let token = first.token();
        first.release().unwrap();
        let second = ReferenceLock::new(&path, config()).acquire(soon(2000)).unwrap();
        assert!(second.token() > token);
        drop(second);
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["l.token"]);
    }

    #[test]
    fn a_living_owner_is_never_robbed_however_old_its_beat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        foreign(&path, |_| {});
        let file = File::options().write(true).open(path.join("beat")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let tried = ReferenceLock::new(&path, config()).acquire(soon(1200));
        assert!(matches!(tried, Err(LockError::TimedOut { .. })));
    }

    #[test]
    fn a_dead_owner_is_followed_at_once_and_an_unknown_one_after_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        foreign(&path, |owner| owner.started += 1);
        let guard = ReferenceLock::new(&path, config()).acquire(soon(300)).unwrap();
        guard.release().unwrap();
        foreign(&path, |owner| owner.host.push_str(".elsewhere"));
        assert!(ReferenceLock::new(&path, config()).acquire(soon(200)).is_err());
        let guard = ReferenceLock::new(&path, config()).acquire(soon(5000)).unwrap();
        guard.release().unwrap();
    }

    #[test]
    fn an_empty_or_torn_lock_does_not_block_for_ever() {
        for record in ["", "pid=1\nstarted=", "{}"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("l");
            fs::create_dir(&path).unwrap();
            fs::write(path.join("owner"), record).unwrap();
            let guard = ReferenceLock::new(&path, config()).acquire(soon(5000)).unwrap();
            guard.release().unwrap();
        }
    }

    #[test]
    fn a_removed_lock_is_lost_and_the_heirs_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        let guard = ReferenceLock::new(&path, config()).acquire(soon(2000)).unwrap();
        fs::remove_dir_all(&path).unwrap();
        let heir = ReferenceLock::new(&path, config()).acquire(soon(2000)).unwrap();
        let event = guard.events().recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(matches!(event, Event::Lost(_)), "{event:?}");
        assert!(heir.token() > guard.token());
        assert!(guard.release().is_err());
        assert_eq!(heir.health(), Health::Healthy);
        heir.release().unwrap();
    }

    #[test]
    fn a_race_has_one_winner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let mut lock = ReferenceLock::new(&path, config());
                        let guard = lock.acquire(soon(60_000)).unwrap();
                        let others = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(others, 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        guard.release().unwrap();
                    }
                });
            }
        });
    }
}
