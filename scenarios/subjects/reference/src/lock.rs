//! Taking a lock, free or from the dead.
//!
//! # Invariants
//! - The lock's folder appears complete, by one rename, and disappears by one rename; both only
//!   inside the recovery lock (module `recovery`).
//! - A contender takes what table `judge` lets it take, seen once more inside the recovery lock.
//!
//! # What remains
//! An owner that cannot be judged may beat between that last look and the rename. Then it lives,
//! and has lost its lock: its next beat notices, and until then the resource refuses its token.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::beat::Beats;
use crate::cause::error_text;
use crate::files::{bounded, sweep};
use crate::guard::Guard;
use crate::judge::{Action, judge};
use crate::look::{Look, Signs, look};
use crate::owner::{Ages, Here};
use crate::place::{leftovers, publish, take_away};
use crate::policy::{Limits, Policy};
use crate::recovery::Recovery;
use crate::token;

/// How much later than its deadline an attempt may come back before it counts as hung.
const GRACE: Duration = Duration::from_secs(1);

/// How a lock behaves. All who use one lock should agree on `stale` and `beat`; an owner's are in
/// its record, and where two disagree the longer ones count.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The age at which an owner that cannot be judged may be thought dead.
    pub stale: Duration,
    /// How often the lock is refreshed; at most half of `stale`.
    pub beat: Duration,
    /// How often a contender looks.
    pub poll: Duration,
    /// What the holder does about a lost lock.
    pub policy: Policy,
}

impl Config {
    /// A beat every third of `stale`, a look every tenth of it but at least once a second, and
    /// [`Policy::Abort`].
    #[must_use]
    pub fn new(stale: Duration) -> Config {
        let poll = (stale / 10).min(Duration::from_secs(1));
        Config { stale, beat: stale / 3, poll, policy: Policy::Abort }
    }

    fn ages(&self) -> Ages {
        Ages { stale: self.stale, beat: self.beat }
    }

    fn mistake(&self) -> Option<&'static str> {
        if self.beat.is_zero() || self.poll.is_zero() {
            Some("`beat` and `poll` must be more than nothing")
        } else if self.beat > self.stale / 2 {
            Some("`beat` must be at most half of `stale`, so that one may fail")
        } else {
            None
        }
    }
}

/// The lock could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The settings make no lock.
    #[error("the settings of the lock make no sense: {0}")]
    Config(&'static str),
    /// Patience ended.
    #[error("the lock {} could not be had in time: {why}", lock.display())]
    TimedOut {
        /// Which lock.
        lock: PathBuf,
        /// What kept it from being taken at the last look: its owner, or an error.
        why: String,
    },
}

/// A lock, not held yet.
#[derive(Clone, Debug)]
pub struct ReferenceLock {
    lock: PathBuf,
    config: Config,
}

impl ReferenceLock {
    /// The lock at `lock`: a folder that must not exist, or be a lock of this library. Its files
    /// beside, `.recovery` and `.token`, stay for good.
    #[must_use]
    pub fn new(lock: impl Into<PathBuf>, config: Config) -> ReferenceLock {
        ReferenceLock { lock: lock.into(), config }
    }

    /// Takes the lock, or tries to until `deadline`. Errors of the file system do not end the
    /// trying: a full disk may become free. A file system that hangs does not make this hang.
    ///
    /// # Errors
    /// The lock could not be had in time, or its settings make no sense.
    pub fn acquire(&self, deadline: Instant) -> Result<Guard, LockError> {
        if let Some(mistake) = self.config.mistake() {
            return Err(LockError::Config(mistake));
        }
        let attempt = Attempt {
            lock: self.lock.clone(),
            config: self.config,
            here: Here::new(self.config.ages()),
            watched: None,
            cleared: 0,
            remains: Vec::new(),
        };
        // A guard that comes too late is dropped, and so given back.
        let tried = bounded("lock-acquire", deadline + GRACE, move || attempt.run(deadline));
        let Some((result, remains)) = tried else {
            let why = "the file system did not answer".to_owned();
            return Err(LockError::TimedOut { lock: self.lock.clone(), why });
        };
        sweep(remains);
        result
    }
}

/// One try to take a lock, over many looks.
#[derive(Debug)]
struct Attempt {
    lock: PathBuf,
    config: Config,
    here: Here,
    watched: Option<Watched>,
    /// How many locks of dead owners it has moved away.
    cleared: u32,
    /// Where they are now, and what crashes left beside them. They are removed at the end: the
    /// recovery lock is not to be held, nor a taken lock to be kept waiting, for that.
    remains: Vec<PathBuf>,
}

/// Signs of a lock, and since when they have been the same by this process's own clock.
#[derive(Debug)]
struct Watched {
    signs: Signs,
    since: Instant,
}

/// What one step came to.
enum Tried {
    Taken(Guard),
    NotYet(&'static str),
}

impl Attempt {
    /// Tries until `deadline`. Says as well what is to be removed now.
    fn run(mut self, deadline: Instant) -> (Result<Guard, LockError>, Vec<PathBuf>) {
        loop {
            let why = match self.step() {
                Ok(Tried::Taken(guard)) => return (Ok(guard), self.remains),
                Ok(Tried::NotYet(why)) => why.to_owned(),
                Err(error) => error_text(&error),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return (Err(LockError::TimedOut { lock: self.lock, why }), self.remains);
            }
            std::thread::sleep(self.config.poll.min(left));
        }
    }

    fn step(&mut self) -> io::Result<Tried> {
        let seen = look(&self.lock, &self.here)?;
        if !matches!(self.consider(&seen), Action::Take | Action::Clear) {
            return Ok(Tried::NotYet(seen.seen.why_not()));
        }
        let Some(inside) = Recovery::enter(&self.lock, Instant::now())? else {
            return Ok(Tried::NotYet("another process is taking or giving back the lock"));
        };
        self.step_inside(&inside)
    }

    /// The rest of a step, with nobody else inside.
    fn step_inside(&mut self, inside: &Recovery) -> io::Result<Tried> {
        // Somebody may have been faster.
        let seen = look(&self.lock, &self.here)?;
        let action = self.consider(&seen);
        let floor = seen.owner.as_ref().map_or(0, |owner| owner.token);
        let token = match action {
            // On disk before the record that was its floor is moved away.
            Action::Take | Action::Clear => token::draw(&self.lock, floor, inside)?,
            Action::Watch | Action::Leave => return Ok(Tried::NotYet(seen.seen.why_not())),
        };
        if let Some(folder) = seen.folder() {
            // Drawing takes a while; an owner that nobody can judge may have beaten meanwhile.
            let seen = look(&self.lock, &self.here)?;
            if seen.folder() != Some(folder) || self.consider(&seen) != Action::Clear {
                return Ok(Tried::NotYet(seen.seen.why_not()));
            }
            self.cleared += 1;
            let name = format!("{}-{}", self.here.owner(0).nonce, self.cleared);
            let Some(away) = take_away(&self.lock, folder, &name, inside)? else {
                return Ok(Tried::NotYet("another process is taking it"));
            };
            self.remains = leftovers(&self.lock, inside);
            self.remains.retain(|leftover| *leftover != away);
            self.remains.push(away);
        }
        self.take(token, inside)
    }

    /// What the table says about a look, and about how long the lock has been silent.
    fn consider(&mut self, look: &Look) -> Action {
        let window = self.config.ages().window(look.owner.as_ref().and_then(|owner| owner.ages));
        let Some(signs) = &look.signs else {
            self.watched = None;
            return judge(look.seen, Duration::ZERO, window);
        };
        if self.watched.as_ref().is_none_or(|watched| watched.signs != *signs) {
            self.watched = Some(Watched { signs: signs.clone(), since: Instant::now() });
        }
        let silent =
            self.watched.as_ref().map_or(Duration::ZERO, |watched| watched.since.elapsed());
        judge(look.seen, silent, window)
    }

    /// Publishes a complete lock, and sees that it beats.
    fn take(&self, token: u64, inside: &Recovery) -> io::Result<Tried> {
        let owner = self.here.owner(token);
        let begun = Instant::now();
        let Some(placed) = publish(&self.lock, &owner, inside)? else {
            return Ok(Tried::NotYet("another process was faster"));
        };
        let limits = Limits::new(self.config.stale, self.config.beat);
        match Beats::start(&placed, limits, self.config.beat, begun) {
            Ok(beats) => Ok(Tried::Taken(Guard::new(placed, beats, token, self.config.policy))),
            Err(error) => {
                // Without a beat this must not be a lock.
                placed.unpublish(inside);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
