//! The critical section of a subject: enter, work in ticks, leave; stop at once when told to.
//!
//! Told of a loss, the section stops its protected work, as a lock's documentation tells its
//! users to do ([`OnLoss`]). A notice wakes it at once: it waits for notices, not for time.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::{Environment, Witness, WitnessError};

/// What the lock tells whoever holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A beat failed; the lock is still owned.
    Degraded(Vec<(String, String)>),
    /// Beats work again.
    Healthy,
    /// Ownership is gone or in doubt.
    Lost(Vec<(String, String)>),
}

/// What came of trying to take a lock.
#[derive(Debug)]
pub enum Tried<G> {
    /// It was taken.
    Taken(G),
    /// It could not be had in time.
    GaveUp,
    /// Something else went wrong.
    Failed(String),
}

/// What a holder does once its lock is lost. Whatever it is, it writes nothing protected any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// Breaks off, and says `aborted`.
    #[default]
    Abort,
    /// Leaves in order, early, and releases.
    Leave,
    /// Stays until its time is over.
    Stay,
}

/// A lock under test.
pub trait Lock {
    /// What holds it.
    type Guard: Guard;
    /// Tries to take it until `deadline`.
    fn acquire(&mut self, deadline: Instant) -> Tried<Self::Guard>;
}

/// A lock that is held.
pub trait Guard {
    /// Its fencing token, if it has one.
    fn token(&self) -> Option<u64>;
    /// Waits up to `patience` for what the lock has to tell; one that never tells anything sleeps.
    fn next_notice(&self, patience: Duration) -> Option<Notice>;
    /// Whether the lock covers a protected write right now; a lock that cannot say so always does.
    fn may_write(&self) -> bool {
        true
    }
    /// What its holder does once it is lost.
    fn on_loss(&self) -> OnLoss {
        OnLoss::Abort
    }
    /// Gives the lock back, or what of it is still one's own.
    ///
    /// # Errors
    /// Why that failed.
    fn release(self) -> Result<(), String>;
}

/// How a section ended.
enum Ended {
    Left,
    /// Left after its lock was lost: it does not come back for another turn.
    LeftLost,
    Aborted,
}

/// Plays the adapter of CONTRACTS.md for `lock`: the whole of what a subject's `main` has to do.
pub fn play<L: Lock>(environment: &Environment, lock: &mut L) -> ExitCode {
    let witness = Witness::new(&environment.witness);
    for _ in 0..environment.acquires {
        let played = match lock.acquire(Instant::now() + environment.patience) {
            Tried::Taken(guard) => inside(environment, &witness, guard),
            Tried::GaveUp => return say_last(&witness, "gave-up"),
            Tried::Failed(why) => Err(why),
        };
        match played {
            Ok(Ended::Left) => {}
            Ok(Ended::Aborted | Ended::LeftLost) => return ExitCode::SUCCESS,
            Err(why) => {
                // If even this cannot be said, the exit code says it.
                let _ = witness.failed(&why);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn say_last(witness: &Witness, word: &str) -> ExitCode {
    if witness.say(word, &[]).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn inside<G: Guard>(
    environment: &Environment,
    witness: &Witness,
    guard: G,
) -> Result<Ended, String> {
    let token = guard.token().map(|token| token.to_string());
    let details: Vec<(&str, &str)> = token.iter().map(|token| ("token", token.as_str())).collect();
    let ended = match witness.say("entered", &details) {
        Ok(()) => work(environment, witness, &guard, &details),
        Err(WitnessError::Fenced) => Ok(Ended::Aborted),
        Err(error) => Err(error.to_string()),
    };
    let word = match ended {
        Ok(Ended::Left | Ended::LeftLost) => "left",
        Ok(Ended::Aborted) | Err(_) => "aborted",
    };
    witness.say(word, &[]).map_err(|error| error.to_string())?;
    let released = match guard.release() {
        Ok(()) => witness.say("released", &[]),
        Err(why) => witness.say("release-failed", &[("reason", &why)]),
    };
    released.map_err(|error| error.to_string())?;
    ended
}

fn work<G: Guard>(
    environment: &Environment,
    witness: &Witness,
    guard: &G,
    token: &[(&str, &str)],
) -> Result<Ended, String> {
    let entered = Instant::now();
    if let Some(stall) = environment.stall {
        std::thread::sleep(stall);
    }
    let end = entered + environment.hold;
    let mut next = Instant::now();
    let mut is_lost = false;
    loop {
        let now = Instant::now();
        let is_over = now >= end;
        if now >= next && !is_over {
            let is_covered = !is_lost && guard.may_write();
            let written = if is_covered { witness.say("wrote", token) } else { Ok(()) };
            match written {
                Ok(()) => {}
                Err(WitnessError::Fenced) => {
                    say(witness, "lost", &[("reason".to_owned(), "fenced".to_owned())])?;
                    return Ok(Ended::Aborted);
                }
                Err(error) => return Err(error.to_string()),
            }
            next = Instant::now() + environment.tick;
        }
        // No time at all once it is over: what was told meanwhile is still heard before leaving.
        let wait = next.min(end).saturating_duration_since(Instant::now());
        match guard.next_notice(wait) {
            Some(Notice::Degraded(details)) => say(witness, "degraded", &details)?,
            Some(Notice::Healthy) => say(witness, "healthy", &[])?,
            Some(Notice::Lost(details)) => {
                say(witness, "lost", &details)?;
                match guard.on_loss() {
                    OnLoss::Abort => return Ok(Ended::Aborted),
                    OnLoss::Leave => return Ok(Ended::LeftLost),
                    OnLoss::Stay => is_lost = true,
                }
            }
            None if is_over => return Ok(if is_lost { Ended::LeftLost } else { Ended::Left }),
            None => {}
        }
    }
}

fn say(witness: &Witness, word: &str, details: &[(String, String)]) -> Result<(), String> {
    let details: Vec<(&str, &str)> =
        details.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    witness.say(word, &details).map_err(|error| error.to_string())
}
