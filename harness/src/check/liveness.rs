//! Whether locks become free, and whether live work lives.
//!
//! Pure. A `gave-up` while another role rightly holds is no finding; a role that was reached by a
//! fault or had no room to work in is not asked to get in.

use super::beats::failures;
use super::reaction::left_early;
use super::story;
use super::view::{Death, End, Hold, Point, View};
use super::{Check, Doubt, Finding, Kind};
use crate::history::What;
use crate::moment::{Anchor, Sign};
use crate::plan::{Deed, Reaction};
use crate::role::{Role, Who};
use crate::time::Nanos;
use crate::witness::Said;

/// Everything that is stuck, was killed for nothing, or crashed.
pub(crate) fn liveness(view: &View<'_>, doubts: &mut Vec<Doubt>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(refused_heir(view));
    if findings.is_empty() {
        findings.extend(expected_takeover(view, doubts));
    }
    if findings.is_empty() {
        findings.extend(gave_up_on_a_free_lock(view));
    }
    findings.extend(false_compromise(view));
    findings.extend(crashes(view, doubts));
    findings
}

fn finding(view: &View<'_>, kind: Kind, role: Role, from: Nanos, story: String) -> Finding {
    Finding {
        check: Check::Liveness,
        kind,
        roles: vec![role],
        from_ms: view.ms(from),
        overlap_ms: 0.0,
        stopped_ms: 0.0,
        late_writes: 0,
        story,
        violates: true,
    }
}

/// `[expect] takeover`: somebody enters within a bound of a moment.
fn expected_takeover(view: &View<'_>, doubts: &mut Vec<Doubt>) -> Option<Finding> {
    let takeover = view.trial.expect.takeover?;
    let Some(anchor) = view.anchor_of(takeover.after) else {
        doubts.push(Doubt(format!("`{}` never came, so no takeover was due", takeover.after)));
        return None;
    };
    let from = anchor.at + takeover.after.offset;
    // A lock that nobody steals promises no takeover of what was not released.
    let within = takeover.within.max(promised(view, anchor)?);
    let is_heir = |hold: &Hold| {
        let was_in = hold.taken.seq < anchor.seq;
        !was_in || (!is_over_at(hold, anchor) && !means(takeover.after.anchor, hold.role))
    };
    let heir = view.holds.iter().find(|hold| is_heir(hold));
    let waits: Vec<Wait> = waits(view);
    let due = |wait: &Wait| {
        let start = wait.from.at.max(from);
        start + within + view.stopped(wait.role, start, wait.until.at)
    };
    if let Some(heir) = heir {
        let own = waits.iter().find(|wait| wait.until == heir.taken);
        if heir.taken.at <= own.map_or(from + within, due) {
            return None;
        }
    }
    let Some(tried) = waits.iter().find(|wait| wait.until.at > from && wait.until.at >= due(wait))
    else {
        doubts.push(Doubt(format!(
            "no contender was trying from `{}` for {within}, so nothing can be said of a takeover",
            takeover.after
        )));
        return None;
    };
    let end = heir.map_or("nobody ever got in".to_owned(), |heir| {
        format!("{} got in only {} after it", heir.role, heir.taken.at.since(from))
    });
    let story = format!(
        "The lock was to be taken over within {within} of `{}` ({:.0} ms); {} was trying up to \
         {:.0} ms, and {end}.",
        takeover.after,
        view.ms(from),
        tried.role,
        view.ms(tried.until.at),
    );
    let last = view.holds.iter().rfind(|hold| hold.taken.seq < anchor.seq);
    let story = story + &last.map_or(String::new(), |last| left_behind(view, last));
    Some(finding(view, Kind::Stuck, tried.role, from, story))
}

/// A role that got the lock with a token that the resource had refused all along: one that is not
/// above what was accepted before the role began to try. A role that was overtaken while it tried
/// has such a token rightly.
fn refused_heir(view: &View<'_>) -> Option<Finding> {
    let waits = waits(view);
    view.events.iter().find_map(|event| {
        let What::Fenced { role, said: Said::Entered { token }, accepted, by } = &event.what else {
            return None;
        };
        let wait = waits.iter().find(|wait| {
            wait.role == *role && (wait.from.seq..=wait.until.seq).contains(&event.seq)
        })?;
        let is_older = |what: &What| match what {
            What::Witness { role, said: Said::Entered { token } | Said::Wrote { token } } => {
                role == by && *token == Some(*accepted)
            }
            _ => false,
        };
        view.first_between(0, wait.from.seq, is_older)?;
        let token = token.map_or(String::new(), |token| format!(" ({token})"));
        let story = format!(
            "{role} got the lock and was to enter at {:.0} ms, and the resource refused its \
             token{token}: it is not above {accepted}, which {by} had before {role} began to try. \
             Tokens went back, and nobody can work under this lock.",
            view.ms(event.at),
        );
        Some(finding(view, Kind::Stuck, *role, event.at, story))
    })
}

/// How long the lock that was held last before `anchor` may take to be free: at once where it was
/// released, else what is claimed for a dead owner; `None`: for ever.
fn promised(view: &View<'_>, anchor: Point) -> Option<Nanos> {
    let last = view.holds.iter().rfind(|hold| hold.taken.seq < anchor.seq);
    match last {
        Some(last) if is_released(view, last, anchor.seq + 1).is_none() => {
            view.trial.claims.dead_owner_takeover
        }
        _ => Some(Nanos::ZERO),
    }
}

/// Where the release of a stay returned without an error, if it did before `until`.
fn is_released(view: &View<'_>, hold: &Hold, until: u64) -> Option<Point> {
    view.first_between(
        hold.sure_end().seq,
        until,
        |what| matches!(what, What::Witness { role, said: Said::Released } if *role == hold.role),
    )
}

/// Whether a stay had ended when `anchor` came. One that died counts from the last thing seen of it.
fn is_over_at(hold: &Hold, anchor: Point) -> bool {
    !matches!(hold.end, End::Open(_)) && hold.sure_end().seq <= anchor.seq
}

/// Whether the role is the one whose sign is waited for: whoever goes is not the one who comes.
fn means(anchor: Anchor, role: Role) -> bool {
    matches!(anchor, Anchor::Role(Who::One(one), sign) if one == role && sign != Sign::Started)
}

/// One role's trying to get in: up to its entering, giving up or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) role: Role,
    pub(crate) from: Point,
    pub(crate) until: Point,
}

/// Every time that some role was trying. A role that has left may be trying again, if it is to
/// acquire more often.
pub(crate) fn waits(view: &View<'_>) -> Vec<Wait> {
    let mut waits = Vec::new();
    for part in &view.trial.plan.cast {
        let mut since = None;
        let mut left = 0;
        for event in view.events {
            let point = Point::of(event);
            match &event.what {
                What::Started { role, .. } if *role == part.role => {
                    since = Some(point);
                    left = part.acquires.max(1);
                }
                What::Witness { role, said } if *role == part.role => match said {
                    Said::Left | Said::Aborted if left > 0 => since = since.or(Some(point)),
                    Said::Entered { .. } => {
                        left = left.saturating_sub(1);
                        push_wait(&mut waits, part.role, since.take(), point);
                    }
                    Said::GaveUp | Said::Failed { .. } => {
                        push_wait(&mut waits, part.role, since.take(), point);
                    }
                    _ => {}
                },
                What::Exited { role, .. } | What::Killed { role, .. } if *role == part.role => {
                    push_wait(&mut waits, part.role, since.take(), point);
                }
                _ => {}
            }
        }
        push_wait(&mut waits, part.role, since, view.end());
    }
    waits
}

fn push_wait(waits: &mut Vec<Wait>, role: Role, since: Option<Point>, until: Point) {
    waits.extend(since.map(|from| Wait { role, from, until }));
}

/// Without an expectation: who gave up though the lock had long been free.
fn gave_up_on_a_free_lock(view: &View<'_>) -> Option<Finding> {
    if !contenders_are_unharmed(view) {
        return None;
    }
    let gave_up = |wait: &&Wait| {
        view.events.iter().any(|event| {
            event.seq == wait.until.seq
                && matches!(event.what, What::Witness { said: Said::GaveUp, .. })
        })
    };
    waits(view)
        .iter()
        .filter(|wait| wait.role != Role::Holder)
        .filter(gave_up)
        .find_map(|wait| gave_up_in_vain(view, wait))
}

/// Who held last, how that ended, and what it left on disk.
fn left_behind(view: &View<'_>, last: &Hold) -> String {
    format!(
        " {} had been inside from {} and {}.{}",
        last.role,
        story::ms(view, last.taken.at),
        story::ended(view, last),
        story::disk_when_over(view, last),
    )
}

fn gave_up_in_vain(view: &View<'_>, wait: &Wait) -> Option<Finding> {
    // Whoever is inside, or may be, holds rightly as far as the one who waits can tell.
    let mut earlier = view.holds.iter().filter(|hold| hold.taken.seq < wait.until.seq);
    if earlier.any(|hold| hold.may_cover(wait.until.seq)) {
        return None;
    }
    let before = view.holds.iter().filter(|hold| hold.taken.seq < wait.until.seq);
    let last = before.max_by_key(|hold| hold.last_end())?;
    let (free, bound) = free_since(view, last, wait.until.seq)?;
    let start = free.at.max(wait.from.at);
    let tried = wait.until.at.since(start) - view.stopped(wait.role, start, wait.until.at);
    if tried <= bound {
        return None;
    }
    let how = match last.end {
        End::Left(_) => "left",
        End::Aborted(_) => "aborted",
        _ => "died",
    };
    let story = format!(
        "{} gave up at {:.0} ms, after trying for {tried} though nobody held the lock: {} had \
         {how} at {:.0} ms, and the lock was to be free within {bound}.",
        wait.role,
        view.ms(wait.until.at),
        last.role,
        view.ms(last.last_end().at),
    );
    let story = story + &left_behind(view, last);
    Some(finding(view, Kind::Stuck, wait.role, free.at, story))
}

/// From when on the lock was nobody's after a stay, and how long it may have looked taken then;
/// `None`: it was somebody's still, or may look taken for ever. An owner that is outside but has
/// neither released nor died may keep its lock.
fn free_since(view: &View<'_>, last: &Hold, until: u64) -> Option<(Point, Nanos)> {
    let unit = view.trial.plan.timing.stale_unit;
    if let Some(released) = is_released(view, last, until) {
        return Some((released, unit.max(Nanos::from_ms(1000))));
    }
    let died = view.first_between(
        last.taken.seq,
        until,
        |what| matches!(what, What::Exited { role, .. } if *role == last.role),
    )?;
    let claimed = view.trial.claims.dead_owner_takeover?;
    Some((died, claimed.max(unit.scaled(2.0))))
}

/// Whether nothing in the plan keeps a contender from taking a free lock.
fn contenders_are_unharmed(view: &View<'_>) -> bool {
    let plan = &view.trial.plan;
    let no_fault = plan.faults.iter().all(|rule| matches!(rule.who, Who::One(Role::Holder)));
    let no_event = plan.events.iter().all(|act| {
        matches!(
            act.what,
            Deed::Kill(..) | Deed::Pause(..) | Deed::Resume(_) | Deed::Start(_) | Deed::Stall(..)
        )
    });
    no_fault && no_event && plan.world.space.is_none()
}

/// Live work that a healed fault killed, where the scenario expects it to finish.
fn false_compromise(view: &View<'_>) -> Option<Finding> {
    if view.trial.expect.holder != [Reaction::Finish] {
        return None;
    }
    view.holds.iter().filter(|hold| hold.role == Role::Holder).find_map(|hold| {
        let how = match hold.end {
            End::Left(_) if !left_early(view, hold) => return None,
            End::Left(_) => "left early",
            End::Aborted(_) => "aborted",
            End::Died { by: Death::Own, .. } => "died",
            // The plan killed it, or the run was ended by a bound, which is said elsewhere.
            End::Died { .. } | End::Open(_) => return None,
        };
        let end = hold.sure_end().at;
        let story = format!(
            "The holder {how} at {:.0} ms, after {} of its hold; the fault had healed or there was \
             none, and live work was to be finished.",
            view.ms(end),
            end.since(hold.taken.at),
        ) + &story::beats(view, hold, hold.sure_end());
        Some(finding(view, Kind::FalseCompromise, Role::Holder, end, story))
    })
}

/// Roles that ended with an error that is not their lock's answer to a failed beat.
fn crashes(view: &View<'_>, doubts: &mut Vec<Doubt>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for event in view.events {
        let What::Exited { role, code, signal } = event.what else { continue };
        let life = Life::up_to(view, role, event.seq);
        if code == Some(0) || life.is_end_accounted_for(view) {
            continue;
        }
        let text = |how: String| format!("{role} {how} at {:.0} ms", view.ms(event.at));
        let text = match (code, signal) {
            (Some(code), _) => text(format!("ended with exit code {code}")),
            (None, Some(signal)) => text(format!("was ended by signal {signal}")),
            (None, None) => {
                doubts.push(Doubt(text("ended, nobody knows how".to_owned())));
                continue;
            }
        };
        match view.first_blow() {
            Some(blow) if blow.seq < event.seq => {
                let inside = view.holds.iter().rfind(|hold| {
                    hold.role == role && hold.taken.seq < event.seq && hold.may_cover(event.seq)
                });
                let state = inside.map_or(" It was not inside then.".to_owned(), |hold| {
                    format!(" It was inside from {}.", story::ms(view, hold.taken.at))
                        + &story::disk_when_over(view, hold)
                });
                let story = format!(
                    "{text}, though no beat of it had failed, nothing had told it of trouble, and \
                     the plan had not killed it.{state}"
                );
                findings.push(finding(view, Kind::Crashed, role, event.at, story));
            }
            _ => doubts.push(Doubt(format!("{text}, before anything was done to it"))),
        }
    }
    findings
}

/// One process of a role, from its start to its end: a role may be started again.
struct Life {
    role: Role,
    from: u64,
    until: u64,
}

impl Life {
    fn up_to(view: &View<'_>, who: Role, until: u64) -> Life {
        let mut starts = view.events.iter().filter(|event| {
            event.seq < until && matches!(event.what, What::Started { role, .. } if role == who)
        });
        Life { role: who, from: starts.next_back().map_or(0, |event| event.seq), until }
    }

    /// Killed by the harness, said to have failed, fenced off; or told of trouble, stopped or with
    /// a failed beat: many libraries end the process then, which is their way to abort.
    fn is_end_accounted_for(&self, view: &View<'_>) -> bool {
        let has_reason = view.first_between(self.from, self.until, |what| match what {
            What::Killed { role, .. } | What::Fenced { role, .. } => *role == self.role,
            What::Witness { role, said } => {
                let is_reason = matches!(
                    said,
                    Said::Failed { .. } | Said::Degraded { .. } | Said::Lost { .. } | Said::Aborted
                );
                *role == self.role && is_reason
            }
            _ => false,
        });
        has_reason.is_some()
            || view.holds.iter().any(|hold| {
                let is_its = self.from < hold.taken.seq && hold.taken.seq < self.until;
                hold.role == self.role && is_its && !failures(view, hold).is_empty()
            })
    }
}
