//! Recorded gaps: exactly these kinds, in time, and never over a run that proves nothing.

use rstest::rstest;

use crate::check::script::*;
use crate::check::{Outcome, Verdict, judge};
use crate::history::What;

/// Two inside, never told: `double-held` and nothing else.
fn double_held(gaps: &[&[&str]], is_doubtful: bool, today: &str) -> Verdict {
    let mut script = Script::new();
    for gap in gaps {
        script.gap(gap);
    }
    script.at(0).says(HOLDER, "entered").polls(C1).at(1000).says(C1, "entered");
    if is_doubtful {
        script.push(What::Trouble { why: "a process was left".to_owned() });
    }
    script.at(6000).goes(HOLDER).goes(C1);
    let history = script.history().clone();
    judge(&script.trial, &history, today)
}

#[rstest]
#[case(&[], false, "2026-06-01", Outcome::Violated)]
#[case(&[&["double-held"][..]], false, "2026-06-01", Outcome::KnownGap)]
#[case(&[&["double-held"][..]], false, "2027-01-01", Outcome::KnownGap)]
#[case(&[&["double-held"][..]], false, "2027-01-02", Outcome::Violated)]
#[case(&[&["double-held"][..]], true, "2026-06-01", Outcome::Inconclusive)]
#[case(&[&["silent"][..]], false, "2026-06-01", Outcome::Violated)]
// Exactly these kinds: neither more nor fewer.
#[case(&[&["double-held", "silent"][..]], false, "2026-06-01", Outcome::Violated)]
#[case(&[&["silent"][..], &["double-held"][..]], false, "2026-06-01", Outcome::KnownGap)]
fn a_gap_is_exactly_its_kinds_and_in_time(
    #[case] gaps: &[&[&str]],
    #[case] is_doubtful: bool,
    #[case] today: &str,
    #[case] outcome: Outcome,
) {
    let verdict = double_held(gaps, is_doubtful, today);
    assert_eq!(verdict.outcome, outcome, "{verdict:?}");
}

#[test]
fn a_gap_that_was_not_seen_leaves_a_held_run_held() {
    let mut script = Script::new();
    script.gap(&["double-held"]).at(0).says(HOLDER, "entered").polls(C1).at(6000).goes(HOLDER);
    let verdict = script.at(6100).says(C1, "entered").at(7100).goes(C1).verdict();
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Held, None));
}

#[test]
fn a_finding_that_does_not_stand_needs_no_gap() {
    let mut script = Script::new();
    script.trial(|trial| trial.claims.exclusion = crate::plan::Exclusion::Fenced);
    script.gap(&["silent"]).at(0).says(HOLDER, "entered token=1").polls(C1);
    script.at(1000).says(C1, "entered token=2").at(6000).goes(HOLDER).goes(C1);
    let verdict = script.verdict();
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:?}");
    assert_eq!(verdict.findings.len(), 1);
}
