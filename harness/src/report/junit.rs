//! `junit.xml`: a suite for each family, a case for each scenario with each subject.
//!
//! Violated is a failure, inconclusive an error, skipped and known gap are skipped.

use std::collections::BTreeMap;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::plain;
use super::results::{CaseResult, Results};
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
        suite.add_test_cases(cases.into_iter().map(test_case));
        report.add_test_suite(suite);
    }
    report.to_string()
}

fn test_case(case: &CaseResult) -> TestCase {
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
        status.set_description(format!("{}\n{}", stories.join("\n"), case.replay));
    }
    let mut test_case = TestCase::new(format!("{} [{}]", case.scenario, case.subject), status);
    test_case.set_classname(case.subject.clone());
    test_case.set_time(Duration::from_secs_f64(case.wall_ms.max(0.0) / 1000.0));
    test_case
}
