//! What a holder does about beats that keep failing.
//!
//! Pure. Asked only when a failure lasted to stale-after: by then another process may think that
//! the owner is dead. The claim and the scenario's expectation must each be met by something that
//! the holder did.

use super::beats::{Failure, failures};
use super::story::{self, what_failed};
use super::told;
use super::view::{Death, End, Hold, View};
use super::{Check, Doubt, Finding, Kind};
use crate::plan::Reaction;
use crate::role::Role;
use crate::time::Nanos;

/// An owner that did nothing of what it claims or, being the holder, of what the scenario expects.
pub(crate) fn reaction(view: &View<'_>, _: &mut Vec<Doubt>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for hold in &view.holds {
        let asked = [view.trial.claims.on_failure.as_slice(), expected(view, hold)];
        for failure in failures(view, hold) {
            if !had_time(view, hold, &failure) {
                continue;
            }
            let did = reactions(view, hold, &failure);
            let is_short = |wanted: &[Reaction]| {
                !wanted.is_empty() && !wanted.iter().any(|one| did.contains(one))
            };
            if asked.into_iter().any(is_short) {
                findings.push(ignored(view, hold, &failure, &did));
                break;
            }
        }
    }
    findings
}

/// What the scenario expects of the holder. Whether work that must finish does is asked elsewhere.
fn expected<'a>(view: &View<'a>, hold: &Hold) -> &'a [Reaction] {
    let expected = view.trial.expect.holder.as_slice();
    let is_asked = hold.role == Role::Holder && expected != [Reaction::Finish];
    if is_asked { expected } else { &[] }
}

/// Whether the failure lasted to stale-after, not counting the time in which the role was stopped
/// and could not react. One that was killed by the harness gets a beat more: it may have been about
/// to react.
fn had_time(view: &View<'_>, hold: &Hold, failure: &Failure) -> bool {
    let timing = &view.trial.plan.timing;
    let Some(stale) = timing.stale else { return false };
    let grace = match hold.end {
        End::Died { by: Death::Planned | Death::Teardown, .. } | End::Open(_) => timing.beat_unit,
        _ => Nanos::ZERO,
    };
    let stopped = view.stopped(hold.role, failure.since.at, failure.until.at);
    failure.length() - stopped >= stale + grace
}

/// Everything that the owner did about a failure.
pub(crate) fn reactions(view: &View<'_>, hold: &Hold, failure: &Failure) -> Vec<Reaction> {
    let mut did = Vec::new();
    match hold.end {
        End::Aborted(_) | End::Died { by: Death::Own, .. } => did.push(Reaction::Abort),
        // Leaving early stops the protected work as well as aborting does.
        End::Left(_) if left_early(view, hold) => {
            did.extend([Reaction::Release, Reaction::Abort]);
        }
        End::Left(_) => did.push(Reaction::Finish),
        End::Died { .. } | End::Open(_) => {}
    }
    let end = hold.last_end().seq;
    let is_marked = told::standing(view, hold, failure.since.seq).is_some()
        || told::between(view, hold, failure.since.seq, failure.until.seq + 1).is_some()
        || told::between(view, hold, failure.until.seq, end).is_some();
    if is_marked {
        did.push(Reaction::MarkUnhealthy);
    }
    did
}

/// Whether a role left before its hold was over: at least one protected write too few.
pub(crate) fn left_early(view: &View<'_>, hold: &Hold) -> bool {
    let part = view.trial.plan.cast.iter().find(|part| part.role == hold.role);
    let stayed = hold.sure_end().at.since(hold.taken.at);
    part.is_some_and(|part| stayed + view.trial.plan.timing.tick < part.hold)
}

fn ignored(view: &View<'_>, hold: &Hold, failure: &Failure, did: &[Reaction]) -> Finding {
    let stale = view.trial.plan.timing.stale.unwrap_or_default();
    let heir = view.heirs(hold).find(|heir| hold.covers(heir.taken.seq)).map(|heir| heir.taken);
    Finding {
        check: Check::Reaction,
        kind: Kind::IgnoredFailure,
        roles: vec![hold.role],
        from_ms: view.ms(failure.since.at),
        overlap_ms: 0.0,
        stopped_ms: 0.0,
        late_writes: 0,
        story: format!(
            "The beats of {} failed from {:.0} ms on for {} ({}), longer than stale-after ({stale}): \
             from then on its lock looked dead. What it did: {}. What it claims: {}; what the \
             scenario expects: {}{}.",
            hold.role,
            view.ms(failure.since.at),
            failure.length(),
            what_failed(failure),
            words(did),
            words(&view.trial.claims.on_failure),
            words(&view.trial.expect.holder),
            heir.map_or(String::new(), |heir| {
                format!("; another entered at {}", story::ms(view, heir.at))
            }),
        ) + &told_and_disk(view, hold, failure),
        violates: true,
    }
}

/// What the owner knew of a failure, and what had become of its lock by the end of its stay.
fn told_and_disk(view: &View<'_>, hold: &Hold, failure: &Failure) -> String {
    let end = hold.last_end().seq.saturating_add(1);
    let told = told::standing(view, hold, failure.since.seq)
        .or_else(|| told::first(view, hold, failure.since.seq, end));
    let knew = match told {
        Some(told) => format!(" It was told at {}.", story::ms(view, told.at)),
        None => " It was told nothing of that while it was inside.".to_owned(),
    };
    knew + &story::disk_when_over(view, hold)
}

/// Reactions as words, for a story.
fn words(reactions: &[Reaction]) -> String {
    let words: Vec<&str> = reactions
        .iter()
        .map(|reaction| match reaction {
            Reaction::Abort => "abort",
            Reaction::Release => "release",
            Reaction::MarkUnhealthy => "mark unhealthy",
            Reaction::Finish => "work to the end",
        })
        .collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" or ") }
}
