//! Both engines show the same: for every scenario that both carry, the same outcome and findings.
//! Exceptions are data, with a reason each (`deadbeat::engine::exceptions`).
//!
//! Runs on the fuse engine take real time, so by default a fixed sample of the suite is compared;
//! `DEADBEAT_PARITY=all` compares all of it, and asks of each exception that it meets a case.

use std::collections::{BTreeMap, BTreeSet};

use deadbeat::engine::exceptions::{EXCEPTIONS, Exception};
use deadbeat::history::TOO_SLOW;
use deadbeat_tests::{call, fuse_works};
use serde_json::Value;

/// One lock that holds everywhere, one that is caught, one that knows no heartbeat.
const SUBJECTS: &[&str] = &["reference", "zoo@swallowed-beat", "flock"];
/// The part of the suite that is compared by default.
const SAMPLE: &str = "hash:1/32";

/// What a run came to, as far as engines must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    outcome: String,
    /// Check, kind and roles of each.
    findings: BTreeSet<String>,
    /// Whether it was kept from showing anything: skipped, or the machine was too slow.
    is_void: bool,
}

/// By scenario and subject.
type Results = BTreeMap<(String, String), Shown>;

fn shown(results: &Value) -> Results {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let cases = results["results"].as_array().expect("results are a list");
    let case = |case: &Value| {
        let findings = case["findings"].as_array().into_iter().flatten();
        let findings =
            findings.map(|one| format!("{} {} {}", one["check"], one["kind"], one["roles"]));
        let outcome = text(&case["outcome"]);
        let is_void = outcome == "skipped" || text(&case["reason"]).contains(TOO_SLOW);
        let shown = Shown { outcome, findings: findings.collect(), is_void };
        ((text(&case["scenario"]), text(&case["subject"])), shown)
    };
    cases.iter().map(case).collect()
}

/// Every difference that no exception covers.
fn differences(trace: &Results, fuse: &Results, exceptions: &[Exception]) -> Vec<String> {
    let mut found = Vec::new();
    for (case, on_trace) in trace {
        let on_fuse = &fuse[case];
        let is_void = on_trace.is_void || on_fuse.is_void;
        let is_excepted = exceptions.iter().any(|one| one.covers(&case.0, &case.1));
        if !is_void && !is_excepted && on_trace != on_fuse {
            found.push(format!("{} {}\n  trace {on_trace:?}\n  fuse  {on_fuse:?}", case.0, case.1));
        }
    }
    found
}

/// Runs these words on an engine.
fn results(engine: &str, words: &[&str]) -> Results {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut args = vec!["run", "--format", "json", "--engine", engine, "--jobs", "2"];
    args.push("--no-canaries");
    for subject in SUBJECTS {
        args.extend(["--subject", subject]);
    }
    args.extend(words);
    shown(&call(folder.path(), args).json())
}

#[test]
fn both_engines_show_the_same() {
    if !fuse_works() {
        return;
    }
    let is_whole = std::env::var("DEADBEAT_PARITY").is_ok_and(|value| value == "all");
    let words: &[&str] = if is_whole { &[] } else { &["--partition", SAMPLE] };
    let (trace, fuse) = (results("trace", words), results("fuse", words));
    assert!(!trace.is_empty() && trace.keys().eq(fuse.keys()), "both ran the same cases");
    let compared = trace.iter().filter(|(case, shown)| !shown.is_void && !fuse[*case].is_void);
    let compared = compared.count();
    println!("{compared} of {} cases compared", trace.len());
    assert!(compared >= 1, "a comparison of nothing shows nothing");
    let found = differences(&trace, &fuse, EXCEPTIONS);
    assert!(found.is_empty(), "{}", found.join("\n"));
    if is_whole {
        for one in EXCEPTIONS {
            let is_met = trace.keys().any(|(scenario, subject)| one.covers(scenario, subject));
            assert!(is_met, "no case is meant by {one:?}");
        }
    }
}

/// Goal: a difference of outcome, finding or role is seen, and only an exception hides it.
#[test]
fn a_difference_is_seen_unless_it_is_an_exception() {
    let case = |outcome: &str, findings: &str| {
        let line = format!(
            r#"{{"results": [{{"scenario": "a/b", "subject": "s@v", "outcome": "{outcome}", "findings": [{findings}]}}]}}"#
        );
        shown(&serde_json::from_str(&line).expect("it is JSON"))
    };
    let finding = |kind: &str, role: &str| {
        format!(r#"{{"check": "exclusion", "kind": "{kind}", "roles": ["{role}"]}}"#)
    };
    let violated = case("violated", &finding("double-held", "holder"));
    let differ = |other: &Results| differences(&violated, other, &[]).len();
    assert_eq!(differ(&violated), 0);
    assert_eq!(differ(&case("skipped", "")), 0);
    assert_eq!(differ(&case("held", "")), 1);
    let mut slow = case("inconclusive", "");
    slow.values_mut().for_each(|shown| shown.is_void = true);
    assert_eq!(differ(&slow), 0);
    assert_eq!(differ(&case("inconclusive", "")), 1);
    assert_eq!(differ(&case("violated", &finding("told-late", "holder"))), 1);
    assert_eq!(differ(&case("violated", &finding("double-held", "contender-1"))), 1);
    let exception = Exception { scenario: "a/*", subject: "s@*", reason: "it cannot be helped" };
    assert_eq!(differences(&violated, &case("held", ""), &[exception]).len(), 0);
}
