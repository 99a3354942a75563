//! From what a beat came to, to what its holder does: one table, and a function that is it.
//!
//! `limit` is how long a lock may go without a good beat: stale-after less a margin, so that the
//! holder is out before anybody may think that it is dead. Measured on the monotonic clock from
//! the start of the last good beat.
//!
//! | health | what happened | unbeaten for | health then | the holder |
//! |---|---|---|---|---|
//! | healthy | beat is good | – | healthy | goes on |
//! | healthy | beat failed | < limit | degraded | is told, and goes on |
//! | degraded | beat is good | – | healthy | is told, and goes on |
//! | degraded | beat failed, or nothing | < limit | degraded | goes on |
//! | healthy, degraded | beat failed, or nothing | ≥ limit | lost | is told, and reacts |
//! | healthy, degraded | lock is gone or another's | any | lost | is told, and reacts |
//! | lost | anything | any | lost | – |

use std::time::Duration;

/// How a held lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Its last beat was good.
    Healthy,
    /// Its last beat failed; it is still owned.
    Degraded,
    /// It is gone, another's, or in doubt. It never comes back.
    Lost,
}

/// What the beat thread or the watchdog saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A beat reached the disk, and the lock is one's own.
    Good,
    /// A beat failed.
    Failed,
    /// Nothing came back: time passed.
    Nothing,
    /// The lock's path leads to nothing, or to what is not one's own.
    NotMine,
}

/// What a holder does about a lost lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Stops its protected work at once; the lock is released as far as it is still its own.
    #[default]
    Abort,
    /// Gives the lock back in order, as at the end of the work.
    Release,
    /// Is told, and decides for itself; the fencing token protects the resource.
    MarkUnhealthy,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
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
#[must_use]
pub fn decide(health: Health, sight: Sight, unbeaten: Duration, limit: Duration) -> (Health, Step) {
    match (health, sight) {
        (Health::Lost, _) => (Health::Lost, Step::GoOn),
        (_, Sight::NotMine) => (Health::Lost, Step::TellLost),
        (Health::Healthy, Sight::Good) => (Health::Healthy, Step::GoOn),
        (Health::Degraded, Sight::Good) => (Health::Healthy, Step::TellHealthy),
        (_, Sight::Failed | Sight::Nothing) if unbeaten >= limit => (Health::Lost, Step::TellLost),
        (Health::Healthy, Sight::Failed) => (Health::Degraded, Step::TellDegraded),
        (same, Sight::Failed | Sight::Nothing) => (same, Step::GoOn),
    }
}

/// How long a lock may go without a good beat: three quarters of stale-after, or a beat less than
/// stale-after where that is sooner.
#[must_use]
pub fn limit(stale: Duration, beat: Duration) -> Duration {
    (stale * 3 / 4).min(stale.saturating_sub(beat)).max(stale / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn health() -> impl Strategy<Value = Health> {
        prop_oneof![Just(Health::Healthy), Just(Health::Degraded), Just(Health::Lost)]
    }

    fn sight() -> impl Strategy<Value = Sight> {
        prop_oneof![
            Just(Sight::Good),
            Just(Sight::Failed),
            Just(Sight::Nothing),
            Just(Sight::NotMine)
        ]
    }

    proptest! {
        /// Each row of the table, as a rule of its own.
        #[test]
        fn every_row_holds(health in health(), sight in sight(), unbeaten in 0u64..2000, limit in 1u64..2000) {
            let late = unbeaten >= limit;
            let ms = Duration::from_millis;
            let (then, step) = decide(health, sight, ms(unbeaten), ms(limit));
            if health == Health::Lost {
                prop_assert_eq!((then, step), (Health::Lost, Step::GoOn));
                return Ok(());
            }
            match sight {
                Sight::NotMine => prop_assert_eq!((then, step), (Health::Lost, Step::TellLost)),
                Sight::Good => {
                    prop_assert_eq!(then, Health::Healthy);
                    prop_assert_eq!(step == Step::TellHealthy, health == Health::Degraded);
                }
                Sight::Failed | Sight::Nothing if late => {
                    prop_assert_eq!((then, step), (Health::Lost, Step::TellLost));
                }
                Sight::Failed => {
                    prop_assert_eq!(then, Health::Degraded);
                    prop_assert_eq!(step == Step::TellDegraded, health == Health::Healthy);
                }
                Sight::Nothing => prop_assert_eq!((then, step), (health, Step::GoOn)),
            }
        }

        #[test]
        fn the_holder_is_out_before_anybody_may_think_it_dead(stale in 4u64..100_000, beat in 1u64..100_000) {
            let (stale, beat) = (Duration::from_millis(stale), Duration::from_millis(beat));
            prop_assert!(limit(stale, beat) <= stale * 3 / 4);
            prop_assert!(limit(stale, beat) >= stale / 4);
        }
    }
}
