//! What the tests of the trace engine share: guests, trials made of one, and what they printed.
//!
//! Guests are in `guests/`. A guest prints `NAME MS ANSWER ERROR` for each thing that it does;
//! all lengths are virtual, so they are exact, or as exact as the program itself is.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use deadbeat::engine::trace::TraceEngine;
use deadbeat::engine::{Engine, Stage, Stop};
use deadbeat::fault::{Effect, Rule, Times};
use deadbeat::handmade::{self, HOLDER};
use deadbeat::history::{History, Stream, What};
use deadbeat::moment::Moment;
use deadbeat::op::OpKind;
use deadbeat::plan::Trial;
use deadbeat::role::{Role, Who};
use deadbeat::time::Nanos;

pub(crate) fn engine() -> &'static TraceEngine {
    static ENGINE: OnceLock<TraceEngine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let program = std::env::var_os("DEADBEAT_TEST_PROGRAM");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_deadbeat").into());
        TraceEngine::probe_with(PathBuf::from(program))
            .expect("ptrace and namespaces work where these tests run")
    })
}

/// A number of this test's own, so that tests side by side run on different cpus.
fn worker() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static WORKER: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    WORKER.with(|worker| *worker)
}

pub(crate) fn guest(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name);
    path.to_string_lossy().into_owned()
}

/// Whether a program is there; says so if not.
pub(crate) fn is_missing(program: &str) -> bool {
    let missing = Command::new(program).arg("--version").output().is_err();
    if missing {
        println!("skipped: {program} is not installed");
    }
    missing
}

/// A C guest as a program; `None` without a compiler. The folder goes with the handle.
pub(crate) fn compiled(name: &str, flags: &[&str]) -> Option<(tempfile::TempDir, String)> {
    if is_missing("cc") {
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("guest");
    let status = Command::new("cc")
        .args(flags)
        .args(["-O1", "-pthread", "-o"])
        .arg(&program)
        .arg(guest(name))
        .status()
        .expect("cc was there just now");
    assert!(status.success(), "{name} does not compile");
    let path = program.to_string_lossy().into_owned();
    Some((folder, path))
}

/// A trial whose holder runs these words in `{dir}`.
pub(crate) fn trial(argv: &[&str]) -> Trial {
    let run = ["/bin/sh", "-c", r#"cd "$DEADBEAT_DIR" && exec "$@""#, "sh"];
    let argv: Vec<&str> = run.iter().chain(argv).copied().collect();
    let mut trial = handmade::trial("trace/case");
    trial.plan.files.heartbeat = vec!["beat".to_owned()];
    trial.plan.cast = vec![handmade::part(HOLDER, &argv, Moment::START)];
    // Of virtual time: of real time each takes a few seconds at most.
    trial.plan.bounds.wall = Nanos::from_ms(100_000_000);
    trial
}

/// A trial whose holder is this shell script.
pub(crate) fn script(text: &str) -> Trial {
    let mut case = trial(&[]);
    case.plan.cast = vec![handmade::shell(HOLDER, text, Moment::START)];
    case
}

pub(crate) fn run(trial: &Trial) -> History {
    let stage = Stage { subject: PathBuf::from("/"), scratch: None, worker: worker() };
    engine().run(trial, &stage, &Stop::default()).expect("the engine carries the trial out")
}

pub(crate) fn output(history: &History) -> String {
    let pieces = history.events.iter().filter_map(|event| match &event.what {
        What::Output { stream: Stream::Stdout | Stream::Stderr, text, .. } => Some(text.as_str()),
        _ => None,
    });
    pieces.collect()
}

pub(crate) fn exit(history: &History, who: Role) -> (Option<i32>, Option<i32>) {
    let found = history.events.iter().find_map(|event| match event.what {
        What::Exited { role, code, signal } if role == who => Some((code, signal)),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{who} did not end: {history:#?}"))
}

#[track_caller]
pub(crate) fn no_trouble(history: &History) {
    let trouble: Vec<_> =
        history.events.iter().filter(|e| matches!(e.what, What::Trouble { .. })).collect();
    assert!(trouble.is_empty(), "{trouble:?}\n{}", output(history));
}

/// A fault, number 1, on anybody's operations on these files, all the time.
pub(crate) fn rule(glob: &str, kinds: &[OpKind], effect: Effect, times: Times) -> Rule {
    handmade::fault(Who::Any, glob, kinds, effect, times)
}

/// How many processes have this word in their command line.
pub(crate) fn running(word: &str) -> usize {
    let lines = std::fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).split('\0').any(|part| part == word)).count()
}

/// How often a test repeats a run: so often, or as `DEADBEAT_REPEATS` says.
pub(crate) fn repeats(default: usize) -> usize {
    std::env::var("DEADBEAT_REPEATS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Fails unless the guest printed exactly these lines; a length may be this much longer.
#[track_caller]
pub(crate) fn expect_lengths(
    history: &History,
    slack_ms: u64,
    expected: &[(&str, u64, i64, &str)],
) {
    no_trouble(history);
    let text = output(history);
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line[0]).collect();
    let wanted: Vec<&str> = expected.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, wanted, "\n{text}");
    for (line, (name, ms, answer, error)) in lines.iter().zip(expected) {
        let took: u64 = line[1].parse().unwrap_or_else(|_| panic!("no length: {line:?}"));
        assert!((*ms..=ms + slack_ms).contains(&took), "{name}: {took} ms, not {ms}\n{text}");
        assert_eq!((line[2], line[3]), (answer.to_string().as_str(), *error), "{name}\n{text}");
    }
    assert_eq!(exit(history, HOLDER), (Some(0), None));
}

/// Runs tests of this program as an ordinary user, who needs a user namespace; gives what they
/// printed, or nothing where that user runs them all anyway.
pub(crate) fn as_ordinary_user(tests: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = |from: &Path, name: &str| {
        let to = folder.path().join(name);
        // By another process: a test that forks meanwhile would inherit the open copy, and a
        // program that is open for writing cannot be started (ETXTBSY).
        let copied = Command::new("cp").arg(from).arg(&to).status().expect("cp starts");
        assert!(copied.success(), "{} can be copied", from.display());
        to
    };
    copy(Path::new(env!("CARGO_BIN_EXE_deadbeat")), "deadbeat");
    let this = copy(&std::env::current_exe().expect("/proc is mounted"), "tests");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).expect("the folder is ours");
    let mut command = Command::new(this);
    command.args(tests).arg("--nocapture").current_dir("/");
    command.env("DEADBEAT_TEST_PROGRAM", folder.path().join("deadbeat"));
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    std::os::unix::process::CommandExt::gid(&mut command, 65534);
    let output = command.output().expect("the copy can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    Some(text)
}
