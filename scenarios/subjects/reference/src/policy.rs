//! From what a beat came to, to what its holder does: two tables, and the functions that are them.
//!
//! `unbeaten` is the time since the last good beat *began*; for a good beat it is how long the lock
//! was without one, or how long the beat took, whichever is more. `overdue` and `lost` are the two
//! [`Limits`]. All on the monotonic clock of the holder.
//!
//! | health | what happened | unbeaten | health then | the holder |
//! |---|---|---|---|---|
//! | healthy | beat is good | < lost | healthy | goes on |
//! | degraded | beat is good | < lost | healthy | is told, and goes on |
//! | healthy, degraded | beat is good, but late | ≥ lost | lost (hung) | is told, and reacts |
//! | healthy | beat failed, cause c | < lost | degraded (c) | is told, and goes on |
//! | degraded (c) | beat failed, cause c | < lost | degraded (c) | goes on |
//! | degraded (b) | beat failed, cause c ≠ b | < lost | degraded (c) | is told, and goes on |
//! | healthy | nothing came back | < overdue | healthy | goes on |
//! | healthy | nothing came back | ≥ overdue, < lost | degraded (hung) | is told, and goes on |
//! | degraded (c) | nothing came back | < lost | degraded (c) | goes on |
//! | healthy, degraded | beat failed, cause c | ≥ lost | lost (c) | is told, and reacts |
//! | healthy | nothing came back | ≥ lost | lost (hung) | is told, and reacts |
//! | degraded (c) | nothing came back | ≥ lost | lost (c) | is told, and reacts |
//! | healthy, degraded | lock is gone or another's, cause c | any | lost (c) | is told, and reacts |
//! | lost | anything | any | lost | – |

use std::time::Duration;

use crate::cause::Cause;

/// How a held lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Its last beat was good.
    Healthy,
    /// Its last beat failed, or is overdue; it is still owned.
    Degraded(Cause),
    /// It is gone, another's, or in doubt. It never comes back.
    Lost(Cause),
}

/// What the beat thread or the watchdog saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// A beat reached the disk, and the lock is one's own.
    Good,
    /// A beat failed.
    Failed(Cause),
    /// Nothing came back: time passed.
    Nothing,
    /// The lock's path leads to nothing, or to what is not one's own.
    NotMine(Cause),
}

/// What a holder does about a lost lock. Whatever it is, [`Guard::check`](crate::Guard::check)
/// refuses protected work from then on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Breaks its work off where it stands.
    #[default]
    Abort,
    /// Ends its work in order, without another protected write, and gives the lock back.
    Release,
    /// Stays, without another protected write, until whoever is in charge decides.
    MarkUnhealthy,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    GoOn,
    /// Tell the holder that a beat failed.
    TellDegraded,
    /// Tell the holder that beats work again.
    TellHealthy,
    /// Tell the holder that the lock is lost; it follows its [`Policy`].
    TellLost,
}

/// The table above.
pub(crate) fn decide(
    health: Health,
    sight: Sight,
    unbeaten: Duration,
    limits: Limits,
) -> (Health, Step) {
    let degraded = |cause| (Health::Degraded(cause), Step::TellDegraded);
    let lost = |cause| (Health::Lost(cause), Step::TellLost);
    let is_late = unbeaten >= limits.lost;
    match (health, sight) {
        (Health::Lost(_), _) => (health, Step::GoOn),
        (_, Sight::NotMine(cause)) => lost(cause),
        (_, Sight::Failed(cause)) if is_late => lost(cause),
        (_, Sight::Good) if is_late => lost(Cause::Hung),
        (Health::Healthy, Sight::Nothing) if is_late => lost(Cause::Hung),
        (Health::Degraded(cause), Sight::Nothing) if is_late => lost(cause),
        (Health::Healthy, Sight::Good) => (health, Step::GoOn),
        (Health::Degraded(_), Sight::Good) => (Health::Healthy, Step::TellHealthy),
        (Health::Degraded(same), Sight::Failed(cause)) if same == cause => (health, Step::GoOn),
        (_, Sight::Failed(cause)) => degraded(cause),
        (Health::Healthy, Sight::Nothing) if unbeaten >= limits.overdue => degraded(Cause::Hung),
        (_, Sight::Nothing) => (health, Step::GoOn),
    }
}

/// How long a lock may go without a good beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Until the holder is told that a beat does not come back.
    pub(crate) overdue: Duration,
    /// Until the lock is lost.
    pub(crate) lost: Duration,
}

impl Limits {
    /// Lost a third of a beat, or a tenth of stale-after where that is more, before the lock is
    /// stale: the holder is out before anybody may think that it is dead, and one beat that is slow
    /// for half of stale-after costs nothing. Contenders add a whole beat to stale-after, so the
    /// margin between them is more than a beat. Overdue after a beat and a half.
    pub(crate) fn new(stale: Duration, beat: Duration) -> Limits {
        let lost = stale.saturating_sub((beat / 3).max(stale / 10));
        Limits { overdue: (beat * 3 / 2).min(lost), lost }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cause() -> impl Strategy<Value = Cause> {
        prop_oneof![Just(Cause::Io), Just(Cause::Hung), Just(Cause::NoBlocks)]
    }

    fn health() -> impl Strategy<Value = Health> {
        prop_oneof![
            Just(Health::Healthy),
            cause().prop_map(Health::Degraded),
            cause().prop_map(Health::Lost)
        ]
    }

    fn sight() -> impl Strategy<Value = Sight> {
        prop_oneof![
            Just(Sight::Good),
            cause().prop_map(Sight::Failed),
            Just(Sight::Nothing),
            cause().prop_map(Sight::NotMine)
        ]
    }

    /// The table as rows that are tried in turn: health, sight and lateness, then what follows.
    fn by_the_table(health: Health, sight: Sight, overdue: bool, late: bool) -> (Health, Step) {
        use {Health as H, Sight as S, Step as T};
        let rows: [(bool, (Health, Step)); 14] = [
            (health == H::Healthy && sight == S::Good && !late, (H::Healthy, T::GoOn)),
            (is_degraded(health) && sight == S::Good && !late, (H::Healthy, T::TellHealthy)),
            (!is_lost(health) && sight == S::Good && late, (H::Lost(Cause::Hung), T::TellLost)),
            (
                health == H::Healthy && is_failed(sight) && !late,
                (H::Degraded(cause_of(health, sight)), T::TellDegraded),
            ),
            (
                is_degraded(health) && is_failed(sight) && same(health, sight) && !late,
                (health, T::GoOn),
            ),
            (
                is_degraded(health) && is_failed(sight) && !same(health, sight) && !late,
                (H::Degraded(cause_of(health, sight)), T::TellDegraded),
            ),
            (health == H::Healthy && sight == S::Nothing && !overdue && !late, (health, T::GoOn)),
            (
                health == H::Healthy && sight == S::Nothing && overdue && !late,
                (H::Degraded(Cause::Hung), T::TellDegraded),
            ),
            (is_degraded(health) && sight == S::Nothing && !late, (health, T::GoOn)),
            (
                !is_lost(health) && is_failed(sight) && late,
                (H::Lost(cause_of(health, sight)), T::TellLost),
            ),
            (
                health == H::Healthy && sight == S::Nothing && late,
                (H::Lost(Cause::Hung), T::TellLost),
            ),
            (
                is_degraded(health) && sight == S::Nothing && late,
                (H::Lost(cause_of(health, sight)), T::TellLost),
            ),
            (
                !is_lost(health) && matches!(sight, S::NotMine(_)),
                (H::Lost(cause_of(health, sight)), T::TellLost),
            ),
            (is_lost(health), (health, T::GoOn)),
        ];
        let fitting: Vec<(Health, Step)> =
            rows.into_iter().filter(|(fits, _)| *fits).map(|(_, then)| then).collect();
        assert_eq!(fitting.len(), 1, "one row for {health:?} {sight:?}: {fitting:?}");
        fitting[0]
    }

    fn is_degraded(health: Health) -> bool {
        matches!(health, Health::Degraded(_))
    }

    fn is_lost(health: Health) -> bool {
        matches!(health, Health::Lost(_))
    }

    fn is_failed(sight: Sight) -> bool {
        matches!(sight, Sight::Failed(_))
    }

    fn same(health: Health, sight: Sight) -> bool {
        matches!((health, sight), (Health::Degraded(a), Sight::Failed(b)) if a == b)
    }

    /// The cause that was seen, or else the one that was known.
    fn cause_of(health: Health, sight: Sight) -> Cause {
        match (health, sight) {
            (_, Sight::Failed(cause) | Sight::NotMine(cause)) => cause,
            (Health::Degraded(cause) | Health::Lost(cause), _) => cause,
            _ => Cause::Hung,
        }
    }

    proptest! {
        #[test]
        fn every_row_holds(
            health in health(), sight in sight(), unbeaten in 0u64..300, overdue in 1u64..100,
            more in 0u64..100,
        ) {
            let ms = Duration::from_millis;
            let limits = Limits { overdue: ms(overdue), lost: ms(overdue + more) };
            let decided = decide(health, sight, ms(unbeaten), limits);
            let (overdue, late) = (unbeaten >= overdue, unbeaten >= overdue + more);
            prop_assert_eq!(decided, by_the_table(health, sight, overdue, late));
        }

        #[test]
        fn the_holder_is_out_before_anybody_may_think_it_dead(
            stale in 20u64..100_000, part in 0.01f64..0.5,
        ) {
            let stale = Duration::from_millis(stale);
            let beat = stale.mul_f64(part);
            let limits = Limits::new(stale, beat);
            prop_assert!(limits.lost <= stale * 9 / 10);
            prop_assert!(limits.lost >= stale * 4 / 5);
            prop_assert!(limits.lost + beat < stale + beat - beat / 4);
            prop_assert!(limits.overdue <= limits.lost);
        }
    }
}
