//! `junit.xml`: a suite for each family, a case for each scenario with each subject.
//!
//! Violated is a failure, inconclusive an error, skipped and known gap are skipped.

use std::collections::BTreeMap;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::plain;
use super::results::{CanaryResult, CaseResult, Results};
use super::terminal;
use crate::check::Outcome;

/// The file's text.
///
/// # Errors
/// A name cannot be written as XML.
pub fn render(results: &Results) -> Result<String, quick_junit::SerializeError> {
    let mut families: BTreeMap<&str, Vec<&CaseResult>> = BTreeMap::new();
    for case in &results.results {
        let family = case.scenario.split('/').next().unwrap_or_default();
        families.entry(family).or_default().push(case);
    }
    let mut report = Report::new("deadbeat");
    for (family, cases) in families {
        let mut suite = TestSuite::new(family);
        suite.add_test_cases(cases.into_iter().map(|case| test_case(case, results.seed)));
        report.add_test_suite(suite);
    }
    if !results.canaries.is_empty() {
        let mut suite = TestSuite::new("canaries");
        suite.add_test_cases(results.canaries.iter().map(canary));
        report.add_test_suite(suite);
    }
    report.to_string()
}

/// `seed` is the run's first: others are named, so that no two cases have one name.
fn test_case(case: &CaseResult, seed: u64) -> TestCase {
    let mut status = match case.outcome {
        Outcome::Held => TestCaseStatus::success(),
        Outcome::Skipped | Outcome::KnownGap => TestCaseStatus::skipped(),
        Outcome::Violated => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Inconclusive => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    if let Some(reason) = &case.reason {
        status.set_message(plain(reason));
    }
    let stories: Vec<String> = case
        .findings
        .iter()
        .map(|finding| format!("{}: {}", finding.kind.as_str(), plain(&finding.story)))
        .collect();
    if case.outcome != Outcome::Held {
        if !stories.is_empty() && case.reason.is_none() {
            let kinds: Vec<&str> = case.findings.iter().map(|one| one.kind.as_str()).collect();
            status.set_message(kinds.join(", "));
        }
        let replay = plain(&case.replay);
        let lines: Vec<&str> = stories.iter().map(String::as_str).chain([&*replay]).collect();
        status.set_description(lines.join("\n"));
    }
    let mut name = format!("{} [{}]", case.scenario, case.subject);
    if case.seed != seed {
        name.push_str(&format!(" seed {}", case.seed));
    }
    let mut test_case = TestCase::new(name, status);
    test_case.set_classname(case.subject.clone());
    test_case.set_time(Duration::from_secs_f64(case.wall_ms.max(0.0) / 1000.0));
    test_case
}

/// A canary that is missed makes the run inconclusive: an error.
fn canary(canary: &CanaryResult) -> TestCase {
    let mut status = TestCaseStatus::success();
    if !canary.caught {
        status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(plain(&terminal::missed(canary)));
    }
    TestCase::new(format!("{} [{}]", canary.scenario, canary.subject), status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Check, Finding, Kind};
    use crate::report::results::tests::violated;
    use crate::role::Role;

    fn case(scenario: &str, outcome: Outcome, reason: Option<&str>) -> CaseResult {
        let reason = reason.map(str::to_owned);
        let case = violated(scenario, "lock@default", &[]);
        CaseResult { outcome, reason, wall_ms: 1500.0, ..case }
    }

    #[test]
    fn every_outcome_has_its_place_and_hostile_text_stays_xml() {
        let mut bad = case("pause/long", Outcome::Violated, None);
        bad.findings.push(Finding {
            check: Check::Exclusion,
            kind: Kind::DoubleHeld,
            roles: vec![Role::Holder, Role::Contender(1)],
            from_ms: 1.0,
            overlap_ms: 2.0,
            stopped_ms: 0.0,
            late_writes: 3,
            story: "two \u{1b}[31minside ]]> <b>&\u{0}".to_owned(),
            violates: true,
        });
        let results = Results {
            format: 1,
            version: "0.1.0".to_owned(),
            seed: 0,
            engine: "fuse".to_owned(),
            outcome: Outcome::Violated,
            results: vec![
                case("control/one", Outcome::Held, None),
                bad,
                case("pause/short", Outcome::Inconclusive, Some("fault 1 never fired")),
                case("control/two", Outcome::Skipped, Some("needs root")),
                case("pause/known", Outcome::KnownGap, Some("it is so")),
            ],
            canaries: vec![CanaryResult::new(
                &violated("hang/x", "zoo@bug", &[Kind::Vague]),
                &["silent".to_owned()],
            )],
            detection: Vec::new(),
        };
        let xml = render(&results).unwrap();
        assert!(!xml.contains('\u{1b}') && !xml.contains('\u{0}'));
        insta::with_settings!({filters => vec![(r#" uuid="[^"]*"| timestamp="[^"]*""#, "")]}, {
            insta::assert_snapshot!(xml);
        });
    }
}
