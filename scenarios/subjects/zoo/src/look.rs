//! One look at a lock, and what a contender may do about what it saw.
//!
//! | the lock | owner | silent | action |
//! |---|---|---|---|
//! | nothing is there | | | take |
//! | not a folder | | | wait |
//! | readable | dead, for certain | | clear |
//! | readable or not | runs, or cannot be seen | ≥ window | clear |
//! | readable or not | runs, or cannot be seen | < window | wait |
//!
//! `silent` is how long the lock has not changed, on the contender's own monotonic clock; the window
//! is the owner's stale age and a beat. Whoever clears draws a higher token, which is what protects
//! the resource from an owner that lives after all.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, utimensat};

use crate::bugs::{Bug, Bugs};
use crate::files::{BEAT, Identity, NOW, OWNER, Stamp, beside, open_to_look, present, times};
use crate::record::{Fate, Record};

/// A longer record is none.
const RECORD_BYTES_MAX: u64 = 4096;
/// How many stale ages `WaitsForTheDead` waits.
const MANY: u32 = 10;

/// What is at the lock's path.
#[derive(Debug)]
pub(crate) enum Look {
    Nothing,
    NotAFolder,
    Lock(Box<Seen>),
}

/// A lock, as it was at one look.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) signs: Signs,
    /// `None` where it cannot be read.
    pub(crate) record: Option<Record>,
}

/// Everything of a lock that its owner may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signs {
    pub(crate) folder: Identity,
    record: Option<(Stamp, Vec<u8>)>,
    beat: Option<Stamp>,
}

/// What a contender may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Take,
    Clear,
    Wait,
}

/// A contender that looks again and again.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) lock: PathBuf,
    pub(crate) me: Record,
    pub(crate) bugs: Bugs,
    /// What was seen, and since when it has been the same.
    watched: Option<(Signs, Since)>,
}

/// A moment, on the clock that measures silence and on the one that people set.
#[derive(Clone, Copy, Debug)]
struct Since {
    monotonic: Instant,
    wall: SystemTime,
}

impl Watcher {
    pub(crate) fn new(lock: PathBuf, me: Record, bugs: Bugs) -> Watcher {
        Watcher { lock, me, bugs, watched: None }
    }

    /// Looks, and judges.
    pub(crate) fn look(&mut self) -> io::Result<(Look, Action)> {
        let look = match look(&self.lock, self.bugs) {
            Err(error) if self.bugs.has(Bug::PanicsOnErrors) => {
                panic!("cannot read the lock: {error}")
            }
            Err(_) if self.bugs.has(Bug::ErrorsMeanGone) => {
                let _ = fs::remove_dir_all(&self.lock);
                Look::Nothing
            }
            other => other?,
        };
        let action = self.judge(&look)?;
        Ok((look, action))
    }

    /// The table above.
    fn judge(&mut self, look: &Look) -> io::Result<Action> {
        let (signs, record) = match look {
            Look::Nothing => {
                self.watched = None;
                return Ok(Action::Take);
            }
            Look::NotAFolder => return Ok(Action::Wait),
            Look::Lock(seen) => (&seen.signs, seen.record.as_ref()),
        };
        if self.bugs.has(Bug::NeverTakesOver) {
            return Ok(Action::Wait);
        }
        let silent = self.silent(signs)?;
        let Some(owner) = record else {
            let window = self.me.stale + self.me.beat;
            let may_clear = match () {
                () if self.bugs.has(Bug::HalfMade) => true,
                () if self.bugs.has(Bug::EmptyBlocks) => false,
                () => silent >= window,
            };
            return Ok(if may_clear { Action::Clear } else { Action::Wait });
        };
        let fate = self.me.fate_of(owner, self.bugs);
        let window = self.window(owner);
        Ok(match fate {
            Fate::Dead if self.bugs.has(Bug::WaitsForTheDead) && silent < MANY * window => {
                Action::Wait
            }
            Fate::Dead => Action::Clear,
            Fate::Runs if self.waits_for_the_living() => Action::Wait,
            Fate::Runs | Fate::Unseen if silent >= window => Action::Clear,
            Fate::Runs | Fate::Unseen => Action::Wait,
        })
    }

    /// Whether a process that seems to run is waited for whatever the age.
    fn waits_for_the_living(&self) -> bool {
        let by_pid = [Bug::PidAlone, Bug::TrustsReusedPid, Bug::AsksByKill, Bug::HostNameAlone];
        by_pid.iter().any(|bug| self.bugs.has(*bug)) || self.bugs.has(Bug::BelievesTheAnswer)
    }

    /// How long an owner may be silent: by the longer of both settings, its own and this process's.
    fn window(&self, owner: &Record) -> Duration {
        let mine = self.me.stale + self.me.beat;
        if self.bugs.has(Bug::TooEager) {
            self.me.stale / 5
        } else if self.bugs.has(Bug::OwnSettings) {
            mine
        } else {
            mine.max(owner.stale + owner.beat)
        }
    }

    /// How long nothing of the lock has changed.
    fn silent(&mut self, signs: &Signs) -> io::Result<Duration> {
        let now = Since { monotonic: Instant::now(), wall: SystemTime::now() };
        let is_same = |watched: &Signs| {
            watched == signs
                || self.bugs.has(Bug::NeverLooksAgain) && watched.folder == signs.folder
        };
        let since = match &self.watched {
            Some((watched, since)) if is_same(watched) => *since,
            _ => now,
        };
        self.watched = Some((signs.clone(), since));
        let mtime = signs.beat.map(|beat| beat.mtime);
        if self.bugs.has(Bug::TrustsOwnClock) {
            return Ok(mtime.map_or(Duration::ZERO, |mtime| wall_age(mtime, now.wall)));
        }
        if self.bugs.has(Bug::TrustsFileTimes) {
            let server = server_time(&self.lock)?;
            return Ok(mtime.map_or(Duration::ZERO, |mtime| difference(mtime, server)));
        }
        if self.bugs.has(Bug::WaitsOnWallClock) {
            return Ok(now.wall.duration_since(since.wall).unwrap_or_default());
        }
        Ok(now.monotonic.saturating_duration_since(since.monotonic))
    }
}

/// A file's age on a clock of one's own.
fn wall_age(mtime: (i64, i64), now: SystemTime) -> Duration {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    difference(mtime, (seconds, now.subsec_nanos().into()))
}

/// From one file time to a later one.
fn difference(from: (i64, i64), to: (i64, i64)) -> Duration {
    let nanos = |time: (i64, i64)| i128::from(time.0) * 1_000_000_000 + i128::from(time.1);
    let nanos = u64::try_from((nanos(to) - nanos(from)).max(0)).unwrap_or(u64::MAX);
    Duration::from_nanos(nanos)
}

/// What the file server's clock says, as a file shows it that was just touched.
fn server_time(lock: &Path) -> io::Result<(i64, i64)> {
    let probe = beside(lock, &format!("clock-{}", std::process::id()));
    fs::File::create(&probe)?;
    utimensat(CWD, &probe, &times(NOW), AtFlags::empty())?;
    let stamp = Stamp::of(&fs::symlink_metadata(&probe)?);
    let _ = fs::remove_file(&probe);
    Ok(stamp.mtime)
}

/// Looks at what is at `lock` now. An error says nothing about the lock.
fn look(lock: &Path, bugs: Bugs) -> io::Result<Look> {
    let Some(folder) = present(fs::symlink_metadata(lock))? else { return Ok(Look::Nothing) };
    if !folder.is_dir() {
        return Ok(Look::NotAFolder);
    }
    let file = present(open_to_look(&lock.join(OWNER)))?;
    let record = file.as_ref().map(read).transpose()?;
    let beat_path = lock.join(BEAT);
    let beat = if bugs.has(Bug::LooksAtCache) {
        present(fs::symlink_metadata(beat_path))?
    } else {
        // Opening makes a network file system ask its server (nfs(5), close-to-open).
        present(open_to_look(&beat_path))?.map(|beat| beat.metadata()).transpose()?
    };
    let read = record.as_ref().and_then(|(_, bytes)| Record::parse(bytes));
    let beat = beat.map(|meta| Stamp::of(&meta));
    let signs = Signs { folder: Identity::of(&folder), record, beat };
    Ok(Look::Lock(Box::new(Seen { signs, record: read })))
}

fn read(file: &File) -> io::Result<(Stamp, Vec<u8>)> {
    let stamp = Stamp::of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(RECORD_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok((stamp, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_never_below_zero_and_are_exact() {
        assert_eq!(difference((5, 0), (4, 0)), Duration::ZERO);
        assert_eq!(difference((4, 999_999_999), (5, 1)), Duration::from_nanos(2));
    }

    #[test]
    fn a_lock_is_cleared_only_after_it_was_silent() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        let long = Duration::from_secs(3600);
        let me = Record::of_this_process(long, long);
        let mut watcher = Watcher::new(lock.clone(), me.clone(), Bugs::none());
        assert_eq!(watcher.look().unwrap().1, Action::Take);
        fs::create_dir(&lock).unwrap();
        assert_eq!(watcher.look().unwrap().1, Action::Wait, "an unreadable one may be an owner's");
        fs::write(lock.join(OWNER), me.to_text()).unwrap();
        assert_eq!(watcher.look().unwrap().1, Action::Wait);
        let dead = Record { started: me.started + 1, ..me };
        fs::write(lock.join(OWNER), dead.to_text()).unwrap();
        assert_eq!(watcher.look().unwrap().1, Action::Clear);
    }
}
