//! The `DEADBEAT_*` variables, typed. A missing or malformed one is an error that names it.

use std::path::PathBuf;
use std::time::Duration;

/// What deadbeat tells a process of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `holder`, `contender-1`, …
    pub role: String,
    /// The lock directory.
    pub dir: PathBuf,
    /// The lock.
    pub lock: PathBuf,
    /// The witness file.
    pub witness: PathBuf,
    /// How long to stay inside.
    pub hold: Duration,
    /// Time between protected writes.
    pub tick: Duration,
    /// How long to try.
    pub patience: Duration,
    /// The age at which the lock is stale, if it ever is.
    pub stale: Option<Duration>,
    /// How often it is refreshed, if it is.
    pub beat: Option<Duration>,
    /// How long to block the main thread right after entering.
    pub stall: Option<Duration>,
    /// How long after entering to try to take the same lock once more, in another thread.
    pub again: Option<Duration>,
    /// How many acquisitions to try.
    pub acquires: u32,
}

/// A variable is missing, or is not what it has to be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadEnvironment {
    /// It is not set.
    #[error("{0} is not set\n(hint: deadbeat sets it for the processes of a run)")]
    Unset(&'static str),
    /// It is no number.
    #[error("{name} is `{text}`, which is no whole number")]
    NoNumber {
        /// The variable.
        name: &'static str,
        /// Its value.
        text: String,
    },
}

impl Environment {
    /// Reads this process's environment.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub fn from_env() -> Result<Environment, BadEnvironment> {
        Environment::read(|name| std::env::var(name).ok())
    }

    fn read(get: impl Fn(&'static str) -> Option<String>) -> Result<Environment, BadEnvironment> {
        let text = |name| get(name).ok_or(BadEnvironment::Unset(name));
        let number = |name: &'static str, text: String| {
            text.parse::<u64>().map_err(|_| BadEnvironment::NoNumber { name, text })
        };
        let ms = |name| text(name).and_then(|text| number(name, text)).map(Duration::from_millis);
        let maybe_ms = |name| match get(name).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => number(name, text).map(|ms| Some(Duration::from_millis(ms))),
        };
        let acquires = match get("DEADBEAT_ACQUIRES") {
            None => 1,
            Some(text) => number("DEADBEAT_ACQUIRES", text)?,
        };
        Ok(Environment {
            role: text("DEADBEAT_ROLE")?,
            dir: text("DEADBEAT_DIR")?.into(),
            lock: text("DEADBEAT_LOCK")?.into(),
            witness: text("DEADBEAT_WITNESS")?.into(),
            hold: ms("DEADBEAT_HOLD_MS")?,
            tick: ms("DEADBEAT_TICK_MS")?,
            patience: ms("DEADBEAT_PATIENCE_MS")?,
            stale: maybe_ms("DEADBEAT_STALE_MS")?,
            beat: maybe_ms("DEADBEAT_BEAT_MS")?,
            stall: maybe_ms("DEADBEAT_STALL_MS")?,
            again: maybe_ms("DEADBEAT_AGAIN_MS")?,
            acquires: u32::try_from(acquires).unwrap_or(u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(name: &'static str) -> Option<String> {
        let value = match name {
            "DEADBEAT_ROLE" => "holder",
            "DEADBEAT_DIR" => "/d",
            "DEADBEAT_LOCK" => "/d/l",
            "DEADBEAT_WITNESS" => "/w",
            "DEADBEAT_HOLD_MS" | "DEADBEAT_TICK_MS" | "DEADBEAT_PATIENCE_MS" => "20",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn what_is_optional_may_be_missing_and_what_is_not_is_named() {
        let read = Environment::read(get).unwrap();
        assert_eq!((read.acquires, read.stale), (1, None));
        for missing in ["DEADBEAT_ROLE", "DEADBEAT_WITNESS", "DEADBEAT_HOLD_MS"] {
            let without = |name| if name == missing { None } else { get(name) };
            assert_eq!(Environment::read(without), Err(BadEnvironment::Unset(missing)));
        }
        let wrong =
            |name| if name == "DEADBEAT_STALE_MS" { Some("1s".to_owned()) } else { get(name) };
        let error = Environment::read(wrong).unwrap_err();
        assert!(error.to_string().contains("DEADBEAT_STALE_MS is `1s`"), "{error}");
    }
}
