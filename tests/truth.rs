//! What is known of real locks from outside, without deadbeat: measured in real time, with strace
//! and full disks. Every engine must find the same. Kinds and order are asserted; overlaps of real
//! time are printed.

use deadbeat_tests::{call, engines};
use serde_json::Value;

/// The results of a run, by scenario and subject.
struct Truth(Value);

impl Truth {
    fn of(engine: &str, words: &[&str]) -> Truth {
        let folder = tempfile::tempdir().expect("a temp folder can be made");
        let mut args = vec!["run", "--format", "json", "--engine", engine, "--no-canaries"];
        args.extend(words);
        Truth(call(folder.path(), args).json())
    }

    #[track_caller]
    fn case(&self, scenario: &str, subject: &str) -> &Value {
        let cases = self.0["results"].as_array().expect("results are a list");
        let found = cases.iter().find(|c| c["scenario"] == scenario && c["subject"] == subject);
        found.unwrap_or_else(|| panic!("{scenario} of {subject} was not run"))
    }

    /// Whether the set-up could not be done here: then nothing is said.
    fn is_skipped(&self, subject: &str) -> bool {
        let cases = self.0["results"].as_array().expect("results are a list");
        let mut own = cases.iter().filter(|case| case["subject"] == subject);
        let skipped = own.all(|case| case["outcome"] == "skipped");
        if skipped {
            println!("skipped: {subject}: {}", cases[0]["reason"]);
        }
        skipped
    }

    #[track_caller]
    fn is_held(&self, scenario: &str, subject: &str) {
        let case = self.case(scenario, subject);
        assert_eq!(case["outcome"], "held", "{case:#}");
    }

    /// Asserts that the run is violated by all of these kinds, and prints the overlap.
    #[track_caller]
    fn is_violated(&self, scenario: &str, subject: &str, kinds: &[&str]) {
        let case = self.case(scenario, subject);
        assert_eq!(case["outcome"], "violated", "{case:#}");
        for kind in kinds {
            let finding = findings(case).find(|finding| finding["kind"] == *kind);
            let finding = finding.unwrap_or_else(|| panic!("no {kind}: {case:#}"));
            println!("{scenario} {subject}: {kind}, overlap {} ms", finding["overlap_ms"]);
        }
    }
}

fn findings(case: &Value) -> impl Iterator<Item = &Value> {
    case["findings"].as_array().expect("findings are a list").iter()
}

const PERSISTENT: &[(&str, &str)] = &[
    ("ENOSPC", "disk-full/heartbeat-enospc"),
    ("EDQUOT", "quota/heartbeat-edquot"),
    ("EIO", "io-error/heartbeat-eio"),
    ("EACCES", "permission/heartbeat-eacces"),
    ("EPERM", "not-permitted/heartbeat-eperm"),
    ("EROFS", "read-only/heartbeat-erofs"),
    ("a missing path", "missing-path/lock-removed"),
];

/// B1: a lock that swallows the errors of its beat is caught under every one of them, and holds
/// where nothing goes wrong.
#[test]
fn the_swallowed_beat_is_caught_under_every_errno() {
    let mut words = vec!["--subject", "zoo@swallowed-beat", "control/long-hold"];
    words.extend(PERSISTENT.iter().map(|(_, scenario)| *scenario));
    for engine in engines() {
        let truth = Truth::of(engine, &words);
        truth.is_held("control/long-hold", "zoo@swallowed-beat");
        for (_, scenario) in PERSISTENT {
            truth.is_violated(scenario, "zoo@swallowed-beat", &["double-held", "silent"]);
        }
    }
}

/// The positive control holds under the same faults: it tells, stops and is succeeded.
#[test]
fn the_reference_holds_and_is_succeeded_under_every_errno() {
    let mut words = vec!["control/long-hold", "dead-owner/killed-while-holding"];
    words.extend(PERSISTENT.iter().map(|(_, scenario)| *scenario));
    for engine in engines() {
        reference_is_succeeded(&Truth::of(engine, &words));
    }
}

fn reference_is_succeeded(truth: &Truth) {
    truth.is_held("control/long-hold", "reference@default");
    truth.is_held("dead-owner/killed-while-holding", "reference@default");
    for (errno, scenario) in PERSISTENT {
        truth.is_held(scenario, "reference@default");
        let case = truth.case(scenario, "reference@default");
        let said = |role: &str, event: &str| {
            let lines = case["witness"].as_array().expect("the witness is a list");
            lines.iter().position(|line| line["role"] == role && line["event"] == event)
        };
        let aborted = said("holder", "aborted");
        let entered = said("contender-1", "entered");
        assert!(aborted.is_some() && entered.is_some(), "{errno}: {case:#}");
        if *scenario != "missing-path/lock-removed" {
            assert!(aborted < entered, "{errno}: out before the heir is in: {case:#}");
        }
    }
}

/// proper-lockfile 4.1.2, stale 2 s: measured with strace and in real time.
#[test]
fn proper_lockfile_does_what_was_measured() {
    for engine in engines() {
        proper_lockfile_is_as_measured(&Truth::of(
            engine,
            &[
                "control/long-hold",
                "disk-full/heartbeat-enospc",
                "io-error/heartbeat-eio-once",
                "missing-path/lock-removed",
                "dead-owner/killed-while-holding",
                "--subject",
                "proper-lockfile@fast",
                "--subject",
                "proper-lockfile@logging",
            ],
        ));
    }
}

fn proper_lockfile_is_as_measured(truth: &Truth) {
    if truth.is_skipped("proper-lockfile@fast") {
        return;
    }
    let fast = "proper-lockfile@fast";
    // The message names path, operation and errno, or `vague` would have been found.
    for scenario in [
        "control/long-hold",
        "disk-full/heartbeat-enospc",
        "io-error/heartbeat-eio-once",
        "dead-owner/killed-while-holding",
    ] {
        truth.is_held(scenario, fast);
    }
    let removed = truth.case("missing-path/lock-removed", fast);
    assert_eq!(removed["outcome"], "violated", "{removed:#}");
    let overlap = findings(removed).find(|finding| finding["check"] == "exclusion");
    let overlap = overlap.unwrap_or_else(|| panic!("no overlap: {removed:#}"));
    println!("lock removed: {} ms, measured from outside: about 500 ms", overlap["overlap_ms"]);
    let logging = "proper-lockfile@logging";
    truth.is_violated("disk-full/heartbeat-enospc", logging, &["told-ignored"]);
    truth.is_held("io-error/heartbeat-eio-once", logging);
}

/// Its retry grid of 1 s misses the threshold of 2.5 s: it is told 0.7 s after its heir is in. By
/// virtual time that takes no luck.
#[test]
fn proper_lockfile_is_told_too_late_on_a_coarse_grid() {
    if !engines().contains(&"trace") {
        return;
    }
    let grid = "proper-lockfile@grid";
    let truth = Truth::of("trace", &["io-error/heartbeat-eio", "--subject", grid]);
    if truth.is_skipped(grid) {
        return;
    }
    truth.is_violated("io-error/heartbeat-eio", grid, &["told-late"]);
    let overlap = findings(truth.case("io-error/heartbeat-eio", grid))
        .find(|finding| finding["kind"] == "told-late")
        .and_then(|finding| finding["overlap_ms"].as_f64())
        .expect("told-late has an overlap");
    assert!((650.0..=800.0).contains(&overlap), "measured from outside: 700 to 750 ms: {overlap}");
}

/// A hung beat is noticed by nobody: the heir enters at the holder's back, and no word is said.
#[test]
fn a_hung_beat_of_proper_lockfile_is_silent() {
    if !engines().contains(&"trace") {
        return;
    }
    let (scenario, subject) = ("hang/past-the-end", "proper-lockfile@default");
    let truth = Truth::of("trace", &[scenario, "--subject", subject]);
    if truth.is_skipped(subject) {
        return;
    }
    truth.is_violated(scenario, subject, &["double-held", "silent"]);
}

/// A lock without a heartbeat: what needs one is skipped with the reason, a removed name is a
/// recorded gap, and a dead owner is followed.
#[test]
fn flock_has_no_heartbeat_and_loses_a_removed_name() {
    for engine in engines() {
        flock_is_as_measured(&Truth::of(
            engine,
            &[
                "--subject",
                "flock",
                "control/long-hold",
                "dead-owner/killed-while-holding",
                "disk-full/heartbeat-enospc",
                "missing-path/lock-removed-before-arrival",
            ],
        ));
    }
}

fn flock_is_as_measured(truth: &Truth) {
    if truth.is_skipped("flock@default") {
        return;
    }
    truth.is_held("control/long-hold", "flock@default");
    truth.is_held("dead-owner/killed-while-holding", "flock@default");
    let skipped = truth.case("disk-full/heartbeat-enospc", "flock@default");
    assert_eq!(skipped["outcome"], "skipped");
    assert!(skipped["reason"].as_str().is_some_and(|why| why.contains("beat")), "{skipped:#}");
    let removed = truth.case("missing-path/lock-removed-before-arrival", "flock@default");
    assert_eq!(removed["outcome"], "known-gap", "{removed:#}");
}
