//! Whether a run proves anything: an empty pass is no pass.
//!
//! Pure. Gives reasons for doubt; none of them hides a finding.

use std::collections::BTreeSet;

use super::Doubt;
use super::beats::{Failure, failures};
use super::liveness::waits;
use super::reaction::reactions;
use super::view::{Death, End, Hold, View};
use crate::history::What;
use crate::plan::Reaction;
use crate::role::Role;
use crate::time::Nanos;
use crate::witness::Said;

/// Everything that makes the run prove less than it should.
pub(crate) fn vacuity(view: &View<'_>) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    troubles(view, &mut doubts);
    unfired(view, &mut doubts);
    unlived(view, &mut doubts);
    untried(view, &mut doubts);
    unelapsed(view, &mut doubts);
    doubts
}

fn troubles(view: &View<'_>, doubts: &mut Vec<Doubt>) {
    for event in view.events {
        match &event.what {
            What::Trouble { why } => doubts.push(Doubt(why.clone())),
            What::NotDone { event, why } => {
                doubts.push(Doubt(format!("event {event} did not happen: {why}")));
            }
            What::Witness { role, said: Said::Garbage { text } } => doubts.push(Doubt(format!(
                "{role} wrote to the witness what is no line of the protocol: {text:?}"
            ))),
            _ => {}
        }
    }
    if !matches!(view.events.last().map(|event| &event.what), Some(What::End)) {
        doubts.push(Doubt("the history has no end".to_owned()));
    }
}

fn unfired(view: &View<'_>, doubts: &mut Vec<Doubt>) {
    for rule in &view.trial.plan.faults {
        let fired =
            view.first(|what| matches!(what, What::Fired { fault, .. } if *fault == rule.number));
        if fired.is_none() {
            doubts.push(Doubt(format!(
                "fault {} never fired: no operation that it means was seen after `{}`",
                rule.number, rule.from
            )));
        }
    }
    for act in &view.trial.plan.events {
        let seen = view.first(|what| {
            matches!(what, What::Done { event, .. } | What::NotDone { event, .. } if *event == act.number)
        });
        if seen.is_none() {
            doubts.push(Doubt(format!(
                "event {} did not happen: `{}` never came",
                act.number, act.at
            )));
        }
    }
}

/// Roles that ended without a word of how it went.
fn unlived(view: &View<'_>, doubts: &mut Vec<Doubt>) {
    if view.holds.is_empty() {
        doubts.push(Doubt("nobody ever entered the critical section".to_owned()));
    } else if view.holds.iter().all(|hold| hold.role != Role::Holder) {
        doubts.push(Doubt("the holder never entered the critical section".to_owned()));
    }
    for part in &view.trial.plan.cast {
        let started =
            view.first(|what| matches!(what, What::Started { role, .. } if *role == part.role));
        if started.is_none() {
            doubts
                .push(Doubt(format!("{} never started: `{}` never came", part.role, part.starts)));
        }
        let exited =
            view.first(|what| matches!(what, What::Exited { role, .. } if *role == part.role));
        let spoke = view.first(|what| match what {
            What::Witness { role, said } => {
                *role == part.role
                    && matches!(said, Said::Entered { .. } | Said::GaveUp | Said::Failed { .. })
            }
            What::Fenced { role, .. } | What::Killed { role, .. } => *role == part.role,
            _ => false,
        });
        if exited.is_some() && spoke.is_none() {
            doubts.push(Doubt(format!(
                "{} ended without `entered`, `gave-up` or `failed`",
                part.role
            )));
        }
        let failed = view.first(|what| {
            matches!(what, What::Witness { role, said: Said::Failed { .. } } if *role == part.role)
        });
        let blow = view.first_blow();
        if failed.is_some_and(|failed| blow.is_none_or(|blow| failed.seq < blow.seq)) {
            doubts.push(Doubt(format!("{} failed before anything was done to it", part.role)));
        }
    }
}

/// A contender that did nothing on the lock after the first blow proves nothing about it.
fn untried(view: &View<'_>, doubts: &mut Vec<Doubt>) {
    let has_contender = view.trial.plan.cast.iter().any(|part| part.role != Role::Holder);
    if !has_contender {
        return;
    }
    let after = view.first_blow().map_or(0, |blow| blow.seq);
    // What the kernel still closes for one that was killed is no try.
    let mut killed = BTreeSet::new();
    let mut tried = false;
    for event in view.events {
        match &event.what {
            What::Killed { role, .. } => {
                killed.insert(*role);
            }
            What::Started { role, .. } => {
                killed.remove(role);
            }
            What::Op { op, .. } | What::Waiting { op, .. } => {
                // A look-up of {dir} is only recorded where it failed: no lock can be reached.
                let mut paths = op.all_paths();
                tried |= event.seq > after
                    && op.role != Role::Holder
                    && !killed.contains(&op.role)
                    && paths.any(|path| path.is_empty() || view.files.is_lock(path));
            }
            _ => {}
        }
    }
    if !tried {
        let when = if after == 0 { "" } else { " after the first fault or event" };
        doubts.push(Doubt(format!("no contender touched the lock{when}")));
    }
}

/// A failure that nobody could use: the run ended, or the last contender went, before the lock
/// looked dead, though its owner was still inside and had done nothing about it.
fn unelapsed(view: &View<'_>, doubts: &mut Vec<Doubt>) {
    let Some(stale) = view.trial.plan.timing.stale else { return };
    for hold in &view.holds {
        let was_cut_off = matches!(hold.end, End::Open(_) | End::Died { by: Death::Teardown, .. });
        let Some(failure) = failures(view, hold).into_iter().last() else { continue };
        if failure.until != hold.sure_end().max(failure.since) {
            continue;
        }
        if was_cut_off && !failure.lasted(Some(stale)) {
            doubts.push(Doubt(format!(
                "the run ended {} after the first failed beat of {}, before stale-after ({stale})",
                failure.length(),
                hold.role,
            )));
        } else if failure.lasted(Some(stale)) && !is_put_to_the_test(view, hold, &failure, stale) {
            doubts.push(Doubt(format!(
                "the lock of {} looked dead from {:.0} ms on, but no contender was trying then",
                hold.role,
                view.ms(failure.since.at + stale),
            )));
        }
    }
}

/// Whether somebody tried for a lock that looked dead, or its owner had done something about it: one
/// who knows may be inside alone.
fn is_put_to_the_test(view: &View<'_>, hold: &Hold, failure: &Failure, stale: Nanos) -> bool {
    let has_contender = view.trial.plan.cast.iter().any(|part| part.role != hold.role);
    let dead = failure.since.at + stale;
    let has_reacted = reactions(view, hold, failure).iter().any(|did| *did != Reaction::Finish);
    let is_tried = waits(view).iter().any(|wait| {
        wait.role != hold.role && wait.until.seq > failure.since.seq && wait.until.at >= dead
    });
    // Who was displaced already has shown what there is to show.
    let has_heir = view.heirs(hold).next().is_some();
    !has_contender || has_reacted || is_tried || has_heir
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::super::testing::{HEIR, HOLDER, Story, control, holder_inside, kinds, trial};
    use crate::history::{TOO_SLOW, What};
    use crate::op::OpKind;

    fn whole(story: Story) -> Story {
        let story = story.at(6100).says(HOLDER, "left").says(HOLDER, "released");
        let story = story.exits(HOLDER, 0).says(HEIR, "entered");
        story.at(7300).says(HEIR, "left").exits(HEIR, 0).end()
    }

    fn doubt_of(story: &Story, trial: &crate::plan::Trial) -> String {
        let verdict = story.judged(trial);
        assert_eq!(verdict.outcome, Outcome::Inconclusive, "{verdict:?}");
        verdict.reason.expect("a doubt has words")
    }

    #[test]
    fn a_full_control_is_no_empty_pass() {
        assert_eq!(whole(holder_inside().polls(HEIR)).judged(&control()).outcome, Outcome::Held);
    }

    #[test]
    fn a_fault_that_never_fired_proves_nothing() {
        assert!(doubt_of(&whole(holder_inside().polls(HEIR)), &trial()).contains("never fired"));
    }

    #[test]
    fn a_contender_that_touched_nothing_after_the_fault_proves_nothing() {
        let mut lenient = trial();
        lenient.claims.on_failure.clear();
        lenient.claims.warns.clear();
        let before = holder_inside().polls(HEIR).at(400).beat(HOLDER, Some(28));
        assert!(doubt_of(&whole(before.clone()), &lenient).contains("no contender touched"));
        assert_eq!(whole(before.polls(HEIR)).judged(&lenient).outcome, Outcome::Held);
    }

    #[test]
    fn what_is_closed_for_a_killed_contender_is_no_try() {
        let mut lenient = trial();
        lenient.claims.on_failure.clear();
        lenient.claims.warns.clear();
        let killed = holder_inside().at(400).beat(HOLDER, Some(28)).killed(HEIR);
        let closed = killed.op(HEIR, OpKind::Close, "lock/beat", None).dies(HEIR);
        assert!(doubt_of(&whole(closed.clone()), &lenient).contains("no contender touched"));
        let restarted = whole(closed.starts(HEIR).polls(HEIR)).judged(&lenient);
        assert_eq!(restarted.outcome, Outcome::Held, "{restarted:?}");
    }

    #[test]
    fn events_that_did_not_happen_garbage_bounds_and_half_histories_prove_nothing() {
        let not_done = What::NotDone { event: 1, why: "it matched nothing".to_owned() };
        let bound = What::Trouble { why: "it ran into its bound of 9 events".to_owned() };
        for (what, word) in [(not_done, "matched nothing"), (bound, "bound of 9")] {
            let story = whole(holder_inside().polls(HEIR).what(what));
            assert!(doubt_of(&story, &control()).contains(word));
        }
        let garbage = whole(holder_inside().polls(HEIR).says(HEIR, "hello"));
        assert!(doubt_of(&garbage, &control()).contains("no line of the protocol"));
        let mut half = whole(holder_inside().polls(HEIR));
        half.history.events.pop();
        assert!(doubt_of(&half, &control()).contains("no end"));
        let nobody = Story::default().starts(HOLDER).starts(HEIR).polls(HEIR);
        let nobody = nobody.exits(HOLDER, 0).exits(HEIR, 0).end();
        assert!(doubt_of(&nobody, &control()).contains("nobody ever entered"));
    }

    #[test]
    fn a_violation_outranks_a_doubt_but_not_a_machine_that_was_too_slow() {
        let overlap = |why: &str| {
            let story = holder_inside().polls(HEIR).what(What::Trouble { why: why.to_owned() });
            let story = story.at(1000).says(HEIR, "entered").at(2100).says(HEIR, "left");
            story.exits(HEIR, 0).at(6100).says(HOLDER, "left").exits(HOLDER, 0).end()
        };
        let verdict = overlap("a leftover").judged(&control());
        assert_eq!((verdict.outcome, kinds(&verdict)), (Outcome::Violated, vec!["double-held"]));
        let slow = overlap(&format!("{TOO_SLOW}: 900 ms late")).judged(&control());
        assert_eq!(slow.outcome, Outcome::Inconclusive);
    }

    #[test]
    fn a_recorded_gap_is_one_until_its_day_and_only_for_its_kinds() {
        use crate::plan::KnownGap;
        let story = holder_inside().polls(HEIR).at(1000).says(HEIR, "entered").at(2100);
        let story = story.says(HEIR, "left").exits(HEIR, 0).at(6100).says(HOLDER, "left");
        let story = story.exits(HOLDER, 0).end();
        let gap = |findings: &[&str], review_by: &str| {
            let mut trial = control();
            trial.gaps = vec![KnownGap {
                scenario: "*".to_owned(),
                findings: findings.iter().map(|kind| (*kind).to_owned()).collect(),
                reason: "known".to_owned(),
                issue: None,
                review_by: review_by.to_owned(),
            }];
            story.judged(&trial).outcome
        };
        assert_eq!(gap(&["double-held"], "2027-01-01"), Outcome::KnownGap);
        assert_eq!(gap(&["double-held"], "2025-12-31"), Outcome::Violated);
        assert_eq!(gap(&["double-held", "silent"], "2027-01-01"), Outcome::Violated);
        assert_eq!(gap(&["stuck"], "2027-01-01"), Outcome::Violated);
    }
}
