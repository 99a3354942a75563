//! Runs that prove nothing, and plain runs that must not be called so.

use rstest::rstest;

use crate::check::script::*;
use crate::check::{Outcome, Verdict};
use crate::history::{History, TOO_SLOW, What};
use crate::op::OpKind;
use crate::plan::{Deed, Reach};
use crate::role::Who;
use crate::time::Nanos;

fn is_doubted(verdict: &Verdict, word: &str) -> bool {
    verdict.outcome == Outcome::Inconclusive
        && verdict.reason.as_ref().is_some_and(|reason| reason.contains(word))
}

/// A control: nothing goes wrong.
fn control() -> Script {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(10).polls(C1);
    script
}

fn to_the_end(script: &mut Script) -> Verdict {
    script.at(6000).goes(HOLDER).at(6100).says(C1, "entered").at(7100).goes(C1).verdict()
}

#[test]
fn a_healthy_control_holds() {
    let verdict = to_the_end(&mut control());
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Held, None));
}

#[test]
fn a_healthy_transient_holds() {
    let mut script = control();
    script.with_fault().at(300).fails(HOLDER).at(400).beats(HOLDER).at(500).polls(C1);
    let verdict = to_the_end(&mut script);
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:?}");
}

#[test]
fn a_holder_that_aborts_at_once_holds_though_no_stale_window_elapsed() {
    let mut script = control();
    script.with_fault().at(300).fails(HOLDER).says(HOLDER, "lost path=resource.lock op=utimes");
    script.says(HOLDER, "aborted").exits(HOLDER, 0).at(400).polls(C1);
    let verdict = script.at(1500).says(C1, "entered").at(2500).goes(C1).verdict();
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:?}");
}

#[test]
fn a_fault_that_never_fired_proves_nothing() {
    let mut script = control();
    script.with_fault();
    assert!(is_doubted(&to_the_end(&mut script), "fault 1 never fired"));
}

#[test]
fn an_event_that_did_not_happen_proves_nothing() {
    let mut script = control();
    script.with_event(1, Deed::Heal, "heal");
    assert!(is_doubted(&to_the_end(&mut script), "event 1 did not happen"));
    let mut script = control();
    script
        .with_event(1, Deed::Heal, "heal")
        .push(What::NotDone { event: 1, why: "no match".to_owned() });
    assert!(is_doubted(&to_the_end(&mut script), "no match"));
}

#[test]
fn a_contender_that_never_touched_the_lock_after_the_blow_proves_nothing() {
    let mut script = control();
    script.with_fault().at(300).fails(HOLDER).at(400).beats(HOLDER);
    assert!(is_doubted(&to_the_end(&mut script), "no contender touched the lock"));
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered");
    assert!(is_doubted(&to_the_end(&mut script), "no contender touched the lock"));
}

#[test]
fn the_holders_own_operations_are_no_contenders() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(HOLDER);
    assert!(is_doubted(&to_the_end(&mut script), "no contender touched the lock"));
}

#[rstest]
#[case("entered now", "no line of the protocol")]
fn garbage_proves_nothing(#[case] line: &str, #[case] word: &str) {
    let mut script = control();
    script.says(HOLDER, line);
    assert!(is_doubted(&to_the_end(&mut script), word));
}

#[test]
fn trouble_proves_nothing_and_hides_no_violation() {
    let mut script = control();
    script.push(What::Trouble { why: "a bound was hit".to_owned() });
    assert!(is_doubted(&to_the_end(&mut script), "a bound was hit"));
    let mut script = control();
    script.push(What::Trouble { why: "a bound was hit".to_owned() });
    script.at(500).says(C1, "entered");
    let verdict = script.at(6000).goes(HOLDER).goes(C1).verdict();
    assert_eq!(verdict.outcome, Outcome::Violated);
}

#[test]
fn nobody_inside_or_no_holder_inside_proves_nothing() {
    let mut script = Script::new();
    script.polls(C1).says(HOLDER, "gave-up").exits(HOLDER, 0).says(C1, "gave-up").exits(C1, 0);
    assert!(is_doubted(&script.verdict(), "nobody ever entered"));
    let mut script = Script::new();
    script.polls(C1).at(5).says(C1, "entered").at(1005).goes(C1);
    let verdict = script.says(HOLDER, "gave-up").exits(HOLDER, 0).verdict();
    assert!(is_doubted(&verdict, "the holder never entered"));
}

#[test]
fn a_role_that_ends_without_a_word_or_never_starts_proves_nothing() {
    let mut script = control();
    script.at(100).exits(C1, 0);
    assert!(is_doubted(&script.at(6000).goes(HOLDER).verdict(), "contender-1 ended without"));
    let mut script = control();
    let c2 = script.trial.plan.cast[1].clone();
    script.trial.plan.cast.push(crate::plan::Part { role: C2, ..c2 });
    assert!(is_doubted(&to_the_end(&mut script), "contender-2 never started"));
}

#[test]
fn a_second_try_of_which_nothing_was_said_proves_nothing() {
    let mut script = control();
    script.trial.plan.cast[0].again = Some(Nanos::from_ms(300));
    assert!(is_doubted(&to_the_end(&mut script), "never said what came of it"));
    let mut script = control();
    script.trial.plan.cast[0].again = Some(Nanos::from_ms(300));
    script.at(300).says(HOLDER, "refused");
    assert_eq!(to_the_end(&mut script).outcome, Outcome::Held);
}

#[test]
fn failing_before_anything_was_done_proves_nothing() {
    let mut script = control();
    script.at(100).says(C1, "failed no such module").exits(C1, 1);
    assert!(is_doubted(&script.at(6000).goes(HOLDER).verdict(), "contender-1 failed before"));
}

#[test]
fn a_history_that_is_cut_off_proves_nothing() {
    let mut script = control();
    let verdict = to_the_end(&mut script);
    assert_eq!(verdict.outcome, Outcome::Held);
    let mut cut: History = script.history().clone();
    cut.events.truncate(cut.events.len() - 2);
    let verdict = crate::check::judge(&script.trial, &cut, "2026-06-01");
    assert!(is_doubted(&verdict, "no end"));
    let verdict = crate::check::judge(&script.trial, &History::default(), "2026-06-01");
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
}

#[test]
fn a_run_that_ends_before_the_lock_looked_dead_proves_nothing() {
    let mut script = control();
    script.with_fault().at(300).fails(HOLDER).polls(C1).at(900);
    script.push(What::Killed { role: HOLDER, planned: false }).dies(HOLDER);
    script.push(What::Killed { role: C1, planned: false }).dies(C1);
    let verdict = script.verdict();
    assert!(is_doubted(&verdict, "before stale-after"), "{verdict:?}");
}

#[test]
fn a_lock_that_looked_dead_to_nobody_proves_nothing() {
    // Nothing is claimed, so that no finding stands; the only contender has gone before 1300.
    let mut script = control();
    script.with_fault().trial(|trial| {
        trial.claims.on_failure = Vec::new();
        trial.claims.warns = Vec::new();
    });
    script.at(300).fails(HOLDER).polls(C1).at(1200).says(C1, "gave-up").exits(C1, 0);
    script.fails_from_to(HOLDER, 1500, 5700);
    let verdict = script.at(6000).goes(HOLDER).verdict();
    assert!(is_doubted(&verdict, "no contender was trying then"), "{verdict:?}");
}

#[test]
fn a_lock_that_is_never_stolen_from_a_living_owner_holds_while_somebody_tries() {
    let mut script = control();
    script.with_fault().trial(|trial| {
        trial.claims.on_failure = Vec::new();
        trial.claims.warns = Vec::new();
    });
    script.fails_from_to(HOLDER, 300, 5700);
    script.polls(C1);
    let verdict = to_the_end(&mut script);
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:?}");
}

#[test]
fn a_dead_owner_that_is_succeeded_holds() {
    let mut script = control();
    script.with_event(1, Deed::Kill(Who::One(HOLDER), Reach::Tree), "kill holder");
    script.at(500).killed(HOLDER).done(1).dies(HOLDER).at(600).polls(C1);
    let verdict = script.at(2000).says(C1, "entered").at(3000).goes(C1).verdict();
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:?}");
}

#[test]
fn what_becomes_of_a_lock_after_its_owner_was_displaced_is_no_doubt() {
    let mut script = control();
    script.with_fault().trial(|trial| {
        trial.claims.on_failure = Vec::new();
        trial.claims.warns = Vec::new();
        trial.expect.exclusion = crate::plan::ExpectExclusion::Any;
    });
    script.at(300).fails(HOLDER).polls(C1).at(600).beats(HOLDER);
    script.at(1500).says(C1, "entered").at(2500).goes(C1);
    script.fails_from_to(HOLDER, 2600, 5600);
    let verdict = script.at(6000).goes(HOLDER).verdict();
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:?}");
}

#[test]
fn a_flood_of_doubts_is_told_in_a_few_words() {
    let mut script = control();
    for number in 0..1000 {
        script.says(HOLDER, &format!("nonsense {number}")).says(HOLDER, "nonsense");
    }
    let verdict = to_the_end(&mut script);
    let reason = verdict.reason.unwrap();
    assert!(reason.len() < 2000 && reason.ends_with("and 993 more"), "{reason}");
}

#[test]
fn where_the_machine_was_too_slow_not_even_a_violation_stands() {
    let mut script = control();
    script.at(500).push(What::Trouble { why: format!("{TOO_SLOW}: 900 ms late") });
    script.at(1000).says(C1, "entered").at(2000).goes(C1);
    let verdict = to_the_end(&mut script);
    assert_eq!(verdict.outcome, Outcome::Inconclusive, "{verdict:?}");
}

#[test]
fn what_is_closed_for_a_killed_contender_is_no_try() {
    let killed = |starts_again: bool| {
        let mut script = control();
        script.with_fault().at(300).fails(HOLDER).killed(C1);
        script.acts(C1, OpKind::Close, "resource.lock/beat", 7).dies(C1).at(400).beats(HOLDER);
        if starts_again {
            script.at(500).starts(C1).polls(C1);
        }
        script.at(6000).goes(HOLDER).verdict()
    };
    assert!(is_doubted(&killed(false), "no contender touched"), "{:?}", killed(false));
    assert!(!is_doubted(&killed(true), "no contender touched"), "{:?}", killed(true));
}
