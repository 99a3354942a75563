//! The adapter that makes the lock a subject of deadbeat: one process that wants the lock, as the
//! environment says. Prints what the library hands its user, and nothing of its own.
//!
//! `REFERENCE_POLICY` is `abort` (the default), `release` or `mark-unhealthy`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use deadbeat_kit::{Environment, Notice, OnLoss, Tried, play};

use crate::{Config, Event, Guard, LockError, Policy, ReferenceLock, Trouble};

/// How often a contender looks.
const POLL: Duration = Duration::from_millis(25);
/// The variable that selects the policy.
const POLICY: &str = "REFERENCE_POLICY";

/// Plays one process.
#[must_use]
pub fn main() -> ExitCode {
    match prepare() {
        Ok((environment, lock)) => play(&environment, &mut Adapted(lock)),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn prepare() -> Result<(Environment, ReferenceLock), String> {
    let environment = Environment::from_env().map_err(|error| error.to_string())?;
    let (stale, beat) = environment
        .stale
        .zip(environment.beat)
        .ok_or("a lock with a heartbeat needs DEADBEAT_STALE_MS and DEADBEAT_BEAT_MS")?;
    let policy = policy(std::env::var(POLICY).ok().as_deref())?;
    let config = Config { stale, beat, poll: POLL, policy };
    let lock = ReferenceLock::new(environment.lock.clone(), config);
    Ok((environment, lock))
}

fn policy(word: Option<&str>) -> Result<Policy, String> {
    match word {
        None | Some("abort") => Ok(Policy::Abort),
        Some("release") => Ok(Policy::Release),
        Some("mark-unhealthy") => Ok(Policy::MarkUnhealthy),
        Some(other) => {
            Err(format!("{POLICY} is `{other}`; it can be `abort`, `release` or `mark-unhealthy`"))
        }
    }
}

struct Adapted(ReferenceLock);

impl deadbeat_kit::Lock for Adapted {
    type Guard = Held;

    fn acquire(&mut self, deadline: Instant) -> Tried<Held> {
        match self.0.acquire(deadline) {
            Ok(guard) => Tried::Taken(Held(guard)),
            Err(error @ LockError::TimedOut { .. }) => {
                eprintln!("{error}");
                Tried::GaveUp
            }
            Err(error) => Tried::Failed(error.to_string()),
        }
    }
}

struct Held(Guard);

impl deadbeat_kit::Guard for Held {
    fn token(&self) -> Option<u64> {
        Some(self.0.token())
    }

    fn next_notice(&self, patience: Duration) -> Option<Notice> {
        Some(match self.0.wait_event(patience)? {
            Event::Degraded(trouble) => Notice::Degraded(told(&trouble)),
            Event::Healthy => Notice::Healthy,
            Event::Lost(trouble) => Notice::Lost(told(&trouble)),
        })
    }

    fn may_write(&self) -> bool {
        self.0.check().is_ok()
    }

    fn on_loss(&self) -> OnLoss {
        match self.0.policy() {
            Policy::Abort => OnLoss::Abort,
            Policy::Release => OnLoss::Leave,
            Policy::MarkUnhealthy => OnLoss::Stay,
        }
    }

    fn release(self) -> Result<(), String> {
        self.0.release().map_err(|error| error.to_string())
    }
}

fn told(trouble: &Trouble) -> Vec<(String, String)> {
    eprintln!("{trouble}");
    trouble.fields().into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_does_not_exist_is_an_error_that_names_those_that_do() {
        assert_eq!(policy(None), Ok(Policy::Abort));
        assert_eq!(policy(Some("mark-unhealthy")), Ok(Policy::MarkUnhealthy));
        let error = policy(Some("aborted")).unwrap_err();
        assert!(error.contains("`aborted`") && error.contains("`release`"), "{error}");
    }
}
