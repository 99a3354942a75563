//! The trace engine with real programs: sh, C, Node and Python, as far as they are installed.
//!
//! Guests are in `guests/`. A guest prints `NAME MS ANSWER ERROR` for each thing that it does;
//! all lengths are virtual, so they are exact, or as exact as the program itself is.

#[path = "trace/personality.rs"]
mod personality;
#[path = "trace/refused.rs"]
mod refused;
#[path = "trace/threads.rs"]
mod threads;
#[path = "trace/told.rs"]
mod told;
#[path = "trace/worlds.rs"]
mod worlds;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use deadbeat::engine::trace::TraceEngine;
use deadbeat::engine::{Engine, Stage, Stop};
use deadbeat::fault::{Effect, HangEnd, Ops, Rule, Target, Times};
use deadbeat::history::{History, Stream, What};
use deadbeat::moment::{Anchor, Moment, Sign};
use deadbeat::op::{Errno, OpKind};
use deadbeat::plan::{
    Act, Bounds, Claims, Deed, Exclusion, Expect, ExpectExclusion, LockFiles, Part, Plan, Reach,
    Timing, Trial, World,
};
use deadbeat::role::{Role, Who};
use deadbeat::time::Nanos;

const HOLDER: Role = Role::Holder;
const CONTENDER: Role = Role::Contender(1);

fn engine() -> TraceEngine {
    let program = std::env::var_os("DEADBEAT_TEST_PROGRAM");
    let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_deadbeat").into());
    TraceEngine::probe_with(PathBuf::from(program))
        .expect("ptrace and namespaces work where these tests run")
}

fn guest(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name);
    path.to_string_lossy().into_owned()
}

/// Whether a program is there; says so if not.
fn is_missing(program: &str) -> bool {
    let missing = Command::new(program).arg("--version").output().is_err();
    if missing {
        println!("skipped: {program} is not installed");
    }
    missing
}

/// A C guest as a program; `None` without a compiler. The folder goes with the handle.
fn compiled(name: &str, flags: &[&str]) -> Option<(tempfile::TempDir, String)> {
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

fn part(role: Role, argv: &[&str], starts: Moment) -> Part {
    Part {
        role,
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::new(),
        starts,
        hold: Nanos::from_ms(100),
        patience: Nanos::from_ms(1000),
        acquires: 1,
        stall: None,
    }
}

fn sh(script: &str) -> Vec<String> {
    let prelude = r#"say() { echo "$*" >> "$DEADBEAT_WITNESS"; }; "#;
    let cd = r#"cd "$DEADBEAT_DIR"; "#;
    vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("{prelude}{cd}{script}")]
}

/// A trial whose holder runs these words in `{dir}`.
fn trial(argv: &[&str]) -> Trial {
    let run = ["/bin/sh", "-c", r#"cd "$DEADBEAT_DIR" && exec "$@""#, "sh"];
    let argv: Vec<&str> = run.iter().chain(argv).copied().collect();
    let unit = Nanos::from_ms(1000);
    Trial {
        scenario: "trace/case".to_owned(),
        subject: "guest@default".to_owned(),
        plan: Plan {
            seed: 0,
            timing: Timing {
                stale: Some(unit),
                beat: Some(unit),
                stale_unit: unit,
                beat_unit: unit,
                tick: Nanos::from_ms(20),
            },
            files: LockFiles {
                name: "resource.lock".to_owned(),
                lock: vec!["resource.lock".to_owned()],
                heartbeat: vec!["beat".to_owned()],
            },
            cast: vec![part(HOLDER, &argv, Moment::START)],
            world: World::default(),
            faults: Vec::new(),
            events: Vec::new(),
            // Of virtual time: of real time each takes a few seconds at most.
            bounds: Bounds {
                wall: Nanos::from_ms(100_000_000),
                events: 100_000,
                output: 1 << 20,
                processes: 200,
            },
        },
        claims: Claims {
            exclusion: Exclusion::Strict,
            on_failure: Vec::new(),
            dead_owner_takeover: None,
            warns: Vec::new(),
        },
        expect: Expect {
            exclusion: ExpectExclusion::Held,
            holder: Vec::new(),
            warning: Vec::new(),
            takeover: None,
        },
        gaps: Vec::new(),
        warnings: Vec::new(),
    }
}

fn script(text: &str) -> Trial {
    let mut trial = trial(&[]);
    trial.plan.cast[0].argv = sh(text);
    trial
}

fn run(trial: &Trial) -> History {
    let stage = Stage { subject: PathBuf::from("/"), scratch: None, worker: 0 };
    engine().run(trial, &stage, &Stop::default()).expect("the engine carries the trial out")
}

fn output(history: &History) -> String {
    let pieces = history.events.iter().filter_map(|event| match &event.what {
        What::Output { stream: Stream::Stdout | Stream::Stderr, text, .. } => Some(text.as_str()),
        _ => None,
    });
    pieces.collect()
}

fn exit(history: &History, who: Role) -> (Option<i32>, Option<i32>) {
    let found = history.events.iter().find_map(|event| match event.what {
        What::Exited { role, code, signal } if role == who => Some((code, signal)),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{who} did not end: {history:#?}"))
}

#[track_caller]
fn no_trouble(history: &History) {
    let trouble: Vec<_> =
        history.events.iter().filter(|e| matches!(e.what, What::Trouble { .. })).collect();
    assert!(trouble.is_empty(), "{trouble:?}\n{}", output(history));
}

/// Fails unless the guest printed exactly these lines; a length may be this much longer.
#[track_caller]
fn expect_lengths(history: &History, slack_ms: u64, expected: &[(&str, u64, i64, &str)]) {
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

const C_WAITS: &[(&str, u64, i64, &str)] = &[
    ("nanosleep", 3000, 0, "-"),
    ("absolute", 4000, 0, "-"),
    ("usleep", 250, 0, "-"),
    ("poll", 1500, 0, "-"),
    ("ppoll", 3000, 0, "-"),
    ("select", 2000, 0, "-"),
    ("select-set", 0, 0, "-"),
    ("epoll", 1200, 0, "-"),
    ("cond", 5000, 0, "ETIMEDOUT"),
    ("sem", 6000, -1, "ETIMEDOUT"),
    ("sigtimedwait", 3000, -1, "EAGAIN"),
    ("alarm-pause", 2000, -1, "EINTR"),
    ("alarm-sleep", 2000, -1, "EINTR"),
    ("rest", 8000, 0, "-"),
    ("itimer", 3000, 0, "-"),
    ("timerfd", 3000, 1, "-"),
    ("timerfd-left", 990, 0, "-"),
    ("timerfd-poll", 990, 1, "-"),
    ("timerfd-late", 4000, 5, "-"),
    ("timerfd-early", 0, -1, "11"),
    ("timerfd-epoll", 7000, 1, "-"),
    ("thread", 7000, 0, "-"),
    ("busy", 2000, 0, "-"),
    ("mtime", 9000, 9, "-"),
    ("now", 0, 0, "-"),
];

/// Every wait of C ends at its virtual deadline, with the answer that the kernel would give.
#[test]
fn waits_of_c_end_at_their_virtual_deadlines() {
    for flags in [&[][..], &["-static"][..]] {
        let Some((_folder, program)) = compiled("waits.c", flags) else { return };
        expect_lengths(&run(&trial(&[&program])), 10, C_WAITS);
    }
}

#[test]
fn waits_of_node_end_at_their_virtual_deadlines() {
    if is_missing("node") {
        return;
    }
    let history = run(&trial(&["node", &guest("waits.mjs")]));
    expect_lengths(
        &history,
        60,
        &[
            ("sleep", 3000, 0, "-"),
            ("parallel", 4000, 0, "-"),
            ("interval", 20_000, 20, "-"),
            ("atomics", 2500, 0, "-"),
            ("mtime", 10_000, 100, "-"),
            ("busy", 1000, 0, "-"),
        ],
    );
}

#[test]
fn waits_of_python_end_at_their_virtual_deadlines() {
    if is_missing("python3") {
        return;
    }
    let history = run(&trial(&["python3", &guest("waits.py")]));
    expect_lengths(
        &history,
        10,
        &[
            ("sleep", 3000, 0, "-"),
            ("event", 4000, 0, "-"),
            ("queue", 5000, 0, "-"),
            ("select", 2000, 0, "-"),
            ("thread", 6000, 0, "-"),
            ("child", 60_000, 0, "-"),
            ("poll", 1500, 0, "-"),
            ("mtime", 9500, 8, "-"),
        ],
    );
}

/// An hour in a shell: the clock, the file's time and the history agree.
#[test]
fn an_hour_of_sleep_is_an_hour_of_virtual_time() {
    let begun = std::time::Instant::now();
    let history = run(&script(
        ": > stamp; a=$(date +%s); sleep 3600; b=$(date +%s); echo $((b - a)) $((b - $(stat -c %Y stamp)))",
    ));
    no_trouble(&history);
    assert_eq!(output(&history), "3600 3600\n");
    let end = history.events.last().expect("there is an end").at;
    assert_eq!(end.as_ms(), 3_600_001, "an hour, and the millisecond by which a wait ends late");
    assert!(begun.elapsed().as_secs() < 600, "an hour did not have to pass");
}

/// fork, vfork, spawn, stops, orphans, and exec from a thread that is not the first.
#[test]
fn processes_come_stop_and_go_as_usual() {
    let Some((_folder, program)) = compiled("execs.c", &[]) else { return };
    let history = run(&trial(&[&program]));
    no_trouble(&history);
    let expected =
        "fork 3\nvfork 4\nspawn 0\nstopped 1\ncontinued 1\nkilled 1\norphan 1\nsecond program\n";
    assert_eq!(output(&history), expected);
    assert_eq!(exit(&history, HOLDER), (Some(7), None));
    let made = history.events.iter().filter_map(|event| match &event.what {
        What::Op { op, outcome, .. } if op.kind == OpKind::Mkdir && outcome.effect => {
            Some(op.path().to_owned())
        }
        _ => None,
    });
    let made: Vec<String> = made.collect();
    assert_eq!(made, ["forked", "vforked", "spawned", "orphan", "second"]);
}

fn rule(on: &str, kinds: &[OpKind], effect: Effect, times: Times) -> Rule {
    Rule {
        number: 1,
        who: Who::Any,
        on: Target::Glob(on.to_owned()),
        ops: Ops { refresh: false, kinds: kinds.to_vec() },
        effect,
        from: Moment::START,
        until: None,
        times,
        synthetic: true,
    }
}

/// Node's utimes run on the threads of a pool: they count as one role's.
#[test]
fn faults_are_counted_for_each_role_and_file_not_for_each_thread() {
    if is_missing("node") {
        return;
    }
    let mut case = trial(&["node", &guest("pool.mjs")]);
    let effect = Effect::Error { errno: Errno(libc::EIO), apply: false };
    case.plan.faults = vec![rule("beat", &[OpKind::Utimes], effect, Times::Range(3, 7))];
    let history = run(&case);
    no_trouble(&history);
    assert_eq!(output(&history), "failed 5\n");
    let fired = history.events.iter().filter(|e| matches!(e.what, What::Fired { .. })).count();
    assert_eq!(fired, 5);
}

/// A hang until another role's moment lasts exactly as long in virtual time.
#[test]
fn a_hang_is_released_by_a_moment() {
    let mut case = script("say entered; mkdir a; date +%s > b; say left");
    let entered = Anchor::Role(Who::One(CONTENDER), Sign::Entered);
    let until = Moment { anchor: entered, offset: Nanos::from_ms(5000) };
    let hang = Effect::Hang(HangEnd::Until(until));
    case.plan.faults = vec![rule("a", &[OpKind::Mkdir], hang, Times::All)];
    let mut heir = part(CONTENDER, &[], Moment::START);
    heir.argv = sh("sleep 60; say entered; sleep 1; say left");
    case.plan.cast.push(heir);
    let history = run(&case);
    no_trouble(&history);
    let at = |wanted: &dyn Fn(&What) -> bool| {
        let found = history.events.iter().find(|event| wanted(&event.what));
        found.map(|event| event.at.as_ms())
    };
    assert_eq!(at(&|what| matches!(what, What::Waiting { fault: Some(1), .. })), Some(0));
    assert_eq!(at(&|what| matches!(what, What::Op { fault: Some(1), .. })), Some(65_001));
}

/// Clocks of a role can be ahead, can be stepped, and monotonic time stops in a suspend.
#[test]
fn clocks_differ_as_the_plan_says() {
    let clocks = r#"
import sys, time
real, mono = time.time(), time.clock_gettime(time.CLOCK_MONOTONIC)
boot = time.clock_gettime(time.CLOCK_BOOTTIME)
time.sleep(10)
print(sys.argv[1], round(real) % 100000, round(time.time() - real),
      round(time.clock_gettime(time.CLOCK_MONOTONIC) - mono),
      round(time.clock_gettime(time.CLOCK_BOOTTIME) - boot), flush=True)
"#;
    if is_missing("python3") {
        return;
    }
    let mut case = trial(&["python3", "-c", clocks, "holder"]);
    case.plan.world.clock.insert(CONTENDER, 3_600_000_000_000);
    let later = |ms| Moment { anchor: Anchor::Start, offset: Nanos::from_ms(ms) };
    let heir = part(CONTENDER, &["python3", "-c", clocks, "contender"], later(100_000));
    case.plan.cast.push(heir);
    let act = |number, at, what| Act { number, at, what, text: "case".to_owned() };
    case.plan.events = vec![
        act(1, later(5000), Deed::StepClock(Who::One(HOLDER), -50_000_000_000)),
        act(2, later(105_000), Deed::Suspend(Nanos::from_ms(1_000_000))),
    ];
    let history = run(&case);
    no_trouble(&history);
    let epoch = 1_893_456_000_u64;
    let expected = format!(
        "holder {} -40 10 10\ncontender {} 1010 10 1010\n",
        epoch % 100_000,
        (epoch + 3600 + 100) % 100_000
    );
    assert_eq!(output(&history), expected);
}

/// A paused role does nothing until it is resumed, and its sleep has ended meanwhile.
#[test]
fn a_paused_role_wakes_up_late() {
    let mut case = script("say entered; sleep 2; mkdir a; say left");
    let later = |ms| Moment {
        anchor: Anchor::Role(Who::One(HOLDER), Sign::Entered),
        offset: Nanos::from_ms(ms),
    };
    let act = |number, at, what| Act { number, at, what, text: "case".to_owned() };
    case.plan.events = vec![
        act(1, later(1000), Deed::Pause(Who::One(HOLDER), Reach::Tree)),
        act(2, later(30_000), Deed::Resume(Who::One(HOLDER))),
    ];
    let history = run(&case);
    no_trouble(&history);
    let made = history.events.iter().find(|event| {
        matches!(&event.what, What::Op { op, .. } if op.kind == OpKind::Mkdir && op.path() == "a")
    });
    assert_eq!(made.map(|event| event.at.as_ms()), Some(30_000));
    assert_eq!(exit(&history, HOLDER), (Some(0), None));
}

/// A fork bomb ends at the bound of processes, and nothing of it lives on.
#[test]
fn a_fork_bomb_dies_with_the_run() {
    let marker = format!("31537{}", std::process::id());
    let mut case = script(&format!("b() {{ sleep {marker} & b | b & }}; b; sleep {marker}"));
    case.plan.bounds.processes = 60;
    let history = run(&case);
    let is_named = history
        .events
        .iter()
        .any(|event| matches!(&event.what, What::Trouble { why } if why.contains("60 processes")));
    assert!(is_named, "{:?}", history.events.last());
    assert_eq!(running(&marker), 0);
}

/// How many processes have this word in their command line.
fn running(word: &str) -> usize {
    let lines = std::fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).split('\0').any(|part| part == word)).count()
}

/// The same plan and seed give the same history, byte for byte; another seed another order.
#[test]
fn the_same_plan_gives_the_same_history() {
    if is_missing("node") {
        return;
    }
    let mut case = trial(&["node", &guest("pool.mjs")]);
    let argv: Vec<String> = case.plan.cast[0].argv.clone();
    let mut heir = part(CONTENDER, &[], Moment::START);
    heir.argv = argv;
    case.plan.cast.push(heir);
    let text = |history: &History| -> Vec<String> {
        let lines = history.events.iter();
        lines.map(|event| serde_json::to_string(event).expect("events have a JSON form")).collect()
    };
    for seed in [0, 7] {
        case.plan.seed = seed;
        let first = text(&run(&case));
        for repeat in 1..repeats() {
            let again = text(&run(&case));
            let differs = first.iter().zip(&again).find(|(one, other)| one != other);
            assert_eq!(differs, None, "seed {seed}, repeat {repeat}");
            assert_eq!(first.len(), again.len());
        }
    }
}

/// How often a determinism test repeats a run; more by `DEADBEAT_REPEATS`.
fn repeats() -> usize {
    std::env::var("DEADBEAT_REPEATS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

/// The harness that [`a_killed_harness_leaves_nothing`] kills: this program once more.
#[test]
fn victim() {
    let Ok(marker) = std::env::var("DEADBEAT_TEST_VICTIM") else { return };
    // A hanging operation, a stopped process, a busy one and one that sleeps really.
    let mut case = script(&format!(
        "(mkdir held; :) & (kill -STOP $(sh -c 'echo $PPID')) & sleep {marker} & \
         while :; do [ -e a ]; done"
    ));
    let never = Moment { anchor: Anchor::Done(99), offset: Nanos::ZERO };
    let hang = Effect::Hang(HangEnd::Until(never));
    case.plan.faults = vec![rule("held", &[OpKind::Mkdir], hang, Times::All)];
    case.plan.bounds.events = u64::MAX;
    // Processes of the engine's own must go as well.
    case.plan.world.pids = worlds::pids_named_by("DEADBEAT_TEST_PIDS");
    run(&case);
}

/// Whenever the harness is killed: no process, no mount and no folder is left.
#[test]
fn a_killed_harness_leaves_nothing() {
    let marker = format!("31538{}", std::process::id());
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let before = mounts();
    for kill in 0..kills() {
        let mut harness = Command::new(std::env::current_exe().expect("/proc is mounted"))
            .args(["--exact", "victim"])
            .env("DEADBEAT_TEST_VICTIM", &marker)
            .env("DEADBEAT_TEST_PIDS", if kill % 2 == 0 { "shared" } else { "separate" })
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("this program can be started");
        // Any moment will do, so nothing depends on how long this really takes.
        std::thread::sleep(std::time::Duration::from_millis(kill * 7 % 120));
        harness.kill().expect("it runs for ever");
        harness.wait().expect("it was killed");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while running(&marker) > 0 {
            assert!(std::time::Instant::now() < deadline, "kill {kill}: a process is left");
            std::thread::yield_now();
        }
    }
    assert_eq!(before, mounts());
}

/// How often the harness is killed; more by `DEADBEAT_KILLS`.
fn kills() -> u64 {
    std::env::var("DEADBEAT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

/// Runs tests of this program as an ordinary user, who needs a user namespace; gives what they
/// printed, or nothing where that user runs them all anyway.
fn as_ordinary_user(tests: &[&str]) -> Option<String> {
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

/// An ordinary user runs the engine in a user namespace.
#[test]
fn an_ordinary_user_can_run_it() {
    let Some(text) = as_ordinary_user(&["--exact", "ordinary"]) else { return };
    assert!(text.contains("an ordinary user slept"), "{text}");
}

/// What [`an_ordinary_user_can_run_it`] runs as that user.
#[test]
fn ordinary() {
    if std::env::var_os("DEADBEAT_TEST_PROGRAM").is_none() {
        return;
    }
    let history =
        run(&script(": > a; sleep 5; chmod 0 .; (: > b) || echo refused; chmod 700 .; id -u"));
    let text = output(&history);
    assert!(text.contains("refused") && text.contains("65534"), "{text}");
    assert_eq!(history.events.last().map(|event| event.at.as_ms()), Some(5001));
    println!("an ordinary user slept");
}

/// A lock of the kernel: the history tells who waits, and a wait with a limit ends.
#[test]
fn a_blocking_flock_waits_in_virtual_time() {
    if is_missing("flock") {
        return;
    }
    let mut case = script("exec 9> lock; flock 9; say entered; sleep 10; say left");
    let entered = Moment {
        anchor: Anchor::Role(Who::One(HOLDER), Sign::Entered),
        offset: Nanos::from_ms(1000),
    };
    let mut heir = part(CONTENDER, &[], entered);
    heir.argv = sh("exec 9> lock; flock -w 3 9 || say failed late; flock 9; say entered; say left");
    case.plan.cast.push(heir);
    let history = run(&case);
    no_trouble(&history);
    let when = |word: &str| {
        let found = history.events.iter().find(|event| {
            matches!(&event.what, What::Witness { role: CONTENDER, said } if said.word() == word)
        });
        found.map(|event| event.at.as_ms())
    };
    assert_eq!((when("failed"), when("entered")), (Some(4000), Some(10_001)), "{history:#?}");
    let waits = history.events.iter().filter(|event| {
        matches!(&event.what, What::Waiting { op, fault: None } if op.kind == OpKind::Flock)
    });
    assert_eq!(waits.count(), 2);
}
