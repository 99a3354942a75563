//! What the bug zoo is for: the table of what catches what, and what would slip through without a
//! part of the suite.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use deadbeat::scenario::library;
use deadbeat_tests::{call, command, finish, is_without_engine, root};
use serde_json::Value;

/// What is tried in this family alone, where no planted bug is caught by nothing else: a reason to
/// have it, and not a bug that was planted and seen to be caught.
///
/// A family that is in neither list is either not needed, or lacks a planted bug.
const REASONS: &[(&str, &str)] = &[
    ("crash", "nobody would crash in the middle of acquiring, of releasing or of a take-over"),
    ("dead-owner", "nobody would come long after the death, nor in the middle of a beat"),
    ("delay", "no disk would be slow"),
    ("disk-full", "no disk would be full when somebody acquires"),
    ("inode-exhaustion", "no file system would be out of inodes with blocks to spare"),
    ("io-error", "nobody would meet an I/O error that heals, or on the contender's side alone"),
    ("long-hold", "no lock would be held for fifty stale ages"),
    ("pause", "nobody would be stopped between looking and taking"),
    ("stall", "nobody would be short of cpu time again and again, never for long"),
];

/// For each planted bug and finding, the families whose scenarios show it: the page that CI writes
/// anew.
fn catchers() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(root().join("docs/zoo.md")).unwrap();
    let mut bugs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut variants = 0;
    for section in page.split("\n## ").skip(1) {
        let variant = section.split('`').nth(1).unwrap();
        variants += 1;
        // `- Own: **silent, vague** in `pause/a`, `hang/b`; **stuck** in …`
        for group in section.split("**").collect::<Vec<_>>()[1..].chunks(2) {
            let [findings, scenarios] = group else { continue };
            let scenarios = scenarios.split('`').skip(1).step_by(2);
            let families: BTreeSet<String> =
                scenarios.map(|name| name.split('/').next().unwrap().to_owned()).collect();
            for finding in findings.split(", ") {
                let shown: &mut BTreeSet<String> =
                    bugs.entry(format!("{variant} ({finding})")).or_default();
                shown.extend(families.iter().cloned());
            }
        }
    }
    assert!(variants >= 33 && bugs.len() > variants, "{variants} planted bugs");
    bugs
}

/// What would slip through, or not be tried, if the suite had only these families.
fn slips(bugs: &BTreeMap<String, BTreeSet<String>>, families: &BTreeSet<String>) -> Vec<String> {
    let planted = bugs.iter().filter(|(_, by)| by.is_disjoint(families));
    let planted = planted.map(|(variant, _)| format!("the planted bug {variant}"));
    let named = REASONS.iter().filter(|(family, _)| !families.contains(*family));
    planted.chain(named.map(|(_, bug)| (*bug).to_owned())).collect()
}

fn families() -> BTreeSet<String> {
    library::suite().unwrap().iter().map(|scenario| scenario.family().to_owned()).collect()
}

/// Goal: with any family gone, this test fails and says which bug slips through.
#[test]
fn no_bug_slips_through_the_suite() {
    let missing = slips(&catchers(), &families());
    assert!(missing.is_empty(), "these would slip through: {missing:?}");
}

/// Goal: every family is needed, for a planted bug or for a reason that is written down.
#[test]
fn without_any_one_family_a_bug_slips_through() {
    let (bugs, all) = (catchers(), families());
    let mut idle = Vec::new();
    for family in &all {
        let rest: BTreeSet<String> = all.iter().filter(|one| *one != family).cloned().collect();
        let missing = slips(&bugs, &rest);
        println!("without {family}: {}", missing.join("; "));
        if missing.is_empty() {
            idle.push(family);
        }
    }
    assert!(idle.is_empty(), "no bug is named that only these catch: {idle:?}");
}

/// Goal: the scenarios of a bug's class are more than words: one of them catches it.
#[test]
fn each_planted_bug_is_caught_by_a_scenario_of_its_class() {
    let planted: BTreeSet<String> = library::subjects()
        .unwrap()
        .into_iter()
        .flat_map(|(subject, _)| subject.variants)
        .filter_map(|(name, variant)| variant.planted.map(|_| name))
        .collect();
    let page = std::fs::read_to_string(root().join("docs/zoo.md")).unwrap();
    let sections = page.split("\n## ").skip(1);
    let caught = sections.filter(|section| section.contains("\n- Own: **"));
    let caught: BTreeSet<String> =
        caught.map(|section| section.split('`').nth(1).unwrap().to_owned()).collect();
    assert_eq!(caught, planted, "(hint: `deadbeat run --subject zoo` says what catches what)");
}

/// Goal: nothing is known of a variant but what it does.
#[test]
fn renamed_variants_are_caught_alike() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("scenarios/subjects/zoo/subject.toml")).unwrap();
    let mut renamed = text.clone();
    // Its base is one of those that are chosen here.
    let chosen = ["swallowed-beat", "hasty-abort", "blind-release", "unfenced"];
    for (number, name) in chosen.iter().enumerate() {
        let new = format!("lock-{number}");
        renamed = renamed
            .replace(&format!("[variant.{name}]"), &format!("[variant.{new}]"))
            .replace(&format!("[variant.{name}.planted]"), &format!("[variant.{new}.planted]"))
            .replace(&format!("base  = \"{name}\""), &format!("base  = \"{new}\""));
    }
    std::fs::create_dir(folder.path().join("zoo")).unwrap();
    std::fs::write(folder.path().join("zoo/subject.toml"), renamed).unwrap();
    let table = |subjects: &[String]| {
        let mut words = vec!["run", "disk-full", "missing-path", "--engine", "trace"];
        words.extend(["--format", "json"]);
        words.extend(subjects.iter().flat_map(|subject| ["--subject", subject.as_str()]));
        let called = call(folder.path(), words);
        if is_without_engine(&called) {
            return None;
        }
        let run: Value = serde_json::from_str(&called.stdout).unwrap();
        let rows = run["detection"].as_array().unwrap().clone();
        let nameless = rows.into_iter().map(|mut row| {
            row.as_object_mut().unwrap().remove("subject");
            row
        });
        Some(nameless.collect::<Vec<Value>>())
    };
    let old: Vec<String> = chosen
        .iter()
        .map(|name| format!("{}@{name}", root().join("scenarios/subjects/zoo").display()))
        .collect();
    let new: Vec<String> = (0..chosen.len()).map(|number| format!("./zoo@lock-{number}")).collect();
    let Some(old) = table(&old) else { return };
    assert_eq!(old.len(), chosen.len());
    assert!(old.iter().any(|row| row["by_class"].as_array().is_some_and(|all| !all.is_empty())));
    assert_eq!(table(&new).unwrap(), old);
}

/// Goal: a gate whose canary is not caught is no gate.
#[test]
fn a_run_has_canaries_unless_they_are_turned_off() {
    let folder = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let words = ["run", "control/quick-hand-over", "--engine", "trace", "--format", "json"];
        let called = call(folder.path(), words.iter().chain(more));
        (!is_without_engine(&called)).then(|| {
            let called = called.expect_code(0);
            serde_json::from_str::<Value>(&called.stdout).unwrap()
        })
    };
    let Some(with) = run(&[]) else { return };
    let canaries = with["canaries"].as_array().unwrap();
    assert!(canaries.len() >= 10 && canaries.iter().all(|canary| canary["caught"] == true));
    assert_eq!(with["results"].as_array().unwrap().len(), 1, "they are not counted among the rest");
    assert!(run(&["--no-canaries"]).unwrap().get("canaries").is_none());
}

/// Goal: canaries that come to nothing make the run prove nothing, and are named.
#[test]
fn a_missed_canary_makes_the_run_inconclusive() {
    let folder = tempfile::tempdir().unwrap();
    // The roles read the cache as another user.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let run = || {
        let words = ["run", "control/quick-hand-over", "--engine", "trace", "--format", "json"];
        let mut command = command(folder.path(), words);
        command.env("XDG_CACHE_HOME", folder.path());
        finish(command)
    };
    let first = run();
    if is_without_engine(&first) {
        return;
    }
    first.expect_code(0);
    // The planted bugs cannot be set up any more; the subject under test can.
    for entry in std::fs::read_dir(folder.path().join("deadbeat/subjects")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("zoo-") && name.ends_with(".lock") {
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
        }
    }
    let run = run().expect_code(3).json();
    assert_eq!(run["outcome"], "inconclusive");
    assert_eq!(run["results"][0]["outcome"], "held", "the subject's own verdict stays");
    let canaries = run["canaries"].as_array().unwrap();
    assert!(canaries.iter().all(|canary| canary["caught"] == false), "{canaries:?}");
    assert!(canaries.iter().any(|canary| canary["subject"] == "zoo@swallowed-beat"));
}
