//! Each check against a slow, obvious version of it, on small random histories.
//!
//! A history is a list of [`Step`]s a hundred milliseconds apart. The obvious versions know nothing
//! of views and ledgers: they look at the steps again for each question, position by position. What
//! fails is printed as a script, after shrinking.

mod model;

use std::fmt;

use proptest::prelude::*;

use self::model::Obvious;
use crate::check::script::*;
use crate::check::vacuity::vacuity;
use crate::check::view::View;
use crate::check::{Check, Kind, Verdict};
use crate::fault::Target;
use crate::history::What;
use crate::op::{Errno, OpKind};
use crate::plan::Deed;
use crate::role::Role;
use crate::time::Nanos;

/// What one role, or the harness, does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    /// Makes the lock, if there is none.
    Take,
    /// Removes the lock, whoever's it is.
    Clear,
    Enter,
    /// Leaves, and its release returns.
    Leave,
    /// Leaves, removes the lock, whoever's it is, and its release returns.
    LeaveAndClear,
    Lost,
    Healthy,
    /// Refreshes the lock that is there, or fails.
    Beat,
    /// A fault makes its beat fail.
    FailedBeat,
    Stop,
    Continue,
    Kill,
    /// Ends with an error of its own.
    Crash,
    Start,
    /// The harness removes the lock.
    Strike,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Step(Role, Do);

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.0, self.1)
    }
}

/// A history as one would write it down.
#[derive(Clone)]
struct Steps(Vec<Step>);

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .enumerate()
            .try_for_each(|(at, step)| write!(f, "\n  at {} ms  {step:?}", at * 100))
    }
}

fn steps() -> impl Strategy<Value = Steps> {
    let role = prop_oneof![Just(HOLDER), Just(C1), Just(C2)];
    let deed = prop_oneof![
        4 => Just(Do::Take),
        2 => Just(Do::Clear),
        5 => Just(Do::Enter),
        2 => Just(Do::Leave),
        2 => Just(Do::LeaveAndClear),
        1 => Just(Do::Lost),
        1 => Just(Do::Healthy),
        3 => Just(Do::Beat),
        2 => Just(Do::FailedBeat),
        1 => Just(Do::Stop),
        1 => Just(Do::Continue),
        1 => Just(Do::Kill),
        1 => Just(Do::Crash),
        1 => Just(Do::Start),
        1 => Just(Do::Strike),
    ];
    let step = (role, deed).prop_map(|(role, deed)| Step(role, deed));
    proptest::collection::vec(step, 0..40).prop_map(|list| Steps(possible(list)))
}

/// Without what cannot be: the dead do nothing, and who is inside does not enter.
fn possible(list: Vec<Step>) -> Vec<Step> {
    let mut kept: Vec<Step> = Vec::new();
    for step in list {
        let Step(role, deed) = step;
        let all = Obvious { steps: &kept };
        let at = kept.len();
        let is_dead = all.is_dead(role, at);
        let is_inside = all.stay_at(role, at).is_some();
        let is_possible = match deed {
            Do::Strike => true,
            Do::Start => is_dead,
            _ if is_dead => false,
            Do::Enter | Do::Take => !is_inside,
            Do::Leave | Do::LeaveAndClear => is_inside,
            _ => true,
        };
        if is_possible {
            kept.push(step);
        }
    }
    kept
}

/// What the checks say of them.
fn played(steps: &Steps) -> Verdict {
    script(steps).verdict()
}

/// The same as events.
fn script(steps: &Steps) -> Script {
    let mut script = Script::new();
    script.with_c2().with_fault();
    script.with_event(1, Deed::Remove(Target::Lock), "remove lock");
    script.trial(|trial| {
        for part in &mut trial.plan.cast {
            part.acquires = 1000;
            part.hold = Nanos::ZERO;
        }
    });
    let mut inode = 100;
    let mut there: Option<u64> = None;
    let clear = |script: &mut Script, role, there: &mut Option<u64>| {
        if let Some(ino) = there.take() {
            script.clears(role, ino);
        }
    };
    for (at, Step(role, deed)) in steps.0.iter().enumerate() {
        let role = *role;
        script.at(at as u64 * 100);
        match deed {
            Do::Take if there.is_some() => {
                script.polls(role);
            }
            Do::Take => {
                inode += 2;
                there = Some(inode);
                script.takes(role, inode);
            }
            Do::Clear => clear(&mut script, role, &mut there),
            Do::Enter => {
                script.says(role, "entered");
            }
            Do::Leave => {
                script.says(role, "left").says(role, "released");
            }
            Do::LeaveAndClear => {
                script.says(role, "left");
                clear(&mut script, role, &mut there);
                script.says(role, "released");
            }
            Do::Lost => {
                script.says(role, "lost");
            }
            Do::Healthy => {
                script.says(role, "healthy");
            }
            Do::Beat => {
                match there {
                    Some(ino) => script.beats_on(role, ino),
                    None => {
                        let gone = Err(Errno(libc::ENOENT));
                        script.does(role, OpKind::Utimes, BEAT, gone, |_, _, _| {})
                    }
                };
            }
            Do::FailedBeat => {
                script.fails(role);
            }
            Do::Stop => {
                script.push(What::Stopped { role });
            }
            Do::Continue => {
                script.push(What::Continued { role });
            }
            Do::Kill => {
                script.killed(role).dies(role);
            }
            Do::Crash => {
                script.exits(role, 1);
            }
            Do::Start => {
                script.starts(role);
            }
            Do::Strike => {
                there = None;
                script.done(1);
            }
        }
    }
    script.at(steps.0.len() as u64 * 100);
    script
}

fn of(verdict: &Verdict, check: Check) -> Vec<(Kind, Vec<Role>)> {
    let own = verdict.findings.iter().filter(|one| one.check == check);
    let mut found: Vec<(Kind, Vec<Role>)> = own.map(|one| (one.kind, one.roles.clone())).collect();
    found.sort();
    found
}

fn sorted(mut found: Vec<(Kind, Vec<Role>)>) -> Vec<(Kind, Vec<Role>)> {
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn exclusion_is_what_looking_at_each_position_shows(steps in steps()) {
        let obvious = Obvious { steps: &steps.0 };
        prop_assert_eq!(of(&played(&steps), Check::Exclusion), sorted(obvious.exclusion()));
    }

    #[test]
    fn evidence_is_what_looking_at_each_position_shows(steps in steps()) {
        let obvious = Obvious { steps: &steps.0 };
        prop_assert_eq!(of(&played(&steps), Check::Evidence), sorted(obvious.evidence()));
    }

    #[test]
    fn integrity_is_what_looking_at_each_position_shows(steps in steps()) {
        let obvious = Obvious { steps: &steps.0 };
        prop_assert_eq!(of(&played(&steps), Check::Integrity), sorted(obvious.integrity()));
    }

    #[test]
    fn reaction_is_what_looking_at_each_position_shows(steps in steps()) {
        let obvious = Obvious { steps: &steps.0 };
        prop_assert_eq!(of(&played(&steps), Check::Reaction), sorted(obvious.reaction()));
    }

    #[test]
    fn visibility_is_what_looking_at_each_position_shows(steps in steps()) {
        let obvious = Obvious { steps: &steps.0 };
        prop_assert_eq!(of(&played(&steps), Check::Visibility), sorted(obvious.visibility()));
    }

    #[test]
    fn liveness_is_what_looking_at_each_position_shows(steps in steps()) {
        let obvious = Obvious { steps: &steps.0 };
        prop_assert_eq!(of(&played(&steps), Check::Liveness), sorted(obvious.liveness()));
    }

    #[test]
    fn vacuity_is_what_looking_at_each_position_shows(steps in steps()) {
        let due = Obvious { steps: &steps.0 }.vacuity();
        let mut script = script(&steps);
        let history = script.history().clone();
        let mut doubts = Vec::new();
        vacuity(&View::new(&script.trial, &history), &mut doubts);
        for word in [
            "never fired",
            "event 1 did not happen",
            "nobody ever entered",
            "the holder never entered",
            "no contender touched the lock",
        ] {
            let is_doubted = doubts.iter().any(|doubt| doubt.0.contains(word));
            prop_assert_eq!(is_doubted, due.contains(&word), "{}", word);
        }
    }
}
