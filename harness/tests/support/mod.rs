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
        let program = PathBuf::from(env!("CARGO_BIN_EXE_deadbeat"));
        TraceEngine::probe_with(program).expect("ptrace and namespaces work where these tests run")
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
