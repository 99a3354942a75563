//! Heartbeat locks with one planted bug each: deadbeat's canaries.
//!
//! Every variant is the same plain lock (module `plain`) but for what its name says. Nothing that a
//! variant prints or writes names its bug, and no check of deadbeat knows a variant by name:
//! what catches it is what it does.
//!
//! | variant | class in the wild |
//! |---|---|
//! | `swallowed-beat` | B1: the error of a beat is swallowed, and a contender steals on the beat's age alone |

mod plain;

use std::process::ExitCode;

use deadbeat_kit::{Environment, play};

/// Every variant, in the order of the table above.
pub const VARIANTS: &[&str] = &["swallowed-beat"];

/// Plays one process of a variant, as the environment says. `None` if there is no such variant.
#[must_use]
pub fn adapter(variant: &str) -> Option<ExitCode> {
    if !VARIANTS.contains(&variant) {
        return None;
    }
    let environment = match Environment::from_env() {
        Ok(environment) => environment,
        Err(error) => {
            eprintln!("{error}");
            return Some(ExitCode::FAILURE);
        }
    };
    let Some((stale, beat)) = environment.stale.zip(environment.beat) else {
        eprintln!("a lock with a heartbeat needs DEADBEAT_STALE_MS and DEADBEAT_BEAT_MS");
        return Some(ExitCode::FAILURE);
    };
    let mut lock = plain::PlainLock::new(environment.lock.clone(), stale, beat);
    Some(play(&environment, &mut lock))
}
