//! The trace engine with real programs: sh, C, Node and Python, as far as they are installed.
//!
//! Guests are in `guests/`. A guest prints `NAME MS ANSWER ERROR` for each thing that it does;
//! all lengths are virtual, so they are exact, or as exact as the program itself is.

mod support;

use std::process::Command;

use deadbeat::fault::{Effect, HangEnd, Times};
use deadbeat::handmade::{self, CONTENDER, HOLDER, at, event, later};
use deadbeat::history::What;
use deadbeat::moment::{Anchor, Moment, Sign};
use deadbeat::op::{Errno, OpKind};
use deadbeat::plan::{Deed, Pids, Reach};
use deadbeat::role::Who;
use deadbeat::time::Nanos;
use support::*;

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

/// A sleeper that another thread or process wakes goes on at once, whoever else sleeps on.
#[test]
fn sleeps_that_somebody_ends_are_over_at_once() {
    let Some((_folder, program)) = compiled("wakes.c", &[]) else { return };
    let wanted = [
        ("kill", 1000, -1, "EINTR"),
        ("pthread-kill", 2000, -1, "EINTR"),
        ("post", 3000, 0, "-"),
        ("post-shared", 4000, 0, "-"),
        ("child", 5000, -1, "EINTR"),
    ];
    expect_lengths(&run(&trial(&[&program])), 10, &wanted);
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
            ("busy", 999, 0, "-"),
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
    assert_eq!(output(&history), "failed 5, over\n");
    let fired = history.events.iter().filter(|e| matches!(e.what, What::Fired { .. })).count();
    assert_eq!(fired, 5);
}

/// A hang until another role's moment lasts exactly as long in virtual time.
#[test]
fn a_hang_is_released_by_a_moment() {
    let mut case = script("say entered; mkdir a; date +%s > b; say left");
    let hang = Effect::Hang(HangEnd::Until(later(at(CONTENDER, Sign::Entered), 5000)));
    case.plan.faults = vec![rule("a", &[OpKind::Mkdir], hang, Times::All)];
    let heir = "sleep 60; say entered; sleep 1; say left";
    case.plan.cast.push(handmade::shell(CONTENDER, heir, Moment::START));
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
    let heir = ["python3", "-c", clocks, "contender"];
    case.plan.cast.push(handmade::part(CONTENDER, &heir, later(Moment::START, 100_000)));
    case.plan.events = vec![
        event(1, later(Moment::START, 5000), Deed::StepClock(Who::One(HOLDER), -50_000_000_000)),
        event(2, later(Moment::START, 105_000), Deed::Suspend(Nanos::from_ms(1_000_000))),
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
    let entered = at(HOLDER, Sign::Entered);
    case.plan.events = vec![
        event(1, later(entered, 1000), Deed::Pause(Who::One(HOLDER), Reach::Tree)),
        event(2, later(entered, 30_000), Deed::Resume(Who::One(HOLDER))),
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
    if std::env::var_os("DEADBEAT_TEST_APART").is_some() {
        case.plan.world.pids = Pids::Separate;
    }
    run(&case);
}

/// Whenever the harness is killed: no process, no mount and no folder is left.
#[test]
fn a_killed_harness_leaves_nothing() {
    let marker = format!("31538{}", std::process::id());
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let before = mounts();
    for kill in 0..kills() {
        let mut command = Command::new(std::env::current_exe().expect("/proc is mounted"));
        if kill % 2 == 1 {
            command.env("DEADBEAT_TEST_APART", "1");
        }
        let mut harness = command
            .args(["--exact", "victim"])
            .env("DEADBEAT_TEST_VICTIM", &marker)
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
    let heir = "exec 9> lock; flock -w 3 9 || say failed late; flock 9; say entered; say left";
    let begins = later(at(HOLDER, Sign::Entered), 1000);
    case.plan.cast.push(handmade::shell(CONTENDER, heir, begins));
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
