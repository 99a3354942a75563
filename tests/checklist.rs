//! `deadbeat checklist`, as its users meet it: the lines, what proves them, and exit codes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use deadbeat::scenario::{Scenario, library};
use deadbeat_tests::{call, is_without_engine, root};
use serde_json::Value;

/// Every line of the runbook, in its order.
const LINES: [&str; 10] = [
    "failure-logged",
    "cause-classified",
    "degradation",
    "holder-reaction",
    "protected-writes-stop",
    "steal-evidence",
    "two-contenders",
    "disk-status",
    "recovery",
    "ownership",
];

fn lines(json: &Value) -> &Vec<Value> {
    json["lines"].as_array().unwrap()
}

#[test]
fn without_a_subject_it_shows_each_line_and_what_proves_it() {
    let shown = call(root(), ["checklist"]).expect_code(0).stdout;
    let json = call(root(), ["checklist", "--format", "json"]).expect_code(0).json();
    let ids: Vec<&str> = lines(&json).iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids, LINES);
    for line in lines(&json) {
        let statement = format!("{}: ", line["id"].as_str().unwrap());
        assert!(shown.lines().any(|shown| shown.starts_with(&statement)), "{statement}{shown}");
        assert!(!line["scenarios"].as_array().unwrap().is_empty(), "{line:#}");
        assert_eq!(line["results"], Value::Array(vec![]));
    }
}

/// Goal: the exit code and the lines say the same, and standard output is the document alone.
#[test]
fn with_a_subject_it_runs_the_suite_and_says_which_lines_hold() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let words = ["checklist", "-s", "reference", "--engine", "trace", "--format", "json"];
    let called = call(root(), words.into_iter().chain(["--out", out.to_str().unwrap()]));
    if is_without_engine(&called) {
        return;
    }
    let code = called.code;
    let json = called.json();
    let mut worst = 0;
    for line in lines(&json) {
        let result = &line["results"][0];
        assert_eq!(result["subject"], "reference@default");
        let ran = result["scenarios"].as_array().unwrap().len();
        assert_eq!(ran, line["scenarios"].as_array().unwrap().len(), "{}", line["id"]);
        let rank = ["skipped", "held", "known-gap", "inconclusive", "violated"];
        let outcome = result["outcome"].as_str().unwrap();
        worst = worst.max(rank.iter().position(|word| *word == outcome).unwrap());
    }
    assert_eq!(code, Some([4, 0, 0, 3, 1][worst]), "{json:#}");

    let again = ["checklist", "--format", "json", "--from", out.to_str().unwrap()];
    let read = call(root(), again);
    assert_eq!(read.code, code);
    assert_eq!(read.json()["lines"], json["lines"], "a run that is read says what it said");
}

/// Goal: a run of a few scenarios is not taken for a proof of the runbook.
#[test]
fn a_line_of_which_not_all_ran_is_not_proved() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let scenario = "control/quick-hand-over";
    let ran = call(root(), ["run", scenario, "--engine", "trace", "--out", out]);
    if is_without_engine(&ran) {
        return;
    }
    ran.expect_code(0);
    let shown = call(root(), ["checklist", "--from", out]).expect_code(3).stdout;
    assert!(shown.contains("INCOMPLETE reference@default"), "{shown}");
    let unknown = call(root(), ["checklist", "--from", out, "-s", "flock"]).expect_code(2);
    assert!(unknown.stderr.contains("reference@default"), "{}", unknown.stderr);
    call(root(), ["checklist", "--from", out, "--engine", "trace"]).expect_code(2);
}

/// Goal: what each scenario is meant for is said once, by its tags; the page shows the same.
/// `DEADBEAT_UPDATE=1` writes the page anew.
#[test]
fn the_page_of_the_suite_says_what_the_tags_say() {
    let path = root().join("docs/suite.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let mut by_class: BTreeMap<String, String> = BTreeMap::new();
    for (subject, _) in library::subjects().unwrap() {
        for (name, variant) in subject.variants {
            by_class.extend(variant.planted.map(|planted| (planted.class, name)));
        }
    }
    let row = |scenario: &Scenario| {
        let bugs = scenario.tags.iter().filter_map(|tag| by_class.get(tag)).map(String::as_str);
        let bugs: Vec<&str> = bugs.collect();
        format!("| `{}` | {} | {} |", scenario.name, scenario.title, bugs.join(", "))
    };
    let suite = library::suite().unwrap();
    let lines = page.lines().map(|line| {
        let named = suite.iter().find(|one| line.starts_with(&format!("| `{}` |", one.name)));
        named.map_or(line.to_owned(), &row)
    });
    let wanted: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
    if std::env::var_os("DEADBEAT_UPDATE").is_some() {
        std::fs::write(path, wanted).unwrap();
    } else {
        assert_eq!(page, wanted, "(hint: DEADBEAT_UPDATE=1 writes docs/suite.md anew)");
    }
}

/// Goal: the page that tells which bug each scenario is meant for names only what is there, and
/// all of it.
#[test]
fn the_page_of_the_suite_names_every_scenario() {
    let page = std::fs::read_to_string(root().join("docs/suite.md")).unwrap();
    let listed = call(root(), ["list"]).expect_code(0).stdout;
    let names: Vec<&str> =
        listed.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    let missing: Vec<&&str> =
        names.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/suite.md does not name {missing:?}");
    let quoted = page.split('`').skip(1).step_by(2);
    let gone: Vec<&str> = quoted
        .filter(|word| word.contains('/') && !word.contains(['*', '<', '.', ' ']))
        .filter(|word| !names.contains(word))
        .collect();
    assert!(gone.is_empty(), "docs/suite.md names {gone:?}, which are no scenarios");
}
