//! Whether a run proves anything: an empty pass is no pass.
//!
//! Pure. Gives reasons for doubt; none of them hides a finding.

use std::collections::BTreeSet;

use super::beats::{Failure, failures};
use super::liveness::waits;
use super::reaction::reactions;
use super::view::{Death, End, Hold, View};
use super::{Doubt, Finding};
use crate::history::What;
use crate::plan::Reaction;
use crate::role::Role;
use crate::time::Nanos;
use crate::witness::Said;

/// Everything that makes the run prove less than it should. It finds nothing against the lock.
pub(crate) fn vacuity(view: &View<'_>, doubts: &mut Vec<Doubt>) -> Vec<Finding> {
    troubles(view, doubts);
    unfired(view, doubts);
    unlived(view, doubts);
    unanswered(view, doubts);
    untried(view, doubts);
    unelapsed(view, doubts);
    Vec::new()
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

/// A role that was to try a second time while it had the lock, and never said what came of it: its
/// adapter does not play that, or it was not inside for long enough.
fn unanswered(view: &View<'_>, doubts: &mut Vec<Doubt>) {
    for part in &view.trial.plan.cast {
        let Some(again) = part.again else { continue };
        let answered = view.first(|what| match what {
            What::Witness { role, said: Said::Refused { .. } | Said::Admitted } => {
                *role == part.role
            }
            _ => false,
        });
        if answered.is_none() {
            doubts.push(Doubt(format!(
                "{} was to try for the lock once more {again} after it had entered, and never said \
                 what came of it",
                part.role,
            )));
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
