//! Virtual time: it moves when the supervisor says so, and every clock of a run agrees with it.
//!
//! # Invariants
//! - `now` never decreases. It is what the history shows.
//! - REALTIME of a role = epoch + now + that role's offset; MONOTONIC = base + now − what was
//!   spent suspended; BOOTTIME = base + now.
//! - The epoch lies in 2030, so a time stamp near the machine's own clock was made by the kernel.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::role::Role;
use crate::time::Nanos;

/// 2030-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_secs(1_893_456_000);
/// What MONOTONIC shows at the start of a run: a machine that has been up for a while.
const UP_SINCE: Duration = Duration::from_secs(100_000);

/// By which clock a deadline is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
    Real,
    Monotonic,
    Boot,
}

impl Domain {
    /// The domain of a `clockid_t`; `None` for clocks that count cpu time, and unknown ones.
    pub(crate) fn of(clock: i32) -> Option<Domain> {
        match clock {
            libc::CLOCK_REALTIME
            | libc::CLOCK_REALTIME_COARSE
            | libc::CLOCK_REALTIME_ALARM
            | libc::CLOCK_TAI => Some(Domain::Real),
            libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE => {
                Some(Domain::Monotonic)
            }
            libc::CLOCK_BOOTTIME | libc::CLOCK_BOOTTIME_ALARM => Some(Domain::Boot),
            _ => None,
        }
    }
}

/// The clocks of a run.
#[derive(Debug)]
pub(crate) struct Clock {
    now: Nanos,
    suspended: Nanos,
    offsets: BTreeMap<Role, i64>,
    changes: u64,
}

impl Clock {
    /// Clocks at the start of a run; `offsets` are those of wall clocks, in nanoseconds.
    pub(crate) fn new(offsets: BTreeMap<Role, i64>) -> Clock {
        Clock { now: Nanos::ZERO, suspended: Nanos::ZERO, offsets, changes: 0 }
    }

    /// Since the run began.
    pub(crate) fn now(&self) -> Nanos {
        self.now
    }

    /// Moves time on, never back.
    pub(crate) fn advance_to(&mut self, then: Nanos) {
        if then > self.now {
            self.now = then;
            self.changes += 1;
        }
    }

    /// How often the clocks have been changed: equal numbers mean equal times.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// The machine sleeps for so long.
    pub(crate) fn suspend(&mut self, length: Nanos) {
        self.now = self.now + length;
        self.suspended = self.suspended + length;
        self.changes += 1;
    }

    /// Sets a role's wall clock forward, or back.
    pub(crate) fn step(&mut self, role: Role, by: i64) {
        let offset = self.offsets.entry(role).or_default();
        *offset = offset.saturating_add(by);
        self.changes += 1;
    }

    /// What a clock shows to a role.
    pub(crate) fn shows(&self, domain: Domain, role: Role) -> Duration {
        match domain {
            Domain::Real => {
                let plain = EPOCH + Duration::from(self.now);
                let offset = self.offsets.get(&role).copied().unwrap_or(0);
                let length = Duration::from_nanos(offset.unsigned_abs());
                if offset < 0 { plain.saturating_sub(length) } else { plain + length }
            }
            Domain::Monotonic => UP_SINCE + Duration::from(self.now - self.suspended),
            Domain::Boot => UP_SINCE + Duration::from(self.now),
        }
    }

    /// What every clock shows to a role, in nanoseconds: REALTIME, MONOTONIC, BOOTTIME.
    pub(crate) fn shows_all(&self, role: Role) -> [u64; 3] {
        [Domain::Real, Domain::Monotonic, Domain::Boot]
            .map(|domain| u64::try_from(self.shows(domain, role).as_nanos()).unwrap_or(u64::MAX))
    }

    /// When, on the run's clock, a role's clock will show `wanted`; now if it does already.
    pub(crate) fn when_shows(&self, domain: Domain, role: Role, wanted: Duration) -> Nanos {
        self.now + Nanos::from(wanted.saturating_sub(self.shows(domain, role)))
    }

    /// The time stamp of a file that is changed now. It is the file system's clock, no role's.
    pub(crate) fn stamp(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + EPOCH + Duration::from(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspending_stops_the_monotonic_clock_only() {
        let mut clock = Clock::new(BTreeMap::new());
        let before = [Domain::Real, Domain::Monotonic, Domain::Boot]
            .map(|domain| clock.shows(domain, Role::Holder));
        clock.suspend(Nanos::from_ms(5000));
        let after = [Domain::Real, Domain::Monotonic, Domain::Boot]
            .map(|domain| clock.shows(domain, Role::Holder));
        let passed: Vec<u64> =
            after.iter().zip(&before).map(|(after, before)| (*after - *before).as_secs()).collect();
        assert_eq!(passed, [5, 0, 5]);
    }

    #[test]
    fn a_stepped_wall_clock_brings_its_deadlines_nearer() {
        let mut clock = Clock::new(BTreeMap::new());
        let wanted = clock.shows(Domain::Real, Role::Holder) + Duration::from_secs(10);
        clock.step(Role::Holder, 4_000_000_000);
        let when = clock.when_shows(Domain::Real, Role::Holder, wanted);
        assert_eq!(when, Nanos::from_ms(6000));
        let other = clock.when_shows(Domain::Real, Role::Contender(1), wanted);
        assert_eq!(other, Nanos::from_ms(10_000));
    }
}
