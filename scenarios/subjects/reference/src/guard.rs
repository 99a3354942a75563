//! A lock that is held.

use std::time::{Duration, Instant};

use crate::beat::{Beats, Event};
use crate::cause::Trouble;
use crate::files::{bounded, sweep};
use crate::place::{Placed, ReleaseError};
use crate::policy::{Health, Policy};

/// How long giving back may take, at most.
const RELEASE_WAIT: Duration = Duration::from_secs(1);

/// A lock that is held. Dropping it gives it back.
///
/// Ask [`Guard::check`] before each step of the protected work, and hand the token that it returns
/// to the resource: between the question and the step a process can be stopped for any length of
/// time, and only a resource that refuses lower tokens can tell.
#[derive(Debug)]
#[must_use = "a guard that is dropped gives the lock back at once"]
pub struct Guard {
    /// `None` once it was given back.
    placed: Option<Placed>,
    beats: Beats,
    token: u64,
    policy: Policy,
}

impl Guard {
    pub(crate) fn new(placed: Placed, beats: Beats, token: u64, policy: Policy) -> Guard {
        Guard { placed: Some(placed), beats, token, policy }
    }

    /// Whether protected work is covered right now. Looks at clocks only, so it is cheap and never
    /// hangs. The token is higher than every one before it.
    ///
    /// # Errors
    /// The lock is lost, for good; or ([`Cause::Suspended`](crate::Cause::Suspended)) the machine
    /// was suspended and no beat has shown yet that the lock is still one's own: ask again a beat
    /// later.
    pub fn check(&self) -> Result<u64, Trouble> {
        self.beats.trouble().map_or(Ok(self.token), Err)
    }

    /// The fencing token, for messages; [`Guard::check`] is for work.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// How the lock is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.beats.health()
    }

    /// What the holder is to do once the lock is lost.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Waits up to `patience` for what the lock has to tell: each change of its health, once.
    #[must_use]
    pub fn wait_event(&self, patience: Duration) -> Option<Event> {
        self.beats.next(patience)
    }

    /// Gives the lock back. What is not one's own any more is not touched. However this ends, the
    /// lock is not held any more.
    ///
    /// # Errors
    /// The lock was gone or another's, or the file system refused or did not answer in time.
    pub fn release(mut self) -> Result<(), ReleaseError> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<(), ReleaseError> {
        let Some(placed) = self.placed.take() else { return Ok(()) };
        self.beats.end();
        let lock = placed.lock.clone();
        let deadline = Instant::now() + RELEASE_WAIT;
        // A little more than the deadline of the work itself, so that its own answer is heard.
        let released = bounded("lock-release", deadline + RELEASE_WAIT / 4, move || {
            placed.give_back(deadline)
        });
        let away = released.unwrap_or(Err(ReleaseError::Hung(lock)))?;
        sweep(vec![away]);
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nobody is left to be told; whoever wants the lock next copes with what is left of it.
        let _ = self.give_back();
    }
}
