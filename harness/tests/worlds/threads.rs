//! Threads that cannot be made.

use super::support::*;

use deadbeat::fault::{Effect, Times};
use deadbeat::handmade::HOLDER;
use deadbeat::history::{History, What};
use deadbeat::moment::{Anchor, Moment, Sign};
use deadbeat::op::{Errno, OpKind};
use deadbeat::plan::Trial;
use deadbeat::role::Who;
use deadbeat::time::Nanos;

/// The history's view of the threads that a role made, and tried to make.
fn made(history: &History) -> Vec<(Result<(), i32>, Option<u32>)> {
    let ops = history.events.iter().filter_map(|event| match &event.what {
        What::Op { op, outcome, fault } if op.kind == OpKind::Thread => {
            assert_eq!(outcome.effect, outcome.told.is_ok());
            Some((outcome.told.map(|_| ()).map_err(|errno| errno.0), *fault))
        }
        _ => None,
    });
    ops.collect()
}

fn second_fails(argv: &[&str], from: Moment) -> Trial {
    let mut case = trial(argv);
    let effect = Effect::Error { errno: Errno(libc::EAGAIN), apply: false };
    case.plan.faults = vec![rule("beat", &[OpKind::Thread], effect, Times::Range(2, 2))];
    case.plan.faults[0].from = from;
    case
}

/// pthread_create(3) answers EAGAIN, once, and the next thread runs.
#[test]
fn the_second_thread_of_c_and_python_cannot_be_made() {
    let Some((_folder, program)) = compiled("threads.c", &[]) else { return };
    let Some((_other, linked)) = compiled("threads.c", &["-static"]) else { return };
    let failed = [(Ok(()), None), (Err(libc::EAGAIN), Some(1)), (Ok(()), None)];
    for program in [&program, &linked] {
        let history = run(&second_fails(&[program], Moment::START));
        no_trouble(&history);
        assert_eq!(output(&history), "- 1\nEAGAIN 0\n- 1\n");
        assert_eq!(made(&history), failed);
    }
    if is_missing("python3") {
        return;
    }
    let history = run(&second_fails(&["python3", &guest("threads.py")], Moment::START));
    no_trouble(&history);
    assert_eq!(output(&history), "- 1\ncan't start new thread 0\n- 1\n");
    assert_eq!(made(&history), failed);
}

/// Node makes threads of its own when it starts: those before `entered` are not counted.
#[test]
fn the_second_worker_of_node_cannot_be_made() {
    if is_missing("node") {
        return;
    }
    let entered = Anchor::Role(Who::One(HOLDER), Sign::Entered);
    let from = Moment { anchor: entered, offset: Nanos::ZERO };
    let history = run(&second_fails(&["node", &guest("threads.mjs")], from));
    no_trouble(&history);
    assert_eq!(output(&history), "- ran\nERR_WORKER_INIT_FAILED -\n- ran\n");
    let made = made(&history);
    let (before, after) = made.split_at(made.len() - 3);
    assert!(
        !before.is_empty() && before.iter().all(|thread| *thread == (Ok(()), None)),
        "{made:?}"
    );
    assert_eq!(after, [(Ok(()), None), (Err(libc::EAGAIN), Some(1)), (Ok(()), None)]);
}
