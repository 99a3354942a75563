//! Mutual exclusion: at most one role is inside the critical section at any point of the history.
//!
//! Pure. Reads what the witness recorded, never the subject's own log.
//!
//! # Invariants
//! - Stays are compared by event sequence; an overlap of 0 ms is one. Times only give lengths.
//! - The end of a stay that ended by death is uncertain between the last thing that was seen of
//!   the role and its death; an overlap that lies in there alone is a doubt, not a finding.

use super::story;
use super::told;
use super::view::{End, Hold, Point, View};
use super::{Check, Doubt, Finding, Kind};
use crate::history::What;
use crate::plan::{Exclusion, ExpectExclusion};
use crate::time::Nanos;
use crate::witness::Said;

/// How many overlaps are worth telling of. A subject that writes nothing but `entered` and `left`
/// makes as many as it likes.
const OVERLAPS_MAX: usize = 100;

/// Every pair of stays that overlapped, up to a bound.
pub(crate) fn exclusion(view: &View<'_>, doubts: &mut Vec<Doubt>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let pairs = view
        .holds
        .iter()
        .flat_map(|displaced| view.heirs(displaced).map(move |heir| (displaced, heir)));
    for (displaced, heir) in pairs {
        if findings.len() == OVERLAPS_MAX {
            // Where none of them stands, the next one might.
            doubts.push(Doubt(format!("there were more than {OVERLAPS_MAX} overlaps")));
            break;
        }
        if displaced.covers(heir.taken.seq) {
            findings.push(overlap(view, displaced, heir));
        } else if would_violate(view, displaced, heir) {
            doubts.push(Doubt(format!(
                "{} entered within the {} in which nobody can tell whether {} was dead already",
                heir.role,
                displaced.last_end().at.since(displaced.sure_end().at),
                displaced.role,
            )));
        }
    }
    findings.extend(given_twice(view));
    findings
}

/// A second try of a process that had the lock already, and got it once more. Only the first of a
/// role: the rest says nothing new.
fn given_twice(view: &View<'_>) -> impl Iterator<Item = Finding> {
    view.trial.plan.cast.iter().filter_map(|part| {
        let role = part.role;
        let admitted = view.first(
            |what| matches!(what, What::Witness { role: who, said: Said::Admitted } if *who == role),
        )?;
        let mut holds = view.holds.iter();
        let hold = holds.rfind(|hold| hold.role == role && hold.taken.seq < admitted.seq)?;
        let to = hold.sure_end().max(admitted);
        let story = format!(
            "{role} had the lock from {} on. At {} another thread of the same process tried to take \
             it as well, and was let in: nothing keeps apart what the two do under it.",
            story::ms(view, hold.taken.at),
            story::ms(view, admitted.at),
        );
        Some(Finding {
            check: Check::Exclusion,
            kind: Kind::DoubleHeld,
            roles: vec![role],
            from_ms: view.ms(admitted.at),
            overlap_ms: to.at.since(admitted.at).as_ms_f64(),
            stopped_ms: view.stopped(role, admitted.at, to.at).as_ms_f64(),
            late_writes: 0,
            story,
            violates: view.trial.expect.exclusion != ExpectExclusion::Any,
        })
    })
}

fn overlap(view: &View<'_>, displaced: &Hold, heir: &Hold) -> Finding {
    let from = heir.taken;
    let to = displaced.sure_end().min(heir.sure_end()).max(from);
    let late = LateWrites::count(view, displaced, heir);
    let told_before = told::standing(view, displaced, from.seq);
    let told_after = told::between(view, displaced, from.seq, displaced.last_end().seq);
    let kind = if is_fenced(view, displaced, heir, &late) {
        Kind::Fenced
    } else if told_before.is_some() {
        Kind::ToldIgnored
    } else if told_after.is_some() {
        Kind::ToldLate
    } else {
        Kind::DoubleHeld
    };
    let stopped = view.stopped(displaced.role, from.at, to.at);
    Finding {
        check: Check::Exclusion,
        kind,
        roles: vec![displaced.role, heir.role],
        from_ms: view.ms(from.at),
        overlap_ms: to.at.since(from.at).as_ms_f64(),
        stopped_ms: stopped.as_ms_f64(),
        late_writes: late.accepted,
        story: tell(view, displaced, heir, to.at, &late, told_before, told_after, stopped),
        violates: violates(view, kind, told_before.is_some()),
    }
}

/// Whether fencing kept the displaced one from doing harm. Where that is what was claimed, writing
/// nothing late is enough; elsewhere it takes a write that was refused to show a fence.
fn is_fenced(view: &View<'_>, displaced: &Hold, heir: &Hold, late: &LateWrites) -> bool {
    let has_tokens = heir.token.is_some() && displaced.token.is_some();
    let has_shown = late.refused > 0 || view.trial.claims.exclusion == Exclusion::Fenced;
    has_tokens && late.accepted == 0 && has_shown
}

fn violates(view: &View<'_>, kind: Kind, is_told_before: bool) -> bool {
    match view.trial.expect.exclusion {
        ExpectExclusion::Any => false,
        ExpectExclusion::Told if is_told_before => false,
        _ => kind != Kind::Fenced || view.trial.claims.exclusion != Exclusion::Fenced,
    }
}

/// Whether an overlap of the two would stand against the lock if it were certain.
fn would_violate(view: &View<'_>, displaced: &Hold, heir: &Hold) -> bool {
    let late = LateWrites::count(view, displaced, heir);
    let is_told = told::standing(view, displaced, heir.taken.seq).is_some();
    let kind =
        if is_fenced(view, displaced, heir, &late) { Kind::Fenced } else { Kind::DoubleHeld };
    violates(view, kind, is_told)
}

/// Protected writes of the displaced one after its heir entered.
struct LateWrites {
    accepted: u64,
    refused: u64,
}

impl LateWrites {
    fn count(view: &View<'_>, displaced: &Hold, heir: &Hold) -> LateWrites {
        let mut late = LateWrites { accepted: 0, refused: 0 };
        let end = match displaced.end {
            End::Open(_) => u64::MAX,
            _ => displaced.last_end().seq,
        };
        for event in view.between(heir.taken.seq, end) {
            match &event.what {
                What::Witness { role, said: Said::Wrote { .. } } if *role == displaced.role => {
                    late.accepted += 1;
                }
                What::Fenced { role, said: Said::Wrote { .. }, .. } if *role == displaced.role => {
                    late.refused += 1;
                }
                _ => {}
            }
        }
        late
    }
}

#[expect(clippy::too_many_arguments, reason = "a story tells everything that is known")]
fn tell(
    view: &View<'_>,
    displaced: &Hold,
    heir: &Hold,
    to: Nanos,
    late: &LateWrites,
    told_before: Option<Point>,
    told_after: Option<Point>,
    stopped: Nanos,
) -> String {
    let from = heir.taken.at;
    let ms = |at: Nanos| story::ms(view, at);
    let told = match (told_before, told_after) {
        (Some(told), _) => format!(
            "it was told {} before, at {}, and was inside still",
            from.since(told.at),
            ms(told.at)
        ),
        (None, Some(told)) => {
            format!("it was told only at {}, {} later", ms(told.at), told.at.since(from))
        }
        (None, None) => story::unheard(view, displaced),
    };
    let mut text = format!(
        "{} was inside from {}; {} entered at {} while it still was: {told}. Both were inside for \
         {}{}, until {}.",
        displaced.role,
        ms(displaced.taken.at),
        heir.role,
        ms(from),
        to.since(from),
        if stopped == Nanos::ZERO {
            String::new()
        } else {
            format!(" ({stopped} of it {} was stopped)", displaced.role)
        },
        ms(to),
    );
    text.push_str(&format!(
        " {} {}; {} of its protected writes came after {} had entered{}.",
        displaced.role,
        story::ended(view, displaced),
        late.accepted + late.refused,
        heir.role,
        match (late.accepted, late.refused) {
            (_, 0) => String::new(),
            (0, _) => ", and the resource refused every one for its old token".to_owned(),
            (_, refused) => format!(", of which the resource refused {refused}"),
        }
    ));
    text.push_str(&story::beats(view, displaced, heir.taken));
    text.push_str(&story::disk_when_entered(view, displaced, heir));
    text
}
