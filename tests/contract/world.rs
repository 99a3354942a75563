//! What an engine does to the world of a run beyond its promises: events, and events that match
//! nothing.

use deadbeat::fault::Target;
use deadbeat::handmade::{HOLDER, at, event, later};
use deadbeat::history::What;
use deadbeat::moment::Sign;
use deadbeat::op::Errno;
use deadbeat::plan::Deed;

use crate::engine;
use crate::promises::{Bench, said, trial};

const EROFS: Errno = Errno(30);

/// Events on files and roles do what they say, and heal takes them back.
#[test]
fn events_change_the_world_and_heal_takes_it_back() {
    let script = r#"
        mkdir resource.lock; : > resource.lock/beat; say entered
        if (echo x > new) 2>/dev/null; then say failed writable; else say failed read-only; fi
        say degraded
        until touch resource.lock/beat 2>/dev/null; do sleep 0.02; done
        (echo x > new) && say failed writable; say left"#;
    let mut case = trial(script);
    let entered = at(HOLDER, Sign::Entered);
    case.plan.events = vec![
        event(1, entered, Deed::Chmod(0, Target::Heartbeat)),
        event(2, entered, Deed::Remount { read_only: true }),
        event(3, later(at(HOLDER, Sign::Degraded), 100), Deed::Heal),
    ];
    for engine in ["trace", "fuse"].into_iter().filter_map(engine) {
        let history = Bench { engine: &*engine, worker: 0 }.run(&case).expect("it can be run");
        let expected = ["entered", "read-only", "degraded", "writable", "left"];
        assert_eq!(said(&history, HOLDER), expected, "{}", engine.name());
        let is_refused = history.events.iter().any(
            |event| matches!(event.what, What::Op { outcome, .. } if outcome.told == Err(EROFS)),
        );
        assert!(is_refused, "{}: the refusal is in the history", engine.name());
    }
}

/// An event that matches nothing, or whose moment never comes, did not happen, and the history
/// says so.
#[test]
fn an_event_that_matches_nothing_is_not_done() {
    let mut case = trial("say entered; say left");
    let entered = at(HOLDER, Sign::Entered);
    case.plan.events = vec![
        event(1, entered, Deed::Remove(Target::Lock)),
        event(2, later(entered, 60_000), Deed::Remove(Target::Lock)),
    ];
    for engine in ["trace", "fuse"].into_iter().filter_map(engine) {
        let history = Bench { engine: &*engine, worker: 0 }.run(&case).expect("it can be run");
        for number in [1, 2] {
            let is_undone = history
                .events
                .iter()
                .any(|line| matches!(line.what, What::NotDone { event, .. } if event == number));
            assert!(is_undone, "{}: event {number}", engine.name());
        }
    }
}
