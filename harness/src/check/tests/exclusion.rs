//! Two inside: when it is an overlap, what kind, and when nobody can tell.

use proptest::prelude::*;

use crate::check::script::*;
use crate::check::{Finding, Kind, Outcome, Verdict};
use crate::history::What;
use crate::op::OpKind;
use crate::plan::{Exclusion, ExpectExclusion};
use crate::role::Role;
use crate::time::Nanos;

fn overlap(verdict: &Verdict) -> &Finding {
    let found =
        verdict.findings.iter().find(|finding| finding.check == crate::check::Check::Exclusion);
    found.unwrap_or_else(|| panic!("no overlap was found: {verdict:?}"))
}

fn kinds(verdict: &Verdict) -> Vec<Kind> {
    let of_exclusion =
        verdict.findings.iter().filter(|one| one.check == crate::check::Check::Exclusion);
    of_exclusion.map(|finding| finding.kind).collect()
}

/// The holder inside from 0 to 2000 and the heir from 1000 to 3000, with `between` at 900.
fn displaced(between: impl FnOnce(&mut Script)) -> Verdict {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(900).polls(C1);
    between(&mut script);
    script.at(1000).says(C1, "entered").at(2000).goes(HOLDER).at(3000).goes(C1);
    script.verdict()
}

#[test]
fn a_hand_over_is_no_overlap() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(10).polls(C1).at(6000).says(HOLDER, "left");
    // In the same nanosecond: the order decides.
    script.says(C1, "entered").says(HOLDER, "released").exits(HOLDER, 0).at(7000).goes(C1);
    let verdict = script.verdict();
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:?}");
}

#[test]
fn a_lock_given_twice_to_one_process_is_double_held() {
    let run = |said: &str, expected| {
        let mut script = Script::new();
        script.trial.plan.cast[0].again = Some(Nanos::from_ms(300));
        script.trial.expect.exclusion = expected;
        script.at(0).says(HOLDER, "entered").at(10).polls(C1).at(300).says(HOLDER, said);
        script.at(6000).goes(HOLDER).says(C1, "entered").at(7000).goes(C1);
        script.verdict()
    };
    let twice = run("admitted", ExpectExclusion::Held);
    assert_eq!(twice.outcome, Outcome::Violated);
    assert_eq!(
        (overlap(&twice).kind, &overlap(&twice).roles[..]),
        (Kind::DoubleHeld, &[HOLDER][..])
    );
    assert!((overlap(&twice).from_ms - 300.0).abs() < 1e-9, "{twice:?}");
    assert!((overlap(&twice).overlap_ms - 5700.0).abs() < 1e-9, "{twice:?}");
    assert_eq!(run("admitted", ExpectExclusion::Any).outcome, Outcome::Held);
    assert_eq!(run("refused reason=busy", ExpectExclusion::Held).outcome, Outcome::Held);
}

#[test]
fn an_overlap_of_no_length_counts() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(10).polls(C1).at(6000).says(C1, "entered");
    script.says(HOLDER, "left").says(HOLDER, "released").exits(HOLDER, 0).at(7000).goes(C1);
    let verdict = script.verdict();
    assert_eq!(verdict.outcome, Outcome::Violated);
    assert_eq!(overlap(&verdict).kind, Kind::DoubleHeld);
    assert!(overlap(&verdict).overlap_ms.abs() < 1e-9);
}

#[test]
fn both_inside_and_never_told_is_double_held() {
    let verdict = displaced(|_| {});
    assert_eq!(kinds(&verdict), [Kind::DoubleHeld]);
    let found = overlap(&verdict);
    assert_eq!(found.roles, [HOLDER, C1]);
    assert!((found.from_ms - 1000.0).abs() < 1e-9 && (found.overlap_ms - 1000.0).abs() < 1e-9);
}

#[test]
fn both_inside_and_told_before_is_told_ignored() {
    for line in ["degraded op=utimes", "lost reason=gone"] {
        let verdict = displaced(|script| {
            script.says(HOLDER, line);
        });
        assert_eq!(kinds(&verdict), [Kind::ToldIgnored], "{line}");
    }
}

#[test]
fn a_notice_that_is_taken_back_tells_nobody() {
    let verdict = displaced(|script| {
        script.says(HOLDER, "lost").says(HOLDER, "healthy");
    });
    assert_eq!(kinds(&verdict), [Kind::DoubleHeld]);
}

#[test]
fn a_notice_of_an_earlier_failure_is_not_about_this_one() {
    let verdict = displaced(|script| {
        script.says(HOLDER, "degraded op=utimes").beats(HOLDER);
    });
    assert_eq!(kinds(&verdict), [Kind::DoubleHeld]);
    let verdict = displaced(|script| {
        script.says(HOLDER, "lost").beats(HOLDER);
    });
    assert_eq!(kinds(&verdict), [Kind::ToldIgnored], "lost stands until healthy");
}

#[test]
fn a_beat_on_the_heirs_file_takes_no_notice_back() {
    let mut script = Script::new();
    let utimes = |script: &mut Script, ino: u64| {
        script.does(HOLDER, OpKind::Utimes, BEAT, Ok(0), |op, _, _| op.ino = Some(ino));
    };
    script.at(0).says(HOLDER, "entered").at(300);
    utimes(&mut script, 7);
    script.at(600).says(HOLDER, "degraded op=utimes").at(900).polls(C1);
    utimes(&mut script, 8);
    script.at(1000).says(C1, "entered").at(2000).goes(HOLDER).at(3000).goes(C1);
    assert_eq!(kinds(&script.verdict()), [Kind::ToldIgnored]);
}

#[test]
fn a_notice_to_somebody_else_or_before_entering_tells_nobody() {
    let verdict = displaced(|script| {
        script.says(C1, "degraded op=utimes");
    });
    assert_eq!(kinds(&verdict), [Kind::DoubleHeld]);
    let mut script = Script::new();
    script.says(HOLDER, "lost").at(1).says(HOLDER, "entered").polls(C1);
    script.at(1000).says(C1, "entered").at(2000).goes(HOLDER).at(3000).goes(C1);
    assert_eq!(kinds(&script.verdict()), [Kind::DoubleHeld]);
}

#[test]
fn told_after_the_heir_entered_is_told_late_and_after_left_is_never() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(1000).says(C1, "entered");
    script.at(1500).says(HOLDER, "lost").at(2000).says(HOLDER, "aborted").exits(HOLDER, 0);
    script.at(3000).goes(C1);
    assert_eq!(kinds(&script.verdict()), [Kind::ToldLate]);

    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(1000).says(C1, "entered");
    script.at(2000).says(HOLDER, "left").says(HOLDER, "lost").exits(HOLDER, 0).at(3000).goes(C1);
    assert_eq!(kinds(&script.verdict()), [Kind::DoubleHeld]);
}

#[test]
fn what_is_only_printed_is_not_told() {
    let verdict = displaced(|script| {
        script.prints(HOLDER, "lost resource.lock: utimes ENOSPC\n");
    });
    assert_eq!(kinds(&verdict), [Kind::DoubleHeld]);
}

#[test]
fn an_overlap_is_fine_where_the_scenario_says_so() {
    let mut told = Script::new();
    told.trial(|trial| trial.expect.exclusion = ExpectExclusion::Told);
    told.at(0).says(HOLDER, "entered").polls(C1).at(900).says(HOLDER, "lost");
    told.at(1000).says(C1, "entered").at(2000).goes(HOLDER).at(3000).goes(C1);
    let verdict = told.verdict();
    assert_eq!(kinds(&verdict), [Kind::ToldIgnored]);
    assert!(!overlap(&verdict).violates);

    for (expected, violates) in [(ExpectExclusion::Told, true), (ExpectExclusion::Any, false)] {
        let mut untold = Script::new();
        untold.trial(|trial| trial.expect.exclusion = expected);
        untold.at(0).says(HOLDER, "entered").polls(C1).at(1000).says(C1, "entered");
        untold.at(1100).says(HOLDER, "lost").at(2000).goes(HOLDER).at(3000).goes(C1);
        let verdict = untold.verdict();
        assert_eq!(overlap(&verdict).violates, violates, "{expected:?}");
    }
}

/// An overlap with tokens; `late` are writes of the holder after its heir entered.
fn with_tokens(claim: Exclusion, late: &[(&str, bool)]) -> Verdict {
    let mut script = Script::new();
    script.trial(|trial| trial.claims.exclusion = claim);
    script.at(0).says(HOLDER, "entered token=1").says(HOLDER, "wrote token=1").polls(C1);
    script.at(1000).says(C1, "entered token=2");
    for (line, is_refused) in late {
        script.at(1500);
        if *is_refused {
            script.fenced(HOLDER, line, C1)
        } else {
            script.says(HOLDER, line)
        };
    }
    script.at(2000).goes(HOLDER).at(3000).goes(C1);
    script.verdict()
}

#[test]
fn late_writes_that_are_all_refused_are_fenced() {
    let verdict = with_tokens(Exclusion::Fenced, &[("wrote token=1", true)]);
    assert_eq!(kinds(&verdict), [Kind::Fenced]);
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:?}");
    assert_eq!(overlap(&verdict).late_writes, 0);
    let verdict = with_tokens(Exclusion::Strict, &[("wrote token=1", true)]);
    assert_eq!(kinds(&verdict), [Kind::Fenced]);
    assert_eq!(verdict.outcome, Outcome::Violated);
}

#[test]
fn one_accepted_late_write_breaks_the_fence() {
    // Without a token nothing is refused: the fence has a hole.
    let late = [("wrote token=1", true), ("wrote", false)];
    let verdict = with_tokens(Exclusion::Fenced, &late);
    assert_eq!(kinds(&verdict), [Kind::DoubleHeld]);
    assert_eq!(verdict.outcome, Outcome::Violated);
    assert_eq!(overlap(&verdict).late_writes, 1);
}

#[test]
fn nothing_written_late_is_fenced_only_where_that_is_claimed() {
    assert_eq!(kinds(&with_tokens(Exclusion::Fenced, &[])), [Kind::Fenced]);
    assert_eq!(kinds(&with_tokens(Exclusion::Strict, &[])), [Kind::DoubleHeld]);
}

#[test]
fn a_lock_without_tokens_is_never_fenced() {
    let mut script = Script::new();
    script.trial(|trial| trial.claims.exclusion = Exclusion::Fenced);
    script.at(0).says(HOLDER, "entered").polls(C1).at(1000).says(C1, "entered");
    script.at(2000).goes(HOLDER).at(3000).goes(C1);
    assert_eq!(kinds(&script.verdict()), [Kind::DoubleHeld]);
}

#[test]
fn who_was_refused_at_the_door_is_not_inside() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered token=2").polls(C1);
    script.at(1000).fenced(C1, "entered token=1", HOLDER).at(1100).exits(C1, 1);
    script.at(6000).goes(HOLDER);
    let verdict = script.verdict();
    assert!(kinds(&verdict).is_empty(), "{verdict:?}");
}

#[test]
fn late_writes_are_those_of_the_displaced_one_after_its_heir() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(500).says(HOLDER, "wrote");
    script.at(1000).says(C1, "entered").says(C1, "wrote").at(1100).says(HOLDER, "wrote");
    script.at(1200).says(HOLDER, "wrote").at(2000).goes(HOLDER).at(3000).goes(C1);
    assert_eq!(overlap(&script.verdict()).late_writes, 2);
}

#[test]
fn stopped_time_is_counted_within_the_overlap_only() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(500).push(What::Stopped { role: HOLDER });
    script.at(1000).says(C1, "entered").at(1600).push(What::Continued { role: HOLDER });
    script.at(2000).goes(HOLDER).at(3000).goes(C1);
    let verdict = script.verdict();
    assert!((overlap(&verdict).stopped_ms - 600.0).abs() < 1e-9, "{verdict:?}");
    assert!((overlap(&verdict).overlap_ms - 1000.0).abs() < 1e-9);
}

#[test]
fn contenders_exclude_each_other_too_and_so_does_a_second_stay() {
    let mut script = Script::new();
    script.with_c2().stays(HOLDER, 0, 500);
    script.at(600).says(C1, "entered").polls(C2).at(700).says(C2, "entered");
    script.at(900).goes(C1).at(1000).goes(C2);
    let verdict = script.verdict();
    assert_eq!(overlap(&verdict).roles, [C1, C2]);

    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(100).says(HOLDER, "left").at(200).says(C1, "entered");
    script.polls(C1).at(300).says(HOLDER, "entered").at(400).goes(C1).at(500).goes(HOLDER);
    let verdict = script.verdict();
    assert_eq!(overlap(&verdict).roles, [C1, HOLDER]);
}

#[test]
fn a_stay_that_nobody_saw_end_lasts_to_the_end() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(5000).says(C1, "entered").at(6000).goes(C1);
    assert_eq!(kinds(&script.verdict()), [Kind::DoubleHeld]);
}

#[test]
fn a_dead_holder_is_succeeded_without_an_overlap() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(900).says(HOLDER, "wrote");
    script.at(1000).killed(HOLDER).dies(HOLDER).polls(C1).says(C1, "entered").at(3000).goes(C1);
    let verdict = script.verdict();
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:?}");
}

#[test]
fn entering_when_nobody_can_tell_who_lives_is_a_doubt_and_no_finding() {
    // Last seen at 900, dead for certain at 1000.
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(900).says(HOLDER, "lost");
    script.at(950).says(C1, "entered").at(1000).exits(HOLDER, 1).at(3000).goes(C1);
    let verdict = script.verdict();
    assert!(kinds(&verdict).is_empty(), "{verdict:?}");
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
    assert!(verdict.reason.unwrap().contains("was dead already"));
}

#[test]
fn a_doubtful_overlap_that_would_be_fine_anyway_is_no_doubt() {
    for expected in [ExpectExclusion::Any, ExpectExclusion::Told] {
        let mut script = Script::new();
        script.trial(|trial| trial.expect.exclusion = expected);
        script.at(0).says(HOLDER, "entered").polls(C1).at(900).says(HOLDER, "lost");
        script.at(950).says(C1, "entered").at(1000).exits(HOLDER, 1).at(3000).goes(C1);
        let verdict = script.verdict();
        assert_eq!(verdict.outcome, Outcome::Held, "{expected:?}: {verdict:?}");
    }
}

#[test]
fn entering_before_the_last_sign_of_life_is_an_overlap_even_if_death_follows() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(900).says(C1, "entered");
    script.at(950).says(HOLDER, "wrote").at(1000).exits(HOLDER, 1).at(3000).goes(C1);
    assert_eq!(kinds(&script.verdict()), [Kind::DoubleHeld]);
}

#[test]
fn a_stopped_or_hanging_holder_lives_until_it_is_killed() {
    let stop: fn(&mut Script) = |script| {
        script.push(What::Stopped { role: HOLDER });
    };
    let hang: fn(&mut Script) = |script| {
        script.hangs(HOLDER);
    };
    for before in [stop, hang] {
        let mut script = Script::new();
        script.at(0).says(HOLDER, "entered").at(100);
        before(&mut script);
        script.polls(C1).at(2000).says(C1, "entered").at(2500).killed(HOLDER).dies(HOLDER);
        script.at(3000).goes(C1);
        assert_eq!(kinds(&script.verdict()), [Kind::DoubleHeld]);
    }
}

#[test]
fn what_is_answered_to_the_dead_is_no_sign_of_life() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(1000).killed(HOLDER).polls(C1).says(C1, "entered");
    script.beats(HOLDER).dies(HOLDER).at(3000).goes(C1);
    let verdict = script.verdict();
    assert!(kinds(&verdict).is_empty(), "{verdict:?}");
}

#[test]
fn an_overlap_ends_at_the_kill_whatever_is_answered_later() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(500).says(C1, "entered").at(1000);
    script.killed(HOLDER).at(1500).beats(HOLDER).dies(HOLDER).at(3000).goes(C1);
    let verdict = script.verdict();
    assert!((overlap(&verdict).overlap_ms - 500.0).abs() < 1e-9, "{verdict:?}");
}

#[test]
fn a_child_that_outlives_the_killed_first_process_is_still_inside() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(500).killed(HOLDER).dies(HOLDER).polls(C1);
    script.at(1000).says(C1, "entered").at(1500).says(HOLDER, "wrote").at(3000).goes(C1);
    assert_eq!(kinds(&script.verdict()), [Kind::DoubleHeld]);

    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(500).killed(HOLDER).dies(HOLDER).polls(C1);
    script.at(1000).says(HOLDER, "left").at(1500).says(C1, "entered").at(3000).goes(C1);
    let verdict = script.verdict();
    assert!(kinds(&verdict).is_empty(), "{verdict:?}");
}

#[test]
fn a_role_that_is_started_again_is_not_its_own_rival_nor_still_inside() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(500).killed(HOLDER).dies(HOLDER);
    script.at(600).starts(HOLDER).polls(C1).at(700).says(C1, "entered").at(800).goes(C1);
    script.at(900).says(HOLDER, "entered").says(HOLDER, "wrote").at(6900).goes(HOLDER);
    let verdict = script.verdict();
    assert!(kinds(&verdict).is_empty(), "{verdict:?}");
}

#[test]
fn a_flood_of_overlaps_is_bounded_and_is_no_pass_where_they_would_not_stand() {
    let mut script = Script::new();
    script.trial(|trial| trial.expect.exclusion = ExpectExclusion::Any);
    script.at(0).says(HOLDER, "entered").polls(C1);
    for _ in 0..50_000 {
        script.says(C1, "entered").says(C1, "left");
    }
    let verdict = script.at(6000).goes(HOLDER).verdict();
    assert!(verdict.findings.len() <= 101, "{}", verdict.findings.len());
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
}

/// One step of a random history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Enter,
    Leave,
    Abort,
}

proptest! {
    /// The slow obvious version: keep the set of who is inside, event by event.
    #[test]
    fn overlaps_are_those_of_a_set_of_who_is_inside(
        steps in proptest::collection::vec(
            (0_usize..3, prop_oneof![Just(Step::Enter), Just(Step::Leave), Just(Step::Abort)]),
            0..30,
        ),
    ) {
        let roles = [HOLDER, C1, C2];
        let mut script = Script::new();
        script.with_c2();
        let mut inside: Vec<Role> = Vec::new();
        let mut expected: Vec<Vec<Role>> = Vec::new();
        for (index, (who, step)) in steps.into_iter().enumerate() {
            let role = roles[who];
            // Several events share a moment.
            script.at(index as u64 / 2);
            match step {
                Step::Enter => {
                    script.says(role, "entered");
                    if !inside.contains(&role) {
                        expected.extend(inside.iter().map(|other| vec![*other, role]));
                        inside.push(role);
                    }
                }
                Step::Leave | Step::Abort => {
                    script.says(role, if matches!(step, Step::Leave) { "left" } else { "aborted" });
                    inside.retain(|other| *other != role);
                }
            }
        }
        let verdict = script.verdict();
        let of_exclusion =
            verdict.findings.iter().filter(|one| one.check == crate::check::Check::Exclusion);
        let mut found: Vec<Vec<Role>> = of_exclusion.map(|one| one.roles.clone()).collect();
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
    }
}
