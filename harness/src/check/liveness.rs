//! Whether locks become free, and whether live work lives.
//!
//! Pure. A `gave-up` while another role rightly holds is no finding; a role that was reached by a
//! fault or had no room to work in is not asked to get in.

use super::beats::failures;
use super::reaction::left_early;
use super::view::{End, Hold, View};
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
    findings.extend(expected_takeover(view, doubts));
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
    let Some(from) = view.time_of(takeover.after) else {
        doubts.push(Doubt(format!("`{}` never came, so no takeover was due", takeover.after)));
        return None;
    };
    let until = from + takeover.within;
    // Whoever goes is not the one who comes; whoever starts may be.
    let but = match takeover.after.anchor {
        Anchor::Role(Who::One(role), sign) if sign != Sign::Started => Some(role),
        _ => None,
    };
    let entered = view
        .holds
        .iter()
        .find(|hold| Some(hold.role) != but && hold.sure_end().at >= from)
        .map(|hold| hold.taken.at);
    if entered.is_some_and(|at| at <= until) {
        return None;
    }
    let tried = view.trial.plan.cast.iter().map(|part| part.role).find(|role| {
        Some(*role) != but && waited_until(view, *role).is_some_and(|waited| waited >= until)
    });
    let Some(tried) = tried else {
        doubts.push(Doubt(format!(
            "no contender was trying from `{}` for {}, so nothing can be said of a takeover",
            takeover.after, takeover.within
        )));
        return None;
    };
    let end = entered
        .map_or("never got in".to_owned(), |at| format!("got in only {} after it", at.since(from)));
    Some(finding(
        view,
        Kind::Stuck,
        tried,
        from,
        format!(
            "The lock was to be taken over within {} of `{}` ({:.0} ms); {tried}, which was trying all \
         that time, {end}.",
            takeover.within,
            takeover.after,
            view.ms(from),
        ),
    ))
}

/// Up to when a role was trying to get in: to its entering, giving up or end.
fn waited_until(view: &View<'_>, who: Role) -> Option<Nanos> {
    view.first(|what| matches!(what, What::Started { role, .. } if *role == who))?;
    let end = view.first(|what| match what {
        What::Witness { role, said } => {
            *role == who
                && matches!(said, Said::Entered { .. } | Said::GaveUp | Said::Failed { .. })
        }
        What::Exited { role, .. } => *role == who,
        _ => false,
    });
    Some(end.unwrap_or(view.end()).at)
}

/// Without an expectation: who gave up though the lock had long been free.
fn gave_up_on_a_free_lock(view: &View<'_>) -> Option<Finding> {
    if !contenders_are_unharmed(view) {
        return None;
    }
    for event in view.events {
        let What::Witness { role, said: Said::GaveUp } = &event.what else { continue };
        if *role == Role::Holder {
            continue;
        }
        let last = view
            .holds
            .iter()
            .filter(|hold| hold.taken.seq < event.seq)
            .max_by_key(|hold| hold.last_end())?;
        let is_free = last.last_end().seq < event.seq && !matches!(last.end, End::Open(_));
        let bound = bound_after(view, last)?;
        let free_for = event.at.since(last.last_end().at);
        if is_free && free_for > bound {
            return Some(finding(
                view,
                Kind::Stuck,
                *role,
                last.last_end().at,
                format!(
                    "{role} gave up at {:.0} ms, though nobody had been inside for {free_for}: {} had {} \
                 at {:.0} ms.",
                    view.ms(event.at),
                    last.role,
                    match last.end {
                        End::Left(_) => "left",
                        End::Aborted(_) => "aborted",
                        _ => "died",
                    },
                    view.ms(last.last_end().at),
                ),
            ));
        }
    }
    None
}

/// How long a lock may stay taken after its owner went; `None`: for ever.
fn bound_after(view: &View<'_>, last: &Hold) -> Option<Nanos> {
    let timing = &view.trial.plan.timing;
    let said_released = view.first(
        |what| matches!(what, What::Witness { role, said: Said::Released } if *role == last.role),
    );
    if matches!(last.end, End::Left(_)) && said_released.is_some() {
        return Some(timing.stale_unit.max(Nanos::from_ms(1000)));
    }
    view.trial.claims.dead_owner_takeover.map(|claimed| claimed.max(timing.stale_unit.scaled(2.0)))
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
    let hold = view.holds.iter().find(|hold| hold.role == Role::Holder)?;
    let how = match hold.end {
        End::Left(_) if !left_early(view, hold) => return None,
        End::Left(_) => "left early",
        End::Aborted(_) => "aborted",
        End::Died { planned: true, .. } => return None,
        End::Died { .. } => "died",
        // The run was ended by a bound, which is said elsewhere; nobody killed the work.
        End::Open(_) => return None,
    };
    let end = hold.sure_end().at;
    Some(finding(
        view,
        Kind::FalseCompromise,
        Role::Holder,
        end,
        format!(
            "The holder {how} at {:.0} ms, after {} of its hold; the fault had healed or there was none, \
         and live work was to be finished.",
            view.ms(end),
            end.since(hold.taken.at),
        ),
    ))
}

/// Roles that ended with an error that is not their lock's answer to a failed beat.
fn crashes(view: &View<'_>, doubts: &mut Vec<Doubt>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for event in view.events {
        let What::Exited { role, code, signal } = event.what else { continue };
        let is_accounted_for =
            was_killed(view, role, event.seq) || said_failed(view, role) || was_told(view, role);
        if code == Some(0) || is_accounted_for {
            continue;
        }
        let how = match (code, signal) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended, nobody knows how".to_owned(),
        };
        let own_holds = view.holds.iter().filter(|hold| hold.role == role);
        let beat_failed = own_holds.into_iter().any(|hold| !failures(view, hold).is_empty());
        if beat_failed || was_fenced(view, role) {
            continue;
        }
        let text = format!("{role} {how} at {:.0} ms", view.ms(event.at));
        match view.first_blow() {
            Some(blow) if blow.seq < event.seq => {
                let story = format!("{text}, though none of its beats had failed.");
                findings.push(finding(view, Kind::Crashed, role, event.at, story));
            }
            _ => doubts.push(Doubt(format!("{text}, before anything was done to it"))),
        }
    }
    findings
}

fn was_killed(view: &View<'_>, who: Role, before: u64) -> bool {
    view.first(|what| matches!(what, What::Killed { role, .. } if *role == who))
        .is_some_and(|killed| killed.seq < before)
}

/// Whether it had been told of trouble, or had stopped its work: many libraries end the process
/// then, which is their way to abort.
fn was_told(view: &View<'_>, who: Role) -> bool {
    view.first(|what| match what {
        What::Witness { role, said } => {
            *role == who
                && matches!(said, Said::Degraded { .. } | Said::Lost { .. } | Said::Aborted)
        }
        _ => false,
    })
    .is_some()
}

fn was_fenced(view: &View<'_>, who: Role) -> bool {
    view.first(|what| matches!(what, What::Fenced { role, .. } if *role == who)).is_some()
}

fn said_failed(view: &View<'_>, who: Role) -> bool {
    view.first(
        |what| matches!(what, What::Witness { role, said: Said::Failed { .. } } if *role == who),
    )
    .is_some()
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::super::testing::{HEIR, HOLDER, Story, control, holder_inside, kinds, trial};
    use crate::history::What;
    use crate::moment::{Anchor, Moment, Sign};
    use crate::plan::{Act, Deed, Reach, Reaction, Takeover, Trial};
    use crate::role::Who;
    use crate::time::Nanos;

    /// The holder is killed at 1 s; its heir is to be in within 2 s.
    fn killing() -> Trial {
        let mut trial = control();
        let after =
            |sign| Moment { anchor: Anchor::Role(Who::One(HOLDER), sign), offset: Nanos::ZERO };
        trial.plan.events = vec![Act {
            number: 1,
            at: after(Sign::Entered),
            what: Deed::Kill(Who::One(HOLDER), Reach::Tree),
            text: "kill holder".to_owned(),
        }];
        trial.expect.takeover =
            Some(Takeover { after: after(Sign::Dead), within: Nanos::from_ms(2000) });
        trial
    }

    fn killed() -> Story {
        let story = holder_inside().at(1000).killed(HOLDER);
        let story = story.what(What::Done { event: 1, note: String::new() });
        story.at(1020).dies(HOLDER).polls(HEIR)
    }

    #[test]
    fn an_heir_in_time_is_fine_and_a_late_one_or_none_is_stuck() {
        let entering = |at: u64| {
            killed().at(at).says(HEIR, "entered").at(at + 1000).says(HEIR, "left").exits(HEIR, 0)
        };
        assert_eq!(entering(2900).end().judged(&killing()).outcome, Outcome::Held);
        assert_eq!(kinds(&entering(3100).end().judged(&killing())), ["stuck"]);
        let never = killed().at(13_000).says(HEIR, "gave-up").exits(HEIR, 0).end();
        assert_eq!(kinds(&never.judged(&killing())), ["stuck"]);
    }

    #[test]
    fn a_contender_that_stopped_trying_proves_nothing_of_a_takeover() {
        let early = killed().at(1500).says(HEIR, "gave-up").exits(HEIR, 0).end();
        let verdict = early.judged(&killing());
        assert!(kinds(&verdict).is_empty());
        assert_eq!(verdict.outcome, Outcome::Inconclusive);
    }

    #[test]
    fn giving_up_on_a_held_lock_is_fine_and_on_a_free_one_is_stuck() {
        let held = holder_inside().polls(HEIR).at(3000).says(HEIR, "gave-up").exits(HEIR, 0);
        let held = held.at(6100).says(HOLDER, "left").says(HOLDER, "released").exits(HOLDER, 0);
        assert_eq!(held.end().judged(&control()).outcome, Outcome::Held);
        let free = holder_inside().polls(HEIR).at(6100).says(HOLDER, "left");
        let free = free.says(HOLDER, "released").exits(HOLDER, 0).at(12_000);
        let free = free.says(HEIR, "gave-up").exits(HEIR, 0).end();
        assert_eq!(kinds(&free.judged(&control())), ["stuck"]);
    }

    #[test]
    fn live_work_that_a_healed_fault_killed_is_a_false_compromise() {
        let mut healing = trial();
        healing.expect.holder = vec![Reaction::Finish];
        let healed = holder_inside().polls(HEIR).at(400).beat(HOLDER, Some(5)).at(700);
        let healed = healed.beat(HOLDER, None).polls(HEIR).at(1000);
        let ends = |story: Story| story.exits(HEIR, 0).end().judged(&healing);
        let aborted = healed.clone().says(HOLDER, "aborted").exits(HOLDER, 0);
        assert_eq!(kinds(&ends(aborted.says(HEIR, "gave-up"))), ["false-compromise"]);
        let early = healed.clone().says(HOLDER, "left").exits(HOLDER, 0);
        assert_eq!(kinds(&ends(early.says(HEIR, "gave-up"))), ["false-compromise"]);
        let whole = healed.at(6100).says(HOLDER, "left").exits(HOLDER, 0);
        assert_eq!(ends(whole.says(HEIR, "gave-up")).outcome, Outcome::Held);
    }

    #[test]
    fn a_crash_is_one_unless_the_beat_failed_or_the_plan_did_it() {
        let blow = |story: Story| story.what(What::Done { event: 1, note: String::new() });
        let ends =
            |story: Story| story.polls(HEIR).at(12_500).says(HEIR, "gave-up").exits(HEIR, 0).end();
        let mut trial = killing();
        trial.expect.takeover = None;
        trial.claims.dead_owner_takeover = None;
        let crashed = ends(blow(holder_inside()).at(900).exits(HOLDER, 139));
        assert_eq!(kinds(&crashed.judged(&trial)), ["crashed"]);
        let before = ends(holder_inside().at(900).exits(HOLDER, 1)).judged(&control());
        assert!(kinds(&before).iter().all(|kind| *kind != "crashed"), "{before:?}");
        assert!(before.reason.is_some_and(|why| why.contains("before anything was done")));
        let own = holder_inside().at(400).beat(HOLDER, Some(28)).at(900).exits(HOLDER, 1);
        assert!(!kinds(&ends(own).judged(&self::trial())).contains(&"crashed"));
        let told = blow(holder_inside()).says(HOLDER, "lost").at(900).exits(HOLDER, 1);
        assert!(!kinds(&ends(told).judged(&trial)).contains(&"crashed"));
    }
}
