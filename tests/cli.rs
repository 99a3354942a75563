//! The command line, as its users meet it: help, exit codes, error messages, formats.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use deadbeat_tests::leftovers::Scene;
use deadbeat_tests::{call, engines, fuse_works, isolate, program, root};
use rstest::rstest;

/// A folder with one file.
fn folder_with(name: &str, text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    folder
}

#[rstest]
#[case::top(&["--help"])]
#[case::run(&["run", "--help"])]
#[case::list(&["list", "--help"])]
#[case::cs(&["cs", "--help"])]
fn help_is_what_it_was(#[case] args: &[&str]) {
    let help = call(root(), args).expect_code(0).stdout;
    insta::assert_snapshot!(format!("help {}", args.join(" ")), help);
}

#[rstest]
#[case::unknown_flag(&["run", "--no-such-flag"], "--no-such-flag")]
#[case::unknown_command(&["rum"], "run")]
#[case::unknown_engine(&["run", "--engine", "fust"], "fuse")]
#[case::unknown_scenario(&["run", "disk-ful"], "disk-full")]
#[case::unknown_subject(&["run", "--subject", "referense"], "reference")]
#[case::unknown_variant(&["run", "--subject", "zoo@swalowed-beat"], "swallowed-beat")]
#[case::missing_file(&["run", "./no/such/scenario.toml"], "./no/such/scenario.toml")]
#[case::missing_folder(&["run", "--subject", "./no/such/folder"], "./no/such/folder")]
#[case::bad_partition(&["run", "--partition", "hash:5/4"], "hash:M/N")]
#[case::seed_of_another_engine(&["run", "--engine", "fuse", "--seed", "7"], "--engine fuse")]
#[case::seeds_of_another_engine(&["run", "--engine", "fuse", "--seeds", "7"], "--engine fuse")]
#[case::verify_in_real_time(&["run", "--engine", "fuse", "--verify"], "--engine fuse")]
#[case::no_seeds(&["run", "--seeds", "0"], "--seeds")]
#[case::bad_out(&["run", "control", "--partition", "hash:1/1", "--out", "/dev/null/x"], "--out")]
fn a_bad_flag_or_file_is_exit_2_and_names_the_remedy(#[case] args: &[&str], #[case] hint: &str) {
    if args.contains(&"--out") && !fuse_works() {
        return;
    }
    let called = call(root(), args).expect_code(2);
    assert!(called.stderr.contains(hint), "no `{hint}` in:\n{}", called.stderr);
    assert_eq!(called.stdout, "");
}

/// Goal: all mistakes of a file at once, each with file, line and the nearest right word.
#[test]
fn every_mistake_of_a_scenario_file_is_shown_at_once() {
    let text = "format = 1\ntitle = \"t\"\nwhy = \"w\"\ncovers = [\"recovery\"]\n\n\
                [[fault]]\nwho = \"holder\"\non = \"heartbeat\"\nop = [\"utimse\"]\n\
                error = \"ENOSPCC\"\nfrmo = \"holder entered\"\n";
    let folder = folder_with("bad.toml", text);
    let called = call(folder.path(), ["run", "./bad.toml"]).expect_code(2);
    for word in ["bad.toml", "utimse", "utimes", "ENOSPCC", "ENOSPC", "frmo", "from"] {
        assert!(called.stderr.contains(word), "no `{word}` in:\n{}", called.stderr);
    }
}

#[rstest]
#[case::binary(b"\xff\xfe\x00\x01")]
#[case::empty(b"")]
#[case::no_toml(b"[[[[")]
#[case::newer(b"format = 2\ntitle = \"t\"\n")]
fn a_file_that_is_no_scenario_is_exit_2(#[case] bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.toml"), bytes).unwrap();
    let called = call(folder.path(), ["run", "./bad.toml"]).expect_code(2);
    assert!(called.stderr.contains("bad.toml"), "{}", called.stderr);
}

#[test]
fn a_bad_subject_file_is_exit_2() {
    let folder = folder_with("mine/subject.toml", "format = 1\nnmae = \"mine\"\n");
    let called = call(folder.path(), ["run", "--subject", "./mine"]).expect_code(2);
    assert!(called.stderr.contains("nmae") && called.stderr.contains("name"), "{}", called.stderr);
}

#[test]
fn a_run_of_nothing_is_exit_4_unless_that_is_fine() {
    let shard = (1..=400).map(|index| format!("hash:{index}/400"));
    let empty = |part: &String| {
        let listed = call(root(), ["list", "control", "--partition", part.as_str()]);
        listed.stdout.lines().all(|line| !line.contains("control/"))
    };
    let part = shard.into_iter().find(empty).expect("400 shards hold fewer scenarios");
    let args = ["run", "control", "--partition", &part];
    call(root(), args).expect_code(4);
    call(root(), args.into_iter().chain(["--no-tests=pass"])).expect_code(0);
}

#[test]
fn shards_together_are_the_whole_suite() {
    let names = |args: &[&str]| -> Vec<String> {
        let listed = call(root(), [&["list"], args].concat()).expect_code(0).stdout;
        let mut names: Vec<String> =
            listed.lines().filter(|line| line.contains('/')).map(str::to_owned).collect();
        names.sort();
        names
    };
    let mut shards =
        [names(&["--partition", "hash:1/2"]), names(&["--partition", "hash:2/2"])].concat();
    shards.sort();
    assert_eq!(shards, names(&[]));
}

/// Goal: where the engine does not work, `run` says so with the remedy, and it is no pass.
#[test]
fn without_dev_fuse_a_run_of_its_engine_is_exit_3() {
    let hidden = "mount --bind /dev/null /dev/fuse && exec \"$0\" run control --engine fuse";
    let namespaces = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    let mut command = Command::new("unshare");
    command.args([namespaces, "sh", "-c", hidden]).arg(program()).current_dir(root());
    isolate(&mut command);
    let called = deadbeat_tests::finish(command);
    if called.stderr.contains("unshare") || called.stderr.contains("mount:") {
        println!("skipped: /dev/fuse cannot be hidden here: {}", called.stderr);
        return;
    }
    let called = called.expect_code(3);
    assert!(called.stderr.contains("/dev/fuse"), "{}", called.stderr);
    assert!(called.stderr.contains("hint"), "{}", called.stderr);
}

/// Goal: the trace engine runs when it is named, with the same verdict under any seed, or says why
/// it does not work here.
#[test]
fn the_trace_engine_runs_when_it_is_named() {
    for seed in ["0", "7"] {
        let args = ["run", "control/long-hold", "--engine", "trace", "--seed", seed];
        let called = call(root(), args);
        if called.code == Some(3) && called.stderr.contains("does not work here") {
            println!("skipped: {}", called.stderr);
            return;
        }
        let called = called.expect_code(0);
        assert!(called.stdout.contains("Engine trace"), "{}", called.stdout);
    }
}

/// Goal: each schedule has its entry, the terminal one line for all, and an answer can be
/// repeated.
#[test]
fn a_scenario_runs_under_many_schedules() {
    if !engines().contains(&"trace") {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let scenario = "dead-owner/killed-at-once";
    let args = ["run", scenario, "--seeds", "5", "--seed", "3", "--verify", "--out", folder];
    let called = call(root(), args).expect_code(0);
    assert!(called.stdout.contains("seeds 3..7"), "{}", called.stdout);
    assert_eq!(called.stdout.matches(scenario).count(), 1, "{}", called.stdout);
    assert!(called.stdout.contains("5 schedules"), "{}", called.stdout);
    let text = std::fs::read_to_string(out.path().join("results.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let results = json["results"].as_array().unwrap();
    let seeds: Vec<u64> = results.iter().filter_map(|result| result["seed"].as_u64()).collect();
    assert_eq!(seeds, [3, 4, 5, 6, 7]);
}

#[rstest]
#[case::scenario("scenario", "fault")]
#[case::subject("subject", "claims")]
fn schemas_are_json_and_know_their_tables(#[case] format: &str, #[case] table: &str) {
    let schema = call(root(), ["schema", format]).expect_code(0).json();
    assert!(schema["properties"][table].is_object(), "{schema:#}");
}

#[test]
fn list_explains_why_each_scenario_exists() {
    let listed = call(root(), ["list", "control", "--explain"]).expect_code(0).stdout;
    let plain = call(root(), ["list", "control"]).expect_code(0).stdout;
    assert!(listed.lines().count() > plain.lines().count(), "{listed}");
}

/// Goal: standard output is `results.json` and nothing else, with the names that CONTRACTS fixes.
#[test]
fn json_is_results_json_as_promised() {
    if !fuse_works() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let called = call(root(), ["run", "control", "--format", "json", "--out", folder]);
    let json = called.expect_code(0).json();
    assert_eq!(json["format"], 1);
    assert_eq!(json["engine"], if engines().contains(&"trace") { "trace" } else { "fuse" });
    assert_eq!(json["outcome"], "held");
    let results = json["results"].as_array().unwrap();
    assert!(!results.is_empty());
    let names = [
        "scenario",
        "subject",
        "engine",
        "seed",
        "outcome",
        "reason",
        "findings",
        "faults",
        "events",
        "witness",
        "virtual_ms",
        "wall_ms",
        "replay",
    ];
    for result in results {
        for name in names {
            assert!(result.get(name).is_some(), "no `{name}` in {result:#}");
        }
        assert_eq!(result["outcome"], "held");
        assert_eq!(result["witness"][0]["role"], "holder");
    }
    let written = std::fs::read_to_string(out.path().join("results.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), json);
    assert!(out.path().join("junit.xml").is_file());
}

/// Goal: a violated scenario leaves its history, and says with which command it happens again.
#[test]
fn a_violation_is_exit_1_with_evidence_and_a_command() {
    if !fuse_works() {
        return;
    }
    let before = Scene::now();
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let swallowed = ["run", "disk-full/heartbeat-enospc", "--subject", "zoo@swallowed-beat"];
    let called = call(root(), swallowed.into_iter().chain(["--out", folder])).expect_code(1);
    assert!(called.stdout.contains("VIOLATED"), "{}", called.stdout);
    assert!(called.stdout.contains("deadbeat run disk-full/heartbeat-enospc"), "{}", called.stdout);
    let history = "disk-full/heartbeat-enospc/zoo@swallowed-beat/history.jsonl";
    let history = std::fs::read_to_string(out.path().join(history)).unwrap();
    let first: serde_json::Value = serde_json::from_str(history.lines().next().unwrap()).unwrap();
    assert_eq!(first["format"], 1);
    assert!(history.lines().count() > 10);
    before.assert_clean();
}

/// Goal: the first Ctrl-C tears down and still writes the report; the exit code says so.
#[test]
fn ctrl_c_tears_down_and_writes_the_report() {
    if !fuse_works() {
        return;
    }
    let before = Scene::now();
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap().to_owned();
    let endless = ["run", "./tests/scenarios/quiet.toml", "--subject", "./tests/subjects/stays"];
    let args = endless.into_iter().chain(["--out", &folder]);
    let mut run = deadbeat_tests::command(root(), args);
    let mut run = run.stdout(std::process::Stdio::null()).spawn().unwrap();
    // The folder is made just before the signals are listened to; the run itself takes seconds.
    await_children(&mut run);
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert!(Path::new(&folder).join("results.json").is_file());
    before.assert_clean();
}

/// Waits until a process has children: then its runs have begun.
fn await_children(run: &mut std::process::Child) {
    let started = std::time::Instant::now();
    loop {
        assert_eq!(run.try_wait().unwrap(), None, "it ended before a run began");
        let folder = format!("/proc/{}/task", run.id());
        let tasks = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        let children =
            tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        if children.into_iter().any(|line| !line.trim().is_empty()) {
            return;
        }
        assert!(started.elapsed().as_secs() < 60, "no run began");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
