//! Locks that stay stuck, work that is killed for nothing, and crashes.

use rstest::rstest;

use crate::check::script::*;
use crate::check::{Kind, Outcome, Verdict};
use crate::history::What;
use crate::moment::Sign;
use crate::plan::{Deed, Reach, Reaction};
use crate::role::Who;
use crate::time::Nanos;

fn has(verdict: &Verdict, kind: Kind) -> bool {
    verdict.findings.iter().any(|one| one.kind == kind && one.violates)
}

/// The holder is killed at 1000; the claim is 3 s.
fn killed(within_ms: u64) -> Script {
    let mut script = Script::new();
    script.with_event(1, Deed::Kill(Who::One(HOLDER), Reach::Tree), "kill holder");
    script.takeover(HOLDER, Sign::Dead, within_ms);
    script.at(0).says(HOLDER, "entered").at(990).says(HOLDER, "wrote");
    script.at(1000).killed(HOLDER).done(1).dies(HOLDER).at(1010).polls(C1);
    script
}

#[test]
fn an_heir_in_time_is_fine_and_one_too_late_is_stuck() {
    let verdict = killed(4000).at(5000).says(C1, "entered").at(6000).goes(C1).verdict();
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:?}");
    let verdict = killed(4000).at(5001).says(C1, "entered").at(6000).goes(C1).verdict();
    assert!(has(&verdict, Kind::Stuck), "{verdict:?}");
}

#[test]
fn the_later_of_claim_and_scenario_counts_for_the_dead() {
    let verdict = killed(2000).at(4000).says(C1, "entered").at(6000).goes(C1).verdict();
    assert_eq!(verdict.outcome, Outcome::Held, "the claim is 3 s: {verdict:?}");
    let verdict = killed(2000).at(4001).says(C1, "entered").at(6000).goes(C1).verdict();
    assert!(has(&verdict, Kind::Stuck), "{verdict:?}");
}

#[test]
fn the_claim_for_the_dead_does_not_excuse_a_lock_that_was_released() {
    let mut script = Script::new();
    script.takeover(HOLDER, Sign::Released, 2000).at(0).says(HOLDER, "entered").at(5).polls(C1);
    script.at(6000).goes(HOLDER).at(8500).says(C1, "entered").at(9000).goes(C1);
    assert!(has(&script.verdict(), Kind::Stuck));
}

#[test]
fn a_lock_that_nobody_steals_promises_no_takeover_of_the_dead() {
    let mut script = killed(4000);
    script.trial(|trial| trial.claims.dead_owner_takeover = None);
    let verdict = script.at(12_000).says(C1, "gave-up").exits(C1, 0).verdict();
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:?}");
}

#[test]
fn trying_in_vain_all_that_time_is_stuck() {
    let verdict = killed(4000).at(12_000).says(C1, "gave-up").exits(C1, 0).verdict();
    assert!(has(&verdict, Kind::Stuck), "{verdict:?}");
}

#[test]
fn an_heir_whose_token_was_too_low_from_the_start_is_stuck() {
    let mut script = Script::new();
    script.takeover(HOLDER, Sign::Dead, 4000).with_c2();
    script.at(0).says(HOLDER, "entered token=9").at(1000).killed(HOLDER).dies(HOLDER);
    script.at(1100).starts(C2).polls(C2).at(1200).fenced(C2, "entered token=1", HOLDER);
    let verdict = script.says(C2, "aborted").exits(C2, 0).verdict();
    assert!(has(&verdict, Kind::Stuck), "{verdict:?}");
}

#[test]
fn an_heir_that_was_overtaken_while_it_tried_is_refused_rightly() {
    let mut script = Script::new();
    script.takeover(HOLDER, Sign::Dead, 4000).with_c2();
    script.at(0).says(HOLDER, "entered token=5").at(1000).killed(HOLDER).dies(HOLDER);
    script.at(1100).starts(C2).polls(C2).at(1200).says(C1, "entered token=9").at(1300).goes(C1);
    script.at(1400).fenced(C2, "entered token=8", C1).says(C2, "aborted").exits(C2, 0);
    let verdict = script.verdict();
    assert!(!has(&verdict, Kind::Stuck), "{verdict:?}");
}

#[test]
fn nobody_who_tried_long_enough_proves_nothing() {
    let verdict = killed(4000).at(3000).says(C1, "gave-up").exits(C1, 0).verdict();
    assert!(!has(&verdict, Kind::Stuck), "{verdict:?}");
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
}

#[test]
fn a_moment_that_never_came_proves_nothing() {
    let mut script = Script::new();
    script.takeover(HOLDER, Sign::Lost, 1000);
    script.at(0).says(HOLDER, "entered").polls(C1).at(6000).goes(HOLDER);
    let verdict = script.at(6100).says(C1, "entered").at(7000).goes(C1).verdict();
    assert_eq!(verdict.outcome, Outcome::Inconclusive, "{verdict:?}");
}

#[test]
fn the_dead_holders_own_stay_is_no_takeover_even_at_the_same_time() {
    // Killed, done and dead in one moment, as in virtual time.
    let mut script = killed(4000);
    script.trial(|trial| {
        let anchor = crate::moment::Anchor::Done(1);
        let after = crate::moment::Moment { anchor, offset: Nanos::ZERO };
        trial.expect.takeover = Some(crate::plan::Takeover { after, within: Nanos::from_ms(4000) });
    });
    let verdict = script.at(12_000).says(C1, "gave-up").exits(C1, 0).verdict();
    assert!(has(&verdict, Kind::Stuck), "{verdict:?}");
}

#[test]
fn whoever_came_late_is_given_the_whole_bound() {
    let mut script = Script::new();
    script.with_c2().takeover(HOLDER, Sign::Dead, 4000);
    script.at(0).says(HOLDER, "entered").at(10).says(C1, "gave-up").exits(C1, 0);
    script.at(1000).killed(HOLDER).dies(HOLDER).at(20_000).starts(C2).polls(C2);
    let verdict = script.at(20_100).says(C2, "entered").at(21_000).goes(C2).verdict();
    assert!(!has(&verdict, Kind::Stuck), "{verdict:?}");
}

#[test]
fn a_contender_that_was_stopped_is_given_that_time() {
    let mut script = killed(4000);
    script.at(1100).push(What::Stopped { role: C1 }).at(4100).push(What::Continued { role: C1 });
    let verdict = script.at(6000).says(C1, "entered").at(7000).goes(C1).verdict();
    assert!(!has(&verdict, Kind::Stuck), "{verdict:?}");
}

#[test]
fn one_of_two_heirs_is_enough_and_the_other_may_give_up() {
    let mut script = killed(4000);
    script.with_c2().at(2500).says(C1, "entered").polls(C2);
    script.at(12_000).says(C2, "gave-up").exits(C2, 0).at(13_000).goes(C1);
    let verdict = script.verdict();
    assert!(!has(&verdict, Kind::Stuck), "{verdict:?}");
}

#[test]
fn a_role_that_is_started_again_may_be_its_own_heir() {
    let mut script = killed(4000);
    script.at(1500).starts(HOLDER).at(2500).says(HOLDER, "entered");
    let verdict = script.at(8500).goes(HOLDER).at(8600).says(C1, "entered").at(9600).goes(C1);
    let verdict = verdict.verdict();
    assert!(!has(&verdict, Kind::Stuck), "{verdict:?}");
}

/// Nothing is expected; the holder is gone at 1000 in some way.
fn gone(how: &str) -> Script {
    let mut script = Script::new();
    script.trial(|trial| trial.plan.cast[0].hold = Nanos::from_ms(1000));
    script.at(0).says(HOLDER, "entered").polls(C1).at(1000);
    match how {
        "released" => script.goes(HOLDER),
        "exited" => script.says(HOLDER, "left").exits(HOLDER, 0),
        "killed" => script.killed(HOLDER).dies(HOLDER),
        "lives" => script.says(HOLDER, "left"),
        "inside" => &mut script,
        other => panic!("{other}"),
    };
    script
}

#[rstest]
#[case("released", 2900, true)]
#[case("released", 1900, false)]
#[case("exited", 4100, true)]
#[case("exited", 3900, false)]
#[case("killed", 4100, true)]
#[case("killed", 3900, false)]
// An owner that is outside but has not released may keep its lock, and so may one inside.
#[case("lives", 12_000, false)]
#[case("inside", 12_000, false)]
fn giving_up_on_a_lock_that_is_long_free_is_stuck(
    #[case] how: &str,
    #[case] gave_up_ms: u64,
    #[case] is_stuck: bool,
) {
    let mut script = gone(how);
    let verdict = script.at(gave_up_ms).says(C1, "gave-up").exits(C1, 0).verdict();
    assert_eq!(has(&verdict, Kind::Stuck), is_stuck, "{verdict:?}");
}

#[test]
fn one_who_hardly_tried_is_not_stuck() {
    let mut script = gone("released");
    script.with_c2().at(1100).says(C1, "entered").at(1200).goes(C1);
    script.at(9000).starts(C2).polls(C2);
    let verdict = script.at(9050).says(C2, "gave-up").exits(C2, 0).verdict();
    assert!(!has(&verdict, Kind::Stuck), "{verdict:?}");
}

#[test]
fn one_who_was_hit_by_a_fault_is_not_asked_to_get_in() {
    let mut script = gone("released");
    script.with_fault().trial(|trial| trial.plan.faults[0].who = Who::Any);
    let verdict = script.at(9000).says(C1, "gave-up").exits(C1, 0).verdict();
    assert!(!has(&verdict, Kind::Stuck), "{verdict:?}");
}

#[rstest]
#[case("aborts", true)]
#[case("dies", true)]
#[case("leaves early", true)]
#[case("finishes", false)]
#[case("is killed", false)]
fn live_work_is_to_be_finished(#[case] how: &str, #[case] is_killed: bool) {
    let mut script = Script::new();
    script.trial(|trial| trial.expect.holder = vec![Reaction::Finish]);
    script.at(0).says(HOLDER, "entered").at(300).fails(HOLDER).polls(C1).at(600).beats(HOLDER);
    script.at(700);
    match how {
        "aborts" => script.says(HOLDER, "aborted").exits(HOLDER, 0),
        "dies" => script.exits(HOLDER, 1),
        "leaves early" => script.goes(HOLDER),
        "is killed" => script.killed(HOLDER).dies(HOLDER),
        _ => script.at(6000).goes(HOLDER),
    };
    let verdict = script.verdict();
    assert_eq!(has(&verdict, Kind::FalseCompromise), is_killed, "{verdict:?}");
}

#[test]
fn each_of_several_stays_is_to_be_finished() {
    let mut script = Script::new();
    script.trial(|trial| {
        trial.expect.holder = vec![Reaction::Finish];
        trial.plan.cast[0].acquires = 2;
    });
    script.at(0).says(HOLDER, "entered").polls(C1).at(6000).says(HOLDER, "left");
    script.at(6100).says(HOLDER, "entered").at(6200).says(HOLDER, "aborted").exits(HOLDER, 0);
    assert!(has(&script.verdict(), Kind::FalseCompromise));
}

#[test]
fn dying_for_no_reason_is_a_crash_after_a_blow_and_a_doubt_before() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(300).fails(HOLDER).polls(C1).at(400).exits(C1, 139);
    let verdict = script.at(500).says(HOLDER, "aborted").exits(HOLDER, 0).verdict();
    assert!(has(&verdict, Kind::Crashed), "{verdict:?}");

    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(400).exits(C1, 139);
    let verdict = script.at(6000).goes(HOLDER).verdict();
    assert_eq!(verdict.outcome, Outcome::Inconclusive, "{verdict:?}");
    assert!(standing(&verdict).is_empty());
}

#[test]
fn dying_of_a_failed_beat_is_aborting() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(300).fails(HOLDER).at(310).exits(HOLDER, 1);
    let verdict = script.at(2000).says(C1, "entered").at(3000).goes(C1).verdict();
    assert!(!has(&verdict, Kind::Crashed), "{verdict:?}");
}

#[test]
fn a_kill_in_an_earlier_life_excuses_no_crash_in_a_later_one() {
    let mut script = killed(4000);
    script.at(2000).says(C1, "entered").at(3000).goes(C1).at(4000).starts(HOLDER);
    let verdict = script.at(4100).exits(HOLDER, 1).verdict();
    assert!(has(&verdict, Kind::Crashed), "{verdict:?}");
}

#[test]
fn an_end_of_which_nobody_knows_how_is_no_finding() {
    let mut script = killed(4000);
    script.at(2000).says(C1, "entered").at(2500);
    script.push(What::Exited { role: C1, code: None, signal: None });
    let verdict = script.verdict();
    assert_eq!(verdict.outcome, Outcome::Inconclusive, "{verdict:?}");
    assert!(standing(&verdict).is_empty());
}
