//! What owners do about beats that keep failing.

use rstest::rstest;

use crate::check::script::*;
use crate::check::{Check, Kind, Verdict};
use crate::history::What;
use crate::op::{Errno, OpKind};
use crate::plan::Reaction;

fn ignored(verdict: &Verdict) -> bool {
    verdict.findings.iter().any(|one| one.kind == Kind::IgnoredFailure)
}

/// The holder is inside from 0 and its beats fail from 300 to `to_ms`.
fn failing(to_ms: u64) -> Script {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").at(10).polls(C1);
    script.fails_from_to(HOLDER, 300, to_ms);
    script
}

#[test]
fn working_on_with_a_dead_beat_is_ignoring_it() {
    let verdict = failing(5700).at(6000).goes(HOLDER).verdict();
    let found = verdict.findings.iter().find(|one| one.kind == Kind::IgnoredFailure).unwrap();
    assert_eq!((found.check, found.roles.as_slice()), (Check::Reaction, &[HOLDER][..]));
    assert!((found.from_ms - 300.0).abs() < 1e-9);
}

#[test]
fn a_failure_shorter_than_stale_after_asks_for_nothing() {
    // From 300 to the success at 1290: 990 ms.
    let verdict = failing(1200).at(1290).beats(HOLDER).at(6000).goes(HOLDER).verdict();
    assert!(!ignored(&verdict), "{verdict:?}");
    let verdict = failing(1200).at(1300).beats(HOLDER).at(6000).goes(HOLDER).verdict();
    assert!(ignored(&verdict), "exactly stale-after is too long: {verdict:?}");
}

#[test]
fn a_success_between_two_failures_starts_the_count_again() {
    let mut script = failing(900);
    script.at(1000).beats(HOLDER);
    script.fails_from_to(HOLDER, 1100, 1700);
    let verdict = script.at(1900).beats(HOLDER).at(6000).goes(HOLDER).verdict();
    assert!(!ignored(&verdict), "{verdict:?}");
}

#[test]
fn success_that_is_only_said_is_failure() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1);
    for ms in (300..=5700).step_by(300) {
        script.at(ms);
        script.does(HOLDER, OpKind::Utimes, BEAT, Ok(0), |_, outcome, _| outcome.effect = false);
    }
    assert!(ignored(&script.at(6000).goes(HOLDER).verdict()));
}

#[test]
fn a_beat_on_a_file_without_a_name_is_failure() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1);
    for ms in (300..=5700).step_by(300) {
        script.at(ms).does(HOLDER, OpKind::Utimes, BEAT, Ok(0), |op, _, _| op.unlinked = true);
    }
    assert!(ignored(&script.at(6000).goes(HOLDER).verdict()));
}

#[test]
fn a_beat_that_hangs_is_failure() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(300).hangs(HOLDER);
    assert!(ignored(&script.at(6000).goes(HOLDER).verdict()));
}

#[rstest]
#[case(OpKind::Lookup, BEAT)]
#[case(OpKind::Lookup, LOCK)]
#[case(OpKind::Lookup, "")]
#[case(OpKind::Open, BEAT)]
#[case(OpKind::Stat, BEAT)]
fn a_beat_that_never_gets_to_its_file_is_failure(#[case] kind: OpKind, #[case] path: &str) {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1);
    for ms in (300..=5700).step_by(300) {
        script.at(ms).does(HOLDER, kind, path, Err(Errno(libc::ENOENT)), |_, _, _| {});
    }
    assert!(ignored(&script.at(6000).goes(HOLDER).verdict()), "{kind:?} {path}");
}

#[test]
fn looking_for_what_need_not_be_there_is_no_failure() {
    let mut script = Script::new();
    script.trial(|trial| trial.expect.warning = trial.claims.warns.clone());
    script.at(0).says(HOLDER, "entered").polls(C1);
    for ms in (300..=5700).step_by(300) {
        script.at(ms).does(HOLDER, OpKind::Lookup, BEAT, Err(Errno(libc::ENOENT)), |_, _, _| {});
        script.does(HOLDER, OpKind::Create, BEAT, Ok(3), |_, _, _| {});
    }
    script.does(HOLDER, OpKind::Lookup, "resource.lock/other", Err(ENOSPC), |_, _, _| {});
    let verdict = script.at(6000).goes(HOLDER).verdict();
    assert!(verdict.findings.is_empty(), "{verdict:?}");
}

#[test]
fn a_lone_failure_after_which_no_beat_comes_any_more_lasts() {
    let verdict = failing(300).at(6000).goes(HOLDER).verdict();
    assert!(ignored(&verdict), "the beat thread died of one error");
}

#[test]
fn only_the_owners_own_beats_while_inside_count() {
    let mut script = Script::new();
    script.at(0).fails(HOLDER).fails(C1).at(1).says(HOLDER, "entered").polls(C1);
    script.fails_from_to(C1, 300, 5700);
    let verdict = script.at(6000).goes(HOLDER).fails(HOLDER).verdict();
    assert!(!ignored(&verdict), "{verdict:?}");
}

/// How the holder ends its stay after a failure of 1200 ms.
fn ends(script: &mut Script, how: &str) {
    script.at(1500);
    match how {
        "aborts" => script.says(HOLDER, "aborted").exits(HOLDER, 0),
        "dies" => script.exits(HOLDER, 1),
        "leaves" => script.goes(HOLDER),
        "marks" => script.says(HOLDER, "degraded op=utimes").at(6000).goes(HOLDER),
        "marks and takes it back" => {
            script.says(HOLDER, "lost").says(HOLDER, "healthy").at(6000).goes(HOLDER)
        }
        "works on" => script.at(6000).goes(HOLDER),
        other => panic!("{other}"),
    };
}

const ABORT: &[Reaction] = &[Reaction::Abort];
const RELEASE: &[Reaction] = &[Reaction::Release];
const MARK: &[Reaction] = &[Reaction::MarkUnhealthy];
const ANY: &[Reaction] = &[Reaction::Abort, Reaction::Release, Reaction::MarkUnhealthy];

#[rstest]
#[case("aborts", ABORT, &[], true)]
#[case("aborts", MARK, &[], false)]
#[case("aborts", RELEASE, &[], false)]
#[case("aborts", &[], RELEASE, false)]
#[case("dies", ABORT, &[], true)]
#[case("leaves", RELEASE, &[], true)]
#[case("leaves", ABORT, &[], true)]
#[case("leaves", MARK, &[], false)]
#[case("marks", MARK, &[], true)]
#[case("marks", ABORT, &[], false)]
#[case("marks", &[], ANY, true)]
// The stricter of claim and expectation wins.
#[case("marks", MARK, ABORT, false)]
#[case("marks", ABORT, ANY, false)]
#[case("aborts", ABORT, ANY, true)]
#[case("marks and takes it back", MARK, &[], false)]
#[case("works on", &[], &[], true)]
#[case("works on", &[], ANY, false)]
#[case("works on", ANY, &[], false)]
fn any_of_the_claim_and_any_of_the_expectation_will_do(
    #[case] how: &str,
    #[case] claim: &[Reaction],
    #[case] expected: &[Reaction],
    #[case] is_fine: bool,
) {
    let mut script = failing(1500);
    script.trial(|trial| {
        trial.claims.on_failure = claim.to_vec();
        trial.expect.holder = expected.to_vec();
    });
    ends(&mut script, how);
    let verdict = script.verdict();
    assert_eq!(ignored(&verdict), !is_fine, "{verdict:?}");
}

#[test]
fn what_the_scenario_expects_of_the_holder_is_not_asked_of_its_heir() {
    let mut script = Script::new();
    script.trial(|trial| {
        trial.claims.on_failure = Vec::new();
        trial.expect.holder = vec![Reaction::Abort];
    });
    script.stays(HOLDER, 0, 100);
    script.at(200).says(C1, "entered");
    script.fails_from_to(C1, 300, 1500);
    assert!(!ignored(&script.at(1600).goes(C1).verdict()));
}

#[test]
fn an_owner_that_was_stopped_could_not_react() {
    let mut script = failing(300);
    script.at(400).push(What::Stopped { role: HOLDER });
    script.at(3000).push(What::Continued { role: HOLDER });
    let verdict = script.at(3100).beats(HOLDER).at(6000).goes(HOLDER).verdict();
    assert!(!ignored(&verdict), "{verdict:?}");
}

#[test]
fn a_kill_excuses_only_who_had_no_time_to_react() {
    let verdict = failing(1200).at(1400).killed(HOLDER).dies(HOLDER).verdict();
    assert!(!ignored(&verdict), "{verdict:?}");
    let verdict = failing(3000).at(3100).killed(HOLDER).dies(HOLDER).verdict();
    assert!(ignored(&verdict), "{verdict:?}");
}

#[test]
fn who_is_torn_down_at_a_bound_did_not_abort() {
    let mut script = failing(5700);
    script.push(What::Trouble { why: "it ran into its bound".to_owned() });
    script.push(What::Killed { role: HOLDER, planned: false });
    let verdict = script.dies(HOLDER).verdict();
    assert!(ignored(&verdict), "{verdict:?}");
}

#[test]
fn a_lock_without_a_stale_age_cannot_be_lost_by_age() {
    let mut script = failing(5700);
    script.trial(|trial| trial.plan.timing.stale = None);
    assert!(!ignored(&script.at(6000).goes(HOLDER).verdict()));
}

#[test]
fn finishing_is_asked_by_liveness_and_not_twice() {
    let mut script = failing(300);
    script.trial(|trial| trial.expect.holder = vec![Reaction::Finish]);
    let verdict = script.at(400).beats(HOLDER).says(HOLDER, "aborted").exits(HOLDER, 0).verdict();
    assert_eq!(standing(&verdict), [Kind::FalseCompromise]);
}
