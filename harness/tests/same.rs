//! The same plan and seed give the same history, byte for byte, whatever the programs' threads
//! and random names; another seed gives another order.

mod support;

use deadbeat::handmade::{CONTENDER, HOLDER};
use deadbeat::history::{History, What};
use deadbeat::plan::{Part, Pids, Trial};
use deadbeat::time::Nanos;

use support::{
    compiled, guest, is_missing, no_trouble, output, repeats, run, running, script, trial,
};

/// How many repeats there are by default, for each seed.
const REPEATS: usize = 6;

/// Holder and contender are the same program, at the same time.
fn both(argv: &[&str]) -> Trial {
    let mut case = trial(argv);
    let heir = Part { role: CONTENDER, ..case.plan.cast[0].clone() };
    case.plan.cast.push(heir);
    case
}

fn lines(history: &History) -> Vec<String> {
    let events = history.events.iter();
    events.map(|event| serde_json::to_string(event).expect("events have a JSON form")).collect()
}

/// How many operations of the holder come before the contender's last, as a sign of the order.
fn order(history: &History) -> Vec<bool> {
    let roles = history.events.iter().filter_map(|event| match &event.what {
        What::Op { op, .. } => Some(op.role == HOLDER),
        _ => None,
    });
    roles.collect()
}

#[track_caller]
fn expect_the_same(argv: &[&str]) {
    let mut case = both(argv);
    let mut orders = Vec::new();
    for seed in [0, 7] {
        case.plan.seed = seed;
        let history = run(&case);
        no_trouble(&history);
        assert_eq!(output(&history).matches("over").count(), 2, "{}", output(&history));
        let first = lines(&history);
        orders.push(order(&history));
        for repeat in 2..=repeats(REPEATS) {
            let again = lines(&run(&case));
            let differs = first.iter().zip(&again).find(|(one, other)| one != other);
            assert_eq!(differs, None, "seed {seed}, repeat {repeat}");
            assert_eq!(first.len(), again.len(), "seed {seed}, repeat {repeat}");
        }
    }
    assert_ne!(orders[0], orders[1], "another seed draws another order");
}

#[test]
fn histories_of_node_are_the_same() {
    if !is_missing("node") {
        expect_the_same(&["node", &guest("pool.mjs")]);
    }
}

#[test]
fn histories_of_python_are_the_same() {
    // Not whatever `python3` is in PATH: a version manager's is a shell script.
    let python = "/usr/bin/python3";
    if !is_missing(python) {
        expect_the_same(&[python, &guest("pool.py")]);
    }
}

#[test]
fn histories_of_c_are_the_same() {
    for flags in [&[][..], &["-static"][..]] {
        let Some((_folder, program)) = compiled("pool.c", flags) else { return };
        expect_the_same(&[&program]);
    }
}

/// Goal: what a thread draws does not depend on which of several drew first.
#[test]
fn histories_of_threads_that_draw_at_once_are_the_same() {
    let Some((_folder, program)) = compiled("draws.c", &["-pthread"]) else { return };
    expect_the_same(&[&program]);
}

#[test]
fn histories_of_sh_are_the_same() {
    expect_the_same(&["/bin/sh", &guest("pool.sh")]);
}

/// Runs take place in the same namespaces, one after the other, and none can tell what was before.
#[test]
fn a_run_is_the_same_whatever_ran_before_it() {
    let case =
        script("sh -c 'echo $$'; mkdir a; (sleep 2; date >b; echo $(sh -c 'echo $$')) & wait");
    let first = run(&case);
    no_trouble(&first);
    let marker = format!("42424{}", std::process::id());
    let mut bomb = script(&format!("b() {{ sleep {marker} & b | b & }}; b"));
    bomb.plan.bounds.processes = 60;
    let left = script(&format!("trap '' TERM HUP; (setsid sleep {marker} &) & mkdir c"));
    let mut endless = script(&format!("sleep {marker}"));
    endless.plan.bounds.wall = Nanos::from_ms(10_000);
    let mut apart = script("mkdir d");
    apart.plan.world.pids = Pids::Separate;
    let before =
        [(bomb, "a bomb"), (left, "an orphan"), (endless, "no end"), (apart, "an init of its own")];
    for (before, what) in before {
        run(&before);
        assert_eq!(running(&marker), 0, "{what}");
        assert_eq!(lines(&run(&case)), lines(&first), "{what}");
    }
    let elsewhere = std::thread::spawn(move || run(&case)).join().expect("it runs there as well");
    assert_eq!(lines(&elsewhere), lines(&first), "in namespaces of its own");
}
