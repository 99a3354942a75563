//! Mutual exclusion: at most one role is inside the critical section at any point of the history.
//!
//! Pure. Reads what the witness recorded, never the subject's own log.
//!
//! # Invariants
//! - Stays are compared by event sequence; an overlap of 0 ms is one. Times only give lengths.
//! - The end of a stay that ended by death is uncertain between the last thing that was seen of
//!   the role and its death; an overlap that lies in there alone is a doubt, not a finding.

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
    findings
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
        story: story(view, displaced, heir, to.at, &late, told_before, told_after, stopped),
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
fn story(
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
    let ms = |at: Nanos| format!("{:.0} ms", view.ms(at));
    let told = match (told_before, told_after) {
        (Some(told), _) => format!(
            "it was told {} before, at {}, and was inside still",
            from.since(told.at),
            ms(told.at)
        ),
        (None, Some(told)) => {
            format!("it was told only at {}, {} later", ms(told.at), told.at.since(from))
        }
        (None, None) => "it was never told".to_owned(),
    };
    let ended = match displaced.end {
        End::Left(_) => "left",
        End::Aborted(_) => "aborted",
        End::Died { .. } => "died",
        End::Open(_) => "was inside to the end of the run, which was",
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
    let end = displaced.sure_end().at;
    text.push_str(&format!(
        " {} {ended} at {}; {} of its protected writes came after {} had entered{}.",
        displaced.role,
        ms(end),
        late.accepted + late.refused,
        heir.role,
        match (late.accepted, late.refused) {
            (_, 0) => String::new(),
            (0, _) => ", and the resource refused every one for its old token".to_owned(),
            (_, refused) => format!(", of which the resource refused {refused}"),
        }
    ));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{HEIR, HOLDER, Story, control, holder_inside, kinds, trial};
    use super::super::{Kind, Outcome};
    use super::*;

    /// A holder that works on for 6 s beside an heir that enters at 2 s; `told` comes between.
    fn overlapping(told: impl Fn(Story) -> Story, late: impl Fn(Story) -> Story) -> Story {
        let story = told(holder_inside().at(400).beat(HOLDER, Some(28)).polls(HEIR).at(1800));
        let story = late(story.at(2100).says(HEIR, "entered").at(2200));
        let story = story.at(3100).says(HEIR, "left").exits(HEIR, 0);
        story.at(6100).says(HOLDER, "left").exits(HOLDER, 0).end()
    }

    fn exclusion_kinds(story: &Story, trial: &crate::plan::Trial) -> Vec<&'static str> {
        let verdict = story.judged(trial);
        let own = verdict.findings.iter().filter(|one| one.check == Check::Exclusion);
        own.map(|one| one.kind.as_str()).collect()
    }

    #[test]
    fn who_was_told_when_makes_the_kind() {
        let same = |story: Story| story;
        let told = |story: Story| story.says(HOLDER, "lost reason=x");
        let taken_back = |story: Story| story.says(HOLDER, "degraded op=x").says(HOLDER, "healthy");
        assert_eq!(exclusion_kinds(&overlapping(same, same), &trial()), ["double-held"]);
        assert_eq!(exclusion_kinds(&overlapping(told, same), &trial()), ["told-ignored"]);
        assert_eq!(exclusion_kinds(&overlapping(same, told), &trial()), ["told-late"]);
        assert_eq!(exclusion_kinds(&overlapping(taken_back, same), &trial()), ["double-held"]);
    }

    #[test]
    fn a_message_after_leaving_tells_nobody_in_time() {
        let story = holder_inside().polls(HEIR).at(2100).says(HEIR, "entered");
        let story = story.at(3000).says(HOLDER, "left").says(HOLDER, "lost reason=x");
        let story = story.says(HEIR, "left").exits(HEIR, 0).exits(HOLDER, 0).end();
        assert_eq!(exclusion_kinds(&story, &control()), ["double-held"]);
    }

    #[test]
    fn an_overlap_of_no_time_at_all_is_one() {
        let mut story = holder_inside().polls(HEIR).at(5000);
        for line in ["entered", "left"] {
            let role = if line == "entered" { HEIR } else { HOLDER };
            story = story.at(5000).says(role, line);
        }
        let story = story.exits(HOLDER, 0).at(6000).says(HEIR, "left").exits(HEIR, 0).end();
        assert_eq!(exclusion_kinds(&story, &control()), ["double-held"]);
        let after = holder_inside().polls(HEIR).at(6100).says(HOLDER, "left").at(6110);
        let after = after.says(HEIR, "entered").exits(HOLDER, 0).at(7200).says(HEIR, "left");
        let verdict = after.exits(HEIR, 0).end().judged(&control());
        assert_eq!((verdict.outcome, kinds(&verdict)), (Outcome::Held, vec![]), "{verdict:?}");
    }

    #[test]
    fn the_end_of_the_dead_is_uncertain_and_gives_a_doubt_only() {
        let dying = |entered: u64, exited: u64| {
            let story = holder_inside().polls(HEIR).at(1000).says(HOLDER, "wrote");
            let mut events = vec![(entered, true), (exited, false)];
            events.sort_unstable();
            let mut story = story;
            for (at, is_entering) in events {
                story = story.at(at);
                story =
                    if is_entering { story.says(HEIR, "entered") } else { story.exits(HOLDER, 0) };
            }
            story.at(4000).says(HEIR, "left").exits(HEIR, 0).end()
        };
        // Last seen at 1000, gone at 1100: between them nobody knows.
        let verdict = dying(1050, 1100).judged(&control());
        assert_eq!(verdict.outcome, Outcome::Inconclusive, "{verdict:?}");
        assert!(exclusion_kinds(&dying(1050, 1100), &control()).is_empty());
        assert_eq!(dying(1150, 1100).judged(&control()).outcome, Outcome::Held);
    }

    #[test]
    fn a_killed_holder_is_out_at_the_kill() {
        let story = holder_inside().polls(HEIR).at(1000).says(HOLDER, "wrote");
        let story = story.at(1100).killed(HOLDER).at(1110).says(HEIR, "entered").dies(HOLDER);
        let story = story.at(2200).says(HEIR, "left").exits(HEIR, 0).end();
        assert!(exclusion_kinds(&story, &control()).is_empty());
        assert_eq!(story.judged(&control()).outcome, Outcome::Held);
    }

    #[test]
    fn refused_late_writes_are_fenced_and_an_accepted_one_is_not() {
        let fenced = |accepted: bool| {
            let story = Story::default().starts(HOLDER).starts(HEIR).at(100);
            let story = story.says(HOLDER, "entered token=1").polls(HEIR);
            let story = story.at(2000).says(HEIR, "entered token=2").at(2100);
            let story = if accepted {
                story.says(HOLDER, "wrote")
            } else {
                story.refused(HOLDER, "wrote token=1")
            };
            let story = story.says(HOLDER, "aborted").exits(HOLDER, 0);
            story.at(3000).says(HEIR, "left").exits(HEIR, 0).end()
        };
        let mut claims_fencing = control();
        claims_fencing.claims.exclusion = Exclusion::Fenced;
        assert_eq!(exclusion_kinds(&fenced(false), &control()), ["fenced"]);
        assert_eq!(fenced(false).judged(&control()).outcome, Outcome::Violated);
        assert_eq!(fenced(false).judged(&claims_fencing).outcome, Outcome::Held);
        assert_eq!(exclusion_kinds(&fenced(true), &claims_fencing), ["double-held"]);
        assert_eq!(fenced(true).judged(&claims_fencing).outcome, Outcome::Violated);
    }

    #[test]
    fn what_the_scenario_allows_does_not_stand() {
        let told = |story: Story| story.says(HOLDER, "lost reason=x");
        let same = |story: Story| story;
        let mut lenient = trial();
        lenient.expect.exclusion = ExpectExclusion::Told;
        let stands = |story: &Story, trial: &crate::plan::Trial| {
            let verdict = story.judged(trial);
            verdict.findings.iter().any(|one| one.check == Check::Exclusion && one.violates)
        };
        assert!(!stands(&overlapping(told, same), &lenient));
        assert!(stands(&overlapping(same, told), &lenient));
        lenient.expect.exclusion = ExpectExclusion::Any;
        assert!(!stands(&overlapping(same, same), &lenient));
    }

    #[test]
    fn stopped_time_and_late_writes_are_counted() {
        let story = holder_inside().polls(HEIR).at(1000).what(What::Stopped { role: HOLDER });
        let story = story.at(2000).says(HEIR, "entered").at(2600);
        let story = story.what(What::Continued { role: HOLDER }).says(HOLDER, "wrote");
        let story = story.says(HOLDER, "wrote").at(3000).says(HEIR, "left").exits(HEIR, 0);
        let story = story.at(6100).says(HOLDER, "left").exits(HOLDER, 0).end();
        let verdict = story.judged(&control());
        let finding = &verdict.findings[0];
        assert_eq!(finding.kind, Kind::DoubleHeld);
        let shown = [finding.from_ms, finding.overlap_ms, finding.stopped_ms];
        assert_eq!(shown, [1900.0, 1000.0, 600.0]);
        assert_eq!(finding.late_writes, 2);
    }

    proptest! {
        /// Against the slow obvious version: walk the lines and count who is inside.
        #[test]
        fn overlaps_are_those_that_counting_sees(moves in proptest::collection::vec((0u8..3, any::<bool>()), 0..40)) {
            let role = |n: u8| if n == 0 { HOLDER } else { Role::Contender(n) };
            let mut story = Story::default();
            let mut inside = std::collections::BTreeSet::new();
            let mut overlaps = 0;
            for (who, enters) in moves {
                let line = if enters { "entered" } else { "left" };
                if enters && !inside.contains(&who) {
                    overlaps += inside.len();
                    inside.insert(who);
                } else if !enters {
                    inside.remove(&who);
                }
                story = story.says(role(who), line);
            }
            let trial = control();
            let history = story.end().history;
            let view = View::new(&trial, &history);
            prop_assert_eq!(exclusion(&view, &mut Vec::new()).len(), overlaps);
        }
    }

    use crate::role::Role;
}
