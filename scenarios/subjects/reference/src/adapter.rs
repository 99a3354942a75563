//! The adapter that makes the lock a subject of deadbeat: one process that wants the lock, as the
//! environment says. Prints what the library hands its user, and nothing of its own.

use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use deadbeat_kit::{Environment, Notice, Tried, play};

use crate::{Config, Event, Guard, LockError, Policy, ReferenceLock, Trouble};

/// How often a contender looks.
const POLL: Duration = Duration::from_millis(25);

/// Plays one process.
#[must_use]
pub fn main() -> ExitCode {
    let environment = match Environment::from_env() {
        Ok(environment) => environment,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let Some((stale, beat)) = environment.stale.zip(environment.beat) else {
        eprintln!("a lock with a heartbeat needs DEADBEAT_STALE_MS and DEADBEAT_BEAT_MS");
        return ExitCode::FAILURE;
    };
    let config = Config { stale, beat, poll: POLL, policy: Policy::Abort };
    play(&environment, &mut Adapted(ReferenceLock::new(environment.lock.clone(), config)))
}

struct Adapted(ReferenceLock);

impl deadbeat_kit::Lock for Adapted {
    type Guard = Held;

    fn acquire(&mut self, deadline: Instant) -> Tried<Held> {
        match self.0.acquire(deadline) {
            Ok(guard) => Tried::Taken(Held(guard)),
            Err(LockError::TimedOut { .. }) => Tried::GaveUp,
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
        let event = match self.0.events().recv_timeout(patience) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return None,
            // Both threads have said their last word; the hold goes on until that was heard.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(patience);
                return None;
            }
        };
        Some(match event {
            Event::Degraded(trouble) => Notice::Degraded(told(&trouble)),
            Event::Healthy => Notice::Healthy,
            Event::Lost(trouble) => Notice::Lost(told(&trouble)),
        })
    }

    fn release(self) -> Result<(), String> {
        self.0.release().map_err(|error| error.to_string())
    }
}

fn told(trouble: &Trouble) -> Vec<(String, String)> {
    eprintln!("{trouble}");
    trouble.fields().into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
