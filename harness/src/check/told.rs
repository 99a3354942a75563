//! Who was told what: `degraded` and `lost` lines, and what takes them back.
//!
//! Pure. A notice counts for the failure that led to a takeover. `healthy` takes any notice back.
//! A beat that reaches the process's own file takes `degraded` back as well: the failure that the
//! notice was about is over, and the process was not told of the next one. A beat on a file that it
//! did not know before the notice is on its heir's, and ends nothing. `lost` stands until `healthy`.

use std::collections::BTreeSet;

use super::beats;
use super::view::{Hold, Point, View};
use crate::history::{Event, What};
use crate::op::{Op, OpKind, Outcome};
use crate::witness::Said;

/// When the process was told of trouble that is not over and not taken back before `until`.
pub(crate) fn standing(view: &View<'_>, hold: &Hold, until: u64) -> Option<Point> {
    let mut told: Option<(Point, bool)> = None;
    let mut own: BTreeSet<u64> = BTreeSet::new();
    for event in of_role(view.between(0, until), hold) {
        let is_in = event.seq > hold.taken.seq;
        match &event.what {
            What::Witness { said: Said::Degraded { .. }, .. } if is_in => {
                told = told.or(Some((Point::of(event), false)));
            }
            What::Witness { said: Said::Lost { .. }, .. } if is_in => {
                told = Some((told.map_or(Point::of(event), |(point, _)| point), true));
            }
            What::Witness { said: Said::Healthy, .. } => told = None,
            What::Op { op, outcome, .. } => match told {
                None => own.extend(inodes(op, outcome)),
                Some((_, true)) => {}
                Some((_, false)) => {
                    if beats::reaches(view, op, outcome) && is_own(op, outcome, &own) {
                        told = None;
                    }
                }
            },
            _ => {}
        }
    }
    told.map(|(point, _)| point)
}

/// Which files an operation that worked was about.
fn inodes(op: &Op, outcome: &Outcome) -> impl Iterator<Item = u64> {
    op.ino.into_iter().chain(outcome.ino).filter(|_| outcome.told.is_ok())
}

/// Whether what was refreshed is the process's own: it made it just now, or knew it before.
fn is_own(op: &Op, outcome: &Outcome, own: &BTreeSet<u64>) -> bool {
    let is_made = matches!(op.kind, OpKind::Create | OpKind::Rename | OpKind::Link);
    is_made || inodes(op, outcome).all(|ino| own.contains(&ino))
}

/// The first notice between two places that `healthy` does not take back before the second.
pub(crate) fn between(view: &View<'_>, hold: &Hold, from: u64, until: u64) -> Option<Point> {
    let mut told = None;
    for event in of_role(view.between(from.max(hold.taken.seq), until), hold) {
        if is_notice(&event.what) {
            told = told.or(Some(Point::of(event)));
        } else if matches!(event.what, What::Witness { said: Said::Healthy, .. }) {
            told = None;
        }
    }
    told
}

/// The first notice between two places, whether or not it was taken back later.
pub(crate) fn first(view: &View<'_>, hold: &Hold, from: u64, until: u64) -> Option<Point> {
    let told = of_role(view.between(from.max(hold.taken.seq), until), hold);
    told.filter(|event| is_notice(&event.what)).map(Point::of).next()
}

/// Whether the role was told anything from `from` on, in time or late, inside or after.
pub(crate) fn ever(view: &View<'_>, hold: &Hold, from: u64) -> bool {
    let since = view.between(from.saturating_sub(1), u64::MAX);
    of_role(since, hold).any(|event| is_notice(&event.what))
}

fn is_notice(what: &What) -> bool {
    matches!(what, What::Witness { said: Said::Degraded { .. } | Said::Lost { .. }, .. })
}

/// What the role of a stay said and did.
fn of_role<'e>(events: &'e [Event], hold: &Hold) -> impl Iterator<Item = &'e Event> + use<'e> {
    let role = hold.role;
    events.iter().filter(move |event| match &event.what {
        What::Witness { role: by, .. } => *by == role,
        What::Op { op, .. } => op.role == role,
        _ => false,
    })
}
