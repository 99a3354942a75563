//! Moments of a run: "holder entered + 1 beat", resolved to an anchor and a length.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::role::Who;
use crate::time::Nanos;

/// What a role can be seen doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// Its first process runs.
    Started,
    /// It said that it is inside.
    Entered,
    /// It made a protected write.
    Wrote,
    /// It was told that a beat failed.
    Degraded,
    /// It was told that beats work again.
    Healthy,
    /// It was told that ownership is gone or in doubt.
    Lost,
    /// It left.
    Left,
    /// It stopped early.
    Aborted,
    /// Its release returned.
    Released,
    /// Its patience ended.
    GaveUp,
    /// Its first process ended, however.
    Dead,
}

impl Sign {
    /// Every sign.
    pub const ALL: &[Sign] = &[
        Sign::Started,
        Sign::Entered,
        Sign::Wrote,
        Sign::Degraded,
        Sign::Healthy,
        Sign::Lost,
        Sign::Left,
        Sign::Aborted,
        Sign::Released,
        Sign::GaveUp,
        Sign::Dead,
    ];

    /// The word a scenario uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Sign::Started => "started",
            Sign::Entered => "entered",
            Sign::Wrote => "wrote",
            Sign::Degraded => "degraded",
            Sign::Healthy => "healthy",
            Sign::Lost => "lost",
            Sign::Left => "left",
            Sign::Aborted => "aborted",
            Sign::Released => "released",
            Sign::GaveUp => "gave-up",
            Sign::Dead => "dead",
        }
    }
}

/// Something that happens once (its first occurrence counts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anchor {
    /// The run begins.
    Start,
    /// The first time one of these roles shows this sign.
    Role(Who, Sign),
    /// Fault number N fired for the first time.
    Fired(u32),
    /// Event number N was done.
    Done(u32),
}

/// An anchor and a length after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// What it counts from.
    pub anchor: Anchor,
    /// How long after it.
    pub offset: Nanos,
}

impl Moment {
    /// The beginning of the run.
    pub const START: Moment = Moment { anchor: Anchor::Start, offset: Nanos::ZERO };
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Anchor::Start => f.write_str("start"),
            Anchor::Role(who, sign) => write!(f, "{who} {}", sign.as_str()),
            Anchor::Fired(number) => write!(f, "fault {number} fired"),
            Anchor::Done(number) => write!(f, "event {number} done"),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.anchor)?;
        if self.offset > Nanos::ZERO { write!(f, " + {}", self.offset) } else { Ok(()) }
    }
}
