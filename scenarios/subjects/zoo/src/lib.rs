//! Heartbeat locks with one planted bug each: deadbeat's canaries.
//!
//! All are one lock (a folder with a record and a beat's file, see module `take`) that is sound by
//! itself: with no bug planted it holds in every scenario of the suite. Module `bugs` says what can
//! be wrong with it, module `variants` which variant has what, and `subject.toml` where that was
//! seen in the wild.
//!
//! Nothing that a variant prints or writes names its bug, and no check of deadbeat knows a variant
//! by name: what catches it is what it does.

mod beat;
mod bugs;
mod files;
mod held;
mod look;
mod record;
mod recovery;
mod take;
mod variants;

use std::process::ExitCode;

use deadbeat_kit::{Environment, play};

use bugs::Bugs;
use variants::VARIANTS;

/// The lock without a bug: the plain subject. What has no bug need not be caught.
const SOUND: &str = "sound";

/// One lock with one planted bug.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    name: &'static str,
    bugs: Bugs,
}

/// Plays one process of a variant, as the environment says. `None` if there is no such variant.
#[must_use]
pub fn adapter(variant: &str) -> Option<ExitCode> {
    let bugs = if variant == SOUND {
        Bugs::new(&[])
    } else {
        VARIANTS.iter().find(|one| one.name == variant)?.bugs
    };
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
    let mut lock = take::ZooLock::new(environment.lock.clone(), stale, beat, bugs);
    Some(play(&environment, &mut lock))
}
