//! Start times and uptime, as `/proc` and the kernel tell them.

use super::pids::{pair, said_by};
use super::support::*;

use deadbeat::handmade::{CONTENDER, HOLDER};
use deadbeat::moment::{Anchor, Moment, Sign};
use deadbeat::plan::Pids;
use deadbeat::role::Who;
use deadbeat::time::Nanos;

/// `/proc`, sysinfo and times tell the same time as the clocks.
#[test]
fn proc_agrees_with_the_clocks() {
    if is_missing("python3") {
        return;
    }
    let mut told = Vec::new();
    for pids in [Pids::Shared, Pids::Separate, Pids::PidOne] {
        let mut case = trial(&["python3", &guest("told.py")]);
        case.plan.world.pids = pids;
        // A wall clock that is ahead changes the moment of booting, not the start times.
        case.plan.world.clock.insert(HOLDER, 3_600_000_000_000);
        let history = run(&case);
        no_trouble(&history);
        told.push(output(&history));
    }
    let lines: Vec<&str> = told[0].lines().collect();
    let expected = [
        "age 0.0",
        "uptime 0.0 0.0",
        "boot 0.0",
        "later 0.0 20.0",
        "ticks 20.0",
        "thread 20.0 20.0",
        "child 22.0 0.0",
        "gone",
        "stamps 0.0 0.0 0.0",
        "stamps 0.0 0.0 0.0",
        "stamps 0.0 0.0 0.0",
        "inside False 2",
        "write True",
    ];
    assert_eq!(lines, expected);
    assert_eq!(told[1], told[0]);
    assert_eq!(told[2], told[0]);
}

/// The start time of a shell and of its parent, read as shells read: byte by byte.
const START: &str =
    "begun() { read -r line < /proc/$1/stat; set -- ${line##*)}; shift 19; echo $1; }; ";

/// Two processes that start at different times differ by that time, in every run alike.
#[test]
fn start_times_differ_by_virtual_time() {
    // The times of /proc/PID, by coreutils, in hundredths of seconds since the boot.
    let stamp =
        "for t in $(stat -c '%X %Y %Z' /proc/$$); do echo $(((t - 1893356000) * 100)); done";
    let script = |then: &str| format!("{START} begun $$; sleep 30; begun $$; {stamp}; {then}");
    let mut case = pair(Pids::Shared, &script("begun 2; begun 1"), &script("true"));
    case.plan.cast[1].starts = Moment { anchor: Anchor::Start, offset: Nanos::from_ms(7000) };
    let history = run(&case);
    no_trouble(&history);
    // A boot 100000 s before the run.
    let first = 10_000_000;
    let holder: Vec<u32> = numbers(&said_by(&history, HOLDER));
    assert_eq!(holder, [first; 7], "the run's own processes began with it");
    let heir: Vec<u32> = numbers(&said_by(&history, CONTENDER));
    assert_eq!(heir, [first + 700; 5]);
    assert_eq!(output(&run(&case)), output(&history));
}

fn numbers(text: &str) -> Vec<u32> {
    text.lines().map(|line| line.parse().expect("a number of ticks")).collect()
}

/// A reused pid is told from its first owner by the start time.
#[test]
fn a_reused_pid_has_another_start_time() {
    let look = "begun 20000; sleep 1; begun 20000";
    let mut case = pair(
        Pids::Reused,
        "say entered; kill -9 $$",
        &format!("{START} {look}; sleep 100; {look}"),
    );
    let dead = Anchor::Role(Who::One(HOLDER), Sign::Dead);
    case.plan.cast[1].starts = Moment { anchor: dead, offset: Nanos::ZERO };
    let history = run(&case);
    no_trouble(&history);
    let seen = numbers(&said_by(&history, CONTENDER));
    assert_eq!(seen, [10_000_001; 4], "the tick after the first owner's, ever after");
}
