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

/// One lock with one planted bug.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// How it is addressed: `zoo@NAME`. Says nothing to deadbeat.
    pub name: &'static str,
    /// The class of its bug: `B1` to `B23` as they were collected in the wild, `Z1` and on for more.
    pub class: &'static str,
    /// The variant that it goes on from, where its bug is planted in a lock that is not sound by
    /// itself: what that one shows as well is not what this one is caught by.
    pub base: Option<&'static str>,
    /// The bug, in a line.
    pub bug: &'static str,
    /// Where it was seen, or why it is likely.
    pub seen: &'static str,
}

/// Every variant, by class.
pub const VARIANTS: &[Variant] = &[Variant {
    name: "swallowed-beat",
    class: "B1",
    base: None,
    bug: "the error of a beat is swallowed, and a contender steals on the beat's age alone",
    seen: "opencode #32657",
}];

/// Plays one process of a variant, as the environment says. `None` if there is no such variant.
#[must_use]
pub fn adapter(variant: &str) -> Option<ExitCode> {
    if !VARIANTS.iter().any(|one| one.name == variant) {
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
