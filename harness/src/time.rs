//! Lengths and moments of a run, in nanoseconds since the run began.
//!
//! A moment orders nothing: the order of events is their sequence number in the history; times
//! only give lengths.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds: a length, or a moment counted from the start of the run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Nanos = Nanos(0);

    /// `ms` milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Nanos {
        Nanos(ms.saturating_mul(1_000_000))
    }

    /// Whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Milliseconds for a report: three decimals are kept by who prints them.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a run is far shorter than 2^53 ns (104 days)")]
    pub fn as_ms_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The length from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` times a non-negative factor, saturating.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and a factor of a length in a scenario is small"
    )]
    pub fn scaled(self, factor: f64) -> Nanos {
        Nanos((self.0 as f64 * factor).round() as u64)
    }
}

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Nanos {
        Nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Nanos> for Duration {
    fn from(nanos: Nanos) -> Duration {
        Duration::from_nanos(nanos.0)
    }
}

impl Add for Nanos {
    type Output = Nanos;
    fn add(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(other.0))
    }
}

impl Sub for Nanos {
    type Output = Nanos;
    fn sub(self, other: Nanos) -> Nanos {
        self.since(other)
    }
}

impl fmt::Display for Nanos {
    /// `1.5 s` from a second on, else `250 ms`, else `0.25 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1_000_000_000 {
            write!(f, "{} s", (self.as_ms_f64() / 10.0).round() / 100.0)
        } else if self.0 >= 1_000_000 || self.0 == 0 {
            write!(f, "{} ms", self.as_ms_f64().round())
        } else {
            write!(f, "{} ms", (self.as_ms_f64() * 100.0).round() / 100.0)
        }
    }
}
