//! Subjects that do their worst: each ends as `inconclusive` with a reason, nothing is left, and
//! the scenarios beside it go on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use deadbeat_tests::leftovers::Scene;
use deadbeat_tests::{call, engines, root};
use rstest::rstest;
use serde_json::Value;

const QUIET: &str = "./tests/scenarios/quiet.toml";

/// The results of a run of the quiet scenario, and everything that was printed.
fn results(engine: &str, subjects: &[&str], code: i32) -> (Vec<Value>, String) {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let mut args = vec!["run", QUIET, "--engine", engine, "--out", folder, "--color", "always"];
    // They would run beside a subject that takes all it can get.
    args.push("--no-canaries");
    for subject in subjects {
        args.extend(["--subject", subject]);
    }
    let called = call(root(), args).expect_code(code);
    let text = std::fs::read_to_string(out.path().join("results.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let printed = format!("{}{}", called.stdout, called.stderr);
    (json["results"].as_array().unwrap().clone(), printed)
}

#[rstest]
#[case::floods("floods")]
#[case::forks("forks")]
#[case::escapes("escapes")]
#[case::exits("exits")]
#[case::stays("stays")]
#[case::garbage("garbage")]
#[case::closes("closes")]
#[case::kills("kills")]
#[case::missing("missing")]
#[serial_test::serial]
fn a_hostile_subject_is_inconclusive_and_leaves_nothing(#[case] name: &str) {
    for engine in engines() {
        let before = Scene::now();
        let (results, printed) = results(engine, &[&format!("./tests/subjects/{name}")], 3);
        assert_eq!(results.len(), 1);
        assert_eq!(results[0]["outcome"], "inconclusive", "{engine}: {:#}", results[0]);
        let reason = results[0]["reason"].as_str().unwrap_or_default();
        assert!(!reason.is_empty(), "{engine}: no reason: {:#}", results[0]);
        assert!(printed.contains("INCONCLUSIVE"), "{engine}: {printed}");
        before.assert_clean();
    }
}

/// Goal: what a subject prints never reaches the terminal as anything but text.
#[test]
#[serial_test::serial]
fn escape_codes_of_a_subject_are_shown_as_text() {
    for engine in engines() {
        let (_, printed) = results(engine, &["./tests/subjects/escapes"], 3);
        assert!(!printed.contains("\u{1b}]") && !printed.contains('\u{7}'), "{printed:?}");
        assert!(!printed.contains("\u{1b}[2J"), "{printed:?}");
    }
}

/// Goal: a hostile subject costs its own scenarios, and no others.
#[test]
#[serial_test::serial]
fn scenarios_beside_a_hostile_subject_go_on() {
    for engine in engines() {
        let beside = ["./tests/subjects/kills", "reference", "./tests/subjects/floods"];
        let (results, _) = results(engine, &beside, 3);
        let outcome = |subject: &str| {
            let mine = |result: &&Value| result["subject"].as_str().unwrap().starts_with(subject);
            results.iter().find(mine).map(|result| result["outcome"].clone())
        };
        assert_eq!(outcome("reference"), Some(Value::from("held")), "{engine}");
        assert_eq!(outcome("kills"), Some(Value::from("inconclusive")), "{engine}");
        assert_eq!(outcome("floods"), Some(Value::from("inconclusive")), "{engine}");
    }
}
