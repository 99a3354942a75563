//! PID worlds and host names: which processes a role can see, and under which numbers.

use super::support::*;

use deadbeat::handmade::{self, CONTENDER, HOLDER, at, event, later};
use deadbeat::history::{History, What};
use deadbeat::moment::{Moment, Sign};
use deadbeat::plan::{Deed, Pids, Reach, Trial};
use deadbeat::role::{Role, Who};

/// A holder and a contender with these scripts; the contender starts when the holder entered.
pub(super) fn pair(pids: Pids, holder: &str, contender: &str) -> Trial {
    let mut case = script(holder);
    case.plan.world.pids = pids;
    let heir = handmade::shell(CONTENDER, contender, at(HOLDER, Sign::Entered));
    case.plan.cast.push(heir);
    case
}

pub(super) fn said_by(history: &History, who: Role) -> String {
    let pieces = history.events.iter().filter_map(|event| match &event.what {
        What::Output { role, text, .. } if *role == who => Some(text.as_str()),
        _ => None,
    });
    pieces.collect()
}

fn pids(history: &History) -> Vec<(Role, u32)> {
    let started = history.events.iter().filter_map(|event| match event.what {
        What::Started { role, pid } => Some((role, pid)),
        _ => None,
    });
    started.collect()
}

/// What a lock that trusts a pid does: is the owner that the file names alive, and is it I?
const TRUST: &str = "owner=$(cat lock); kill -0 $owner 2>/dev/null && echo alive || echo dead; \
     [ $owner = $$ ] && echo mine; true";

/// In one namespace each role has a number of its own, the same in every run.
#[test]
fn roles_that_share_a_namespace_have_the_same_pids_in_every_run() {
    let case = pair(
        Pids::Shared,
        "echo $$ > lock; (exec sh -c 'echo child $$'); say entered; sleep 5; echo $$",
        &format!("echo $$; (exec sh -c 'echo child $$'); {TRUST}; sleep 10; {TRUST}"),
    );
    let first = run(&case);
    no_trouble(&first);
    assert_eq!(pids(&first), [(HOLDER, 20_000), (CONTENDER, 20_100)]);
    let heir = said_by(&first, CONTENDER);
    assert!(heir.starts_with("20100\nchild ") && heir.ends_with("\nalive\ndead\n"), "{heir}");
    let again = run(&case);
    assert_eq!(output(&first), output(&again), "children are numbered alike as well");
}

/// Roles that run at once are numbered as in the last run, down to their children's children.
#[test]
fn children_of_roles_that_start_together_are_numbered_alike() {
    let look = "for i in 1 2 3; do (exec sh -c 'echo $$ $(exec sh -c \"echo \\$\\$\")'); sleep 1; done; \
                (sleep 1; exec sh -c 'echo $$') & (sleep 1; exec sh -c 'echo $$') & wait";
    let mut case = pair(Pids::Shared, look, look);
    case.plan.cast[1].starts = Moment::START;
    let first = run(&case);
    no_trouble(&first);
    assert_eq!(output(&first).lines().count(), 10, "{}", output(&first));
    for repeat in 1..repeats(10) {
        let again = run(&case);
        let pairs = first.events.iter().zip(&again.events);
        let differs = pairs.into_iter().find(|(one, other)| one != other);
        assert_eq!(differs, None, "repeat {repeat}");
        assert_eq!(first.events.len(), again.events.len());
    }
}

/// The same number twice: a lock that compares pids takes another's record for its own.
#[test]
fn roles_in_namespaces_of_their_own_have_equal_pids() {
    let look = "echo $$ $PPID $(cd /proc; echo [0-9]*)";
    let case = pair(
        Pids::Separate,
        &format!("echo $$ > lock; {look}; hostname; say entered; sleep 60; true"),
        &format!("{look}; hostname; {TRUST}; sleep 100; {TRUST}"),
    );
    let history = run(&case);
    no_trouble(&history);
    assert_eq!(pids(&history), [(HOLDER, 12), (CONTENDER, 12)]);
    let (holder, heir) = (said_by(&history, HOLDER), said_by(&history, CONTENDER));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("/proc is mounted");
    let host = host.trim_end();
    // Itself, the init of its namespace, and the subshell that lists them.
    assert_eq!(holder, format!("12 0 1 12 13\n{host}\n"));
    assert_eq!(heir, format!("12 0 1 12 13\n{host}\nalive\nmine\nalive\nmine\n"));
}

/// The pid in the record is nobody's where the contender looks, though its owner lives.
#[test]
fn roles_in_foreign_namespaces_take_each_other_for_dead() {
    let case = pair(
        Pids::Foreign,
        "echo $$ > lock; say entered; sleep 60; true",
        &format!("echo $$; {TRUST}; (exec sh -c 'echo $$')"),
    );
    let history = run(&case);
    no_trouble(&history);
    assert_eq!(pids(&history), [(HOLDER, 12), (CONTENDER, 112)]);
    assert_eq!(said_by(&history, CONTENDER), "112\ndead\n114\n", "113 was cat");
}

/// As in two containers: both are pid 1.
#[test]
fn roles_can_be_pid_1_twice() {
    let case = pair(
        Pids::PidOne,
        "echo $$ $PPID > lock; sleep 1 & say entered; sleep 60; cat lock",
        "echo $$ $PPID $(cd /proc; echo [0-9]*); sleep 100; kill -9 $$; echo immune",
    );
    let history = run(&case);
    no_trouble(&history);
    assert_eq!(pids(&history), [(HOLDER, 1), (CONTENDER, 1)]);
    assert_eq!(said_by(&history, HOLDER), "1 0\n");
    assert_eq!(said_by(&history, CONTENDER), "1 0 1 2\nimmune\n");
}

/// fork, vfork, exec from any thread, stops and orphans work in a namespace below ours.
#[test]
fn processes_of_a_separate_world_come_and_go_as_usual() {
    let Some((_folder, program)) = compiled("execs.c", &[]) else { return };
    for pids in [Pids::Separate, Pids::PidOne] {
        let mut case = trial(&[&program]);
        case.plan.world.pids = pids;
        let history = run(&case);
        no_trouble(&history);
        let expected = "fork 3\nvfork 4\nspawn 0\nstopped 1\ncontinued 1\nkilled 1\norphan 1\nsecond program\n";
        assert_eq!(output(&history), expected, "{pids:?}");
        assert_eq!(exit(&history, HOLDER), (Some(7), None), "{pids:?}");
    }
}

/// A timer's signal goes to the thread that the program named by the number that it knows.
#[test]
fn timers_reach_threads_of_a_separate_world() {
    let Some((_folder, program)) = compiled("timer-thread.c", &[]) else { return };
    for pids in [Pids::Shared, Pids::Separate] {
        let mut case = trial(&[&program]);
        case.plan.world.pids = pids;
        expect_lengths(&run(&case), 2, &[("named-thread", 3000, 1, "-")]);
    }
}

/// A dead owner's number means another process by the time that a contender looks.
#[test]
fn a_dead_roles_pid_is_given_to_an_unrelated_process() {
    let mut case = pair(
        Pids::Reused,
        "echo $$ > lock; say entered; sleep 5 & sleep 60; true",
        &format!(
            "{TRUST}; sleep 30; {TRUST}; cat /proc/$owner/comm; sed -n 's/^PPid:.//p;s/^Uid:.//p' \
             /proc/$owner/status; kill $owner; sleep 1; {TRUST}"
        ),
    );
    let kill = Deed::Kill(Who::One(HOLDER), Reach::Tree);
    case.plan.events = vec![event(1, later(at(HOLDER, Sign::Entered), 10_000), kill)];
    let history = run(&case);
    no_trouble(&history);
    assert_eq!(pids(&history), [(HOLDER, 20_000), (CONTENDER, 20_100)]);
    let heir = said_by(&history, CONTENDER);
    let user = if rustix::process::geteuid().is_root() { "65534" } else { "" };
    let lines: Vec<&str> = heir.lines().collect();
    let (before, after) = (lines[0], lines[1]);
    assert_eq!((before, after), ("alive", "alive"), "{heir}");
    assert_eq!(lines[2], "unrelated", "{heir}");
    assert!(lines[4].starts_with(user), "it can be signalled as the owner could: {heir}");
    assert_eq!(lines[5], "dead", "{heir}");
}

/// Where what a role left behind keeps its number, the run does not claim that it was reused.
#[test]
fn a_pid_that_cannot_be_reused_is_told() {
    let mut case = script("sleep 1000000 & say entered; sleep 1; kill -9 $$");
    case.plan.world.pids = Pids::Reused;
    let history = run(&case);
    let told = history.events.iter().any(
        |event| matches!(&event.what, What::Trouble { why } if why.contains("20000 of holder was not reused")),
    );
    assert!(told, "{history:#?}");
}

#[test]
fn roles_can_have_host_names_of_their_own() {
    let mut case = pair(Pids::Separate, "hostname; say entered; sleep 1", "hostname");
    case.plan.world.separate_hostname = true;
    let history = run(&case);
    no_trouble(&history);
    let names = (said_by(&history, HOLDER), said_by(&history, CONTENDER));
    assert_eq!(names, ("holder\n".to_owned(), "contender-1\n".to_owned()));
}

/// A user namespace is enough for all of it.
#[test]
fn an_ordinary_user_has_the_same_worlds() {
    let tests = ["pids::roles", "pids::a_dead", "pids::a_pid"];
    let Some(text) = as_ordinary_user(&tests) else { return };
    assert!(text.contains("7 passed"), "{text}");
}
