//! The promises of an engine (`deadbeat::engine`), each with a case, run on every engine.
//!
//! A case is a plan made by hand whose roles are shell scripts, so that it says exactly what each
//! process does; it is judged by the history alone, not by the checks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deadbeat::engine::fuse::FuseEngine;
use deadbeat::engine::trace::TraceEngine;
use deadbeat::engine::{Engine, Stage, Stop};
use deadbeat::fault::{Effect, HangEnd, Ops, Rule, Target, Times};
use deadbeat::history::{History, What};
use deadbeat::moment::{Anchor, Moment, Sign};
use deadbeat::op::{Errno, OpKind};
use deadbeat::plan::{
    Act, Bounds, Claims, Deed, Exclusion, Expect, ExpectExclusion, LockFiles, Part, Plan, Reach,
    Space, Timing, Trial, World,
};
use deadbeat::role::{Role, Who};
use deadbeat::time::Nanos;
use deadbeat::witness::Said;

const HOLDER: Role = Role::Holder;
const CONTENDER: Role = Role::Contender(1);
const ENOSPC: Errno = Errno(28);
const EIO: Errno = Errno(5);
const EROFS: Errno = Errno(30);

/// Says a word to the witness, in one write.
const SAY: &str = r#"say() { echo "$*" >> "$DEADBEAT_WITNESS"; }; cd "$DEADBEAT_DIR"; "#;

fn at(role: Role, sign: Sign) -> Moment {
    Moment { anchor: Anchor::Role(Who::One(role), sign), offset: Nanos::ZERO }
}

fn later(moment: Moment, ms: u64) -> Moment {
    Moment { offset: Nanos::from_ms(ms), ..moment }
}

/// A trial in which `holder` runs from the start; more is added by the case.
fn trial(holder: &str) -> Trial {
    let unit = Nanos::from_ms(1000);
    Trial {
        scenario: "contract/case".to_owned(),
        subject: "script@default".to_owned(),
        plan: Plan {
            seed: 0,
            timing: Timing {
                stale: Some(unit),
                beat: Some(Nanos::from_ms(300)),
                stale_unit: unit,
                beat_unit: Nanos::from_ms(300),
                tick: Nanos::from_ms(20),
            },
            files: LockFiles {
                name: "resource.lock".to_owned(),
                lock: vec!["resource.lock".to_owned()],
                heartbeat: vec!["resource.lock/beat".to_owned()],
            },
            cast: vec![part(HOLDER, holder, Moment::START)],
            world: World::default(),
            faults: Vec::new(),
            events: Vec::new(),
            bounds: Bounds {
                wall: Nanos::from_ms(20_000),
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

fn part(role: Role, script: &str, starts: Moment) -> Part {
    Part {
        role,
        argv: vec!["/bin/sh".to_owned(), "-ec".to_owned(), format!("{SAY}{script}")],
        env: BTreeMap::new(),
        starts,
        hold: Nanos::from_ms(100),
        patience: Nanos::from_ms(1000),
        acquires: 1,
        stall: None,
    }
}

fn fault(on: Target, kinds: &[OpKind], effect: Effect, times: Times) -> Rule {
    Rule {
        number: 1,
        who: Who::One(HOLDER),
        on,
        ops: Ops { refresh: false, kinds: kinds.to_vec() },
        effect,
        from: Moment::START,
        until: None,
        times,
        synthetic: true,
    }
}

fn event(number: u32, at: Moment, what: Deed) -> Act {
    Act { number, at, what, text: "case".to_owned() }
}

fn run(engine: &dyn Engine, trial: &Trial) -> History {
    let stage = Stage { subject: PathBuf::from("/"), scratch: None, worker: 0 };
    engine.run(trial, &stage, &Stop::default()).expect("the engine carries the case out")
}

/// The words that a role said, in order.
fn said(history: &History, who: Role) -> Vec<String> {
    let words = history.events.iter().filter_map(|event| match &event.what {
        What::Witness { role, said: Said::Failed { text } } if *role == who => {
            Some(format!("failed {text}"))
        }
        What::Witness { role, said } if *role == who => Some(said.word().to_owned()),
        _ => None,
    });
    words.collect()
}

fn seq_of(history: &History, wanted: impl Fn(&What) -> bool) -> Option<u64> {
    history.events.iter().find(|event| wanted(&event.what)).map(|event| event.seq)
}

fn no_trouble(history: &History) {
    let trouble: Vec<_> =
        history.events.iter().filter(|e| matches!(e.what, What::Trouble { .. })).collect();
    assert!(trouble.is_empty(), "{trouble:?}");
}

/// Every engine that works here; prints why one does not.
fn engines() -> Vec<Box<dyn Engine>> {
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    match TraceEngine::probe_with(deadbeat_tests::program().to_path_buf()) {
        Ok(trace) => engines.push(Box::new(trace)),
        Err(why) => println!("skipped: {why}"),
    }
    match FuseEngine::probe_with(deadbeat_tests::program().to_path_buf()) {
        Ok(fuse) => engines.push(Box::new(fuse)),
        Err(why) => {
            let required = std::env::var("DEADBEAT_REQUIRE").unwrap_or_default();
            assert!(!required.contains("fuse"), "DEADBEAT_REQUIRE=fuse, but: {why}");
            println!("skipped: {why}");
        }
    }
    engines
}

/// Promise 1: events are numbered without gaps, times never go back, and what a process does
/// after an operation returned comes after that operation.
#[test]
fn events_are_in_the_order_of_effects() {
    for engine in engines() {
        let mut case =
            trial("mkdir resource.lock; say entered; say left; rmdir resource.lock; say released");
        case.plan.cast.push(part(
            CONTENDER,
            "until mkdir resource.lock 2>/dev/null; do sleep 0.01; done; say entered; say left",
            at(HOLDER, Sign::Entered),
        ));
        let history = run(engine.as_ref(), &case);
        no_trouble(&history);
        for (index, event) in history.events.iter().enumerate() {
            assert_eq!(event.seq, index as u64 + 1);
        }
        assert!(history.events.is_sorted_by_key(|event| event.at));
        let removed = seq_of(&history, |what| {
            matches!(what, What::Op { op, outcome, .. }
                if op.kind == OpKind::Rmdir && op.role == HOLDER && outcome.told.is_ok())
        });
        let entered = seq_of(&history, |what| {
            matches!(what, What::Witness { role: CONTENDER, said: Said::Entered { .. } })
        });
        assert!(removed.expect("the lock was removed") < entered.expect("the heir entered"));
        assert!(matches!(history.events.last().map(|e| &e.what), Some(What::End)));
    }
}

/// Promise 2: counted per role and file, whatever process and spelling; the effect is exact.
#[test]
fn a_fault_hits_exactly_what_it_means() {
    for engine in engines() {
        let script = r#"
            : > a; : > b; ln -s a link
            for n in 1 2 3 4; do
                case $n in 1) f=a ;; 2) f="$PWD/a" ;; 3) f=../dir/a ;; 4) f=link ;; esac
                if (touch "$f") 2>/dev/null; then say failed "a $n ok"; else say failed "a $n error"; fi
            done
            touch b && say failed "b ok""#;
        let mut case = trial(script);
        let effect = Effect::Error { errno: ENOSPC, apply: false };
        case.plan.faults = vec![fault(
            Target::Glob("a".to_owned()),
            &[OpKind::Utimes],
            effect,
            Times::Range(2, 3),
        )];
        let history = run(engine.as_ref(), &case);
        no_trouble(&history);
        let expected = ["a 1 ok", "a 2 error", "a 3 error", "a 4 ok", "b ok"];
        let expected: Vec<String> = expected.iter().map(|line| format!("failed {line}")).collect();
        assert_eq!(said(&history, HOLDER), expected, "{}", engine.name());
        let fired = history.events.iter().filter(|e| matches!(e.what, What::Fired { .. })).count();
        assert_eq!(fired, 2);
        let told: Vec<_> = history
            .events
            .iter()
            .filter_map(|event| match &event.what {
                What::Op { op, outcome, fault: Some(1) } => Some((op.path().to_owned(), *outcome)),
                _ => None,
            })
            .collect();
        assert!(told.iter().all(|(_, outcome)| outcome.told == Err(ENOSPC) && !outcome.effect));
    }
}

/// Promise 2, the other kinds: what the process was told, and what really happened.
#[test]
fn each_kind_of_fault_does_what_it_says() {
    let applied = Effect::Error { errno: EIO, apply: true };
    let cases: [(Effect, OpKind, &str, &[&str]); 5] = [
        (
            applied,
            OpKind::Mkdir,
            "if mkdir a; then say failed ok; else say failed error; fi; [ -d a ] && say failed there",
            &["error", "there"],
        ),
        (
            Effect::Ignore,
            OpKind::Unlink,
            ": > a; rm a && say failed ok; [ -e a ] && say failed there",
            &["ok", "there"],
        ),
        (
            Effect::Torn(3),
            OpKind::Write,
            "printf 123456 > a && say failed ok; say failed \"$(cat a)\"",
            &["ok", "123"],
        ),
        (
            Effect::Short(2),
            OpKind::Write,
            "dd if=/dev/zero of=a bs=6 count=1 2>/dev/null; say failed \"$(stat -c %s a)\"",
            &["6"],
        ),
        (Effect::Delay(Nanos::from_ms(150)), OpKind::Mkdir, "mkdir a && say failed ok", &["ok"]),
    ];
    for engine in engines() {
        for (effect, kind, script, expected) in &cases {
            let mut case = trial(&format!("set +e; {script}"));
            let on = Target::Glob("a".to_owned());
            case.plan.faults = vec![fault(on, &[*kind], effect.clone(), Times::First(1))];
            let history = run(engine.as_ref(), &case);
            no_trouble(&history);
            let expected: Vec<String> = expected.iter().map(|w| format!("failed {w}")).collect();
            assert_eq!(said(&history, HOLDER), expected, "{} {effect:?}", engine.name());
            assert!(seq_of(&history, |what| matches!(what, What::Fired { .. })).is_some());
        }
    }
}

/// Promise 2, a hang: it ends at its moment, no other role waits, and the time is real.
#[test]
fn a_hang_ends_at_its_moment_and_holds_nobody_else() {
    for engine in engines() {
        let mut case = trial("say entered; mkdir a; say left");
        let until = HangEnd::Until(at(CONTENDER, Sign::Entered));
        case.plan.faults = vec![fault(
            Target::Glob("a".to_owned()),
            &[OpKind::Mkdir],
            Effect::Hang(until),
            Times::All,
        )];
        let script = "mkdir b; say entered; until [ -d a ]; do sleep 0.01; done; say left";
        case.plan.cast.push(part(CONTENDER, script, at(HOLDER, Sign::Entered)));
        let history = run(engine.as_ref(), &case);
        no_trouble(&history);
        let held = seq_of(&history, |what| matches!(what, What::Waiting { fault: Some(1), .. }));
        let entered = seq_of(&history, |what| {
            matches!(what, What::Witness { role: CONTENDER, said: Said::Entered { .. } })
        });
        let answered = seq_of(&history, |what| matches!(what, What::Op { fault: Some(1), .. }));
        assert!(held.is_some() && held < entered && entered < answered);
        assert_eq!(said(&history, HOLDER), ["entered", "left"]);
    }
}

/// Promise 3: what a moment brings about is there when the next operation runs.
#[test]
fn consequences_of_a_moment_come_before_the_next_operation() {
    for engine in engines() {
        for _ in 0..20 {
            let script = "mkdir resource.lock; : > resource.lock/beat; say entered
                if [ -e resource.lock/beat ]; then say failed there; else say failed gone; fi
                mkdir other && say failed made";
            let mut case = trial(script);
            let entered = at(HOLDER, Sign::Entered);
            case.plan.events = vec![event(1, entered, Deed::Remove(Target::Heartbeat))];
            let mut rule = fault(
                Target::Glob("other".to_owned()),
                &[OpKind::Mkdir],
                Effect::Error { errno: EIO, apply: false },
                Times::All,
            );
            rule.from = Moment { anchor: Anchor::Done(1), offset: Nanos::ZERO };
            case.plan.faults = vec![rule];
            let history = run(engine.as_ref(), &case);
            assert_eq!(said(&history, HOLDER), ["entered", "failed gone"], "{}", engine.name());
        }
    }
}

/// Promise 4: nothing reaches the witness, and it is not in the lock's folder.
#[test]
fn the_witness_is_out_of_reach() {
    for engine in engines() {
        let script =
            "say entered; (echo x > a) 2>/dev/null && say failed written; say left; say released";
        let mut case = trial(script);
        case.plan.world.space = Some(Space { free: Some(16 << 10), inodes: Some(8) });
        let entered = at(HOLDER, Sign::Entered);
        case.plan.events = vec![
            event(1, entered, Deed::FillBlocks(0)),
            event(2, entered, Deed::FillInodes(0)),
            event(3, entered, Deed::Chmod(0, Target::LockDir)),
            event(4, entered, Deed::Remount { read_only: true }),
        ];
        let all: Vec<OpKind> = OpKind::ALL.iter().copied().filter(|k| k.is_nameable()).collect();
        let effect = Effect::Error { errno: EIO, apply: false };
        let mut rule = fault(Target::LockDir, &all, effect, Times::All);
        rule.from = entered;
        case.plan.faults = vec![rule];
        let history = run(engine.as_ref(), &case);
        assert_eq!(said(&history, HOLDER), ["entered", "left", "released"]);
    }
}

/// Promise 5: a death is recorded before what another process does because of it.
#[test]
fn a_death_comes_before_its_consequences() {
    for engine in engines() {
        let script = r#"echo $$ > pid; say entered; exec sleep 30"#;
        let mut case = trial(script);
        let heir = r#"pid=$(cat pid); while kill -0 "$pid" 2>/dev/null || [ -d "/proc/$pid" ]; do :; done
            say entered; say left"#;
        case.plan.cast.push(part(CONTENDER, heir, at(HOLDER, Sign::Entered)));
        let entered = later(at(HOLDER, Sign::Entered), 200);
        case.plan.events = vec![event(1, entered, Deed::Kill(Who::One(HOLDER), Reach::Tree))];
        let history = run(engine.as_ref(), &case);
        no_trouble(&history);
        let killed =
            seq_of(&history, |what| matches!(what, What::Killed { role: HOLDER, planned: true }));
        let dead = seq_of(&history, |what| {
            matches!(what, What::Exited { role: HOLDER, signal: Some(9), .. })
        });
        let entered = seq_of(&history, |what| {
            matches!(what, What::Witness { role: CONTENDER, said: Said::Entered { .. } })
        });
        assert!(killed.is_some() && killed < dead && dead < entered);
    }
}

/// Promise 6: bounds end a run and are named; what is left behind is named.
#[test]
fn bounds_and_leftovers_are_named() {
    for engine in engines() {
        let mut endless = trial("say entered; sleep 3600");
        endless.plan.bounds.wall = Nanos::from_ms(300);
        let mut busy = trial("while :; do [ -e a ] || :; done");
        busy.plan.bounds.events = 500;
        let mut loud =
            trial("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done");
        loud.plan.bounds.output = 1000;
        loud.plan.bounds.wall = Nanos::from_ms(1500);
        let mut forks = trial("b() { b | b & }; b; sleep 30");
        forks.plan.bounds.processes = 60;
        let left = trial("say entered; (sleep 3600 &); say left");
        let cases = [
            (endless, "real time"),
            (busy, "events"),
            (loud, "output"),
            (forks, "processes"),
            (left, "left a process behind: sleep"),
        ];
        for (case, named) in cases {
            let history = run(engine.as_ref(), &case);
            let found = seq_of(
                &history,
                |what| matches!(what, What::Trouble { why } if why.contains(named)),
            );
            assert!(found.is_some(), "{} {named}: {:?}", engine.name(), history.events.last());
            assert!(matches!(history.events.last().map(|e| &e.what), Some(What::End)));
        }
    }
}

/// Promise 7: after a run, also one that ended badly, nothing of it is left.
#[test]
fn nothing_is_left_behind() {
    for engine in engines() {
        let marker = format!("31536{}", std::process::id());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        let script = format!("(setsid sleep {marker} &); sleep {marker} & mkdir a; wait");
        let mut case = trial(&script);
        case.plan.bounds.wall = Nanos::from_ms(300);
        let forever = Effect::Hang(HangEnd::Until(at(CONTENDER, Sign::Dead)));
        let on = Target::Glob("a".to_owned());
        case.plan.faults = vec![fault(on, &[OpKind::Mkdir], forever, Times::All)];
        run(engine.as_ref(), &case);
        let left: Vec<PathBuf> = std::fs::read_dir("/proc")
            .expect("/proc is mounted")
            .flatten()
            .map(|entry| entry.path().join("cmdline"))
            .filter(|path| {
                std::fs::read(path).is_ok_and(|line| {
                    String::from_utf8_lossy(&line).split('\0').any(|word| word == marker)
                })
            })
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let after = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        assert_eq!(mounts, after);
    }
}

/// Promise 8: what cannot be done is refused before the run.
#[test]
fn what_cannot_be_done_is_refused() {
    let Ok(fuse) = FuseEngine::probe_with(deadbeat_tests::program().to_path_buf()) else { return };
    let mut case = trial("true");
    assert_eq!(fuse.refuses(&case, None), None);
    case.plan.seed = 7;
    assert!(fuse.refuses(&case, None).is_some_and(|why| why.contains("seed")));
    case.plan.seed = 0;
    case.plan.world.clock.insert(CONTENDER, 1);
    assert!(fuse.refuses(&case, None).is_some_and(|why| why.contains("clock")));
    case.plan.world.clock.clear();
    case.plan.events = vec![event(1, Moment::START, Deed::FillBlocks(0))];
    assert_eq!(fuse.refuses(&case, None), None);
    let elsewhere = std::path::Path::new("/");
    assert!(fuse.refuses(&case, Some(elsewhere)).is_some_and(|why| why.contains("--scratch")));
}

/// Events on files and roles do what they say, and heal takes them back.
#[test]
fn events_change_the_world_and_heal_takes_it_back() {
    for engine in engines() {
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
        let history = run(engine.as_ref(), &case);
        no_trouble(&history);
        let expected = ["entered", "failed read-only", "degraded", "failed writable", "left"];
        assert_eq!(said(&history, HOLDER), expected);
        let refused = seq_of(
            &history,
            |what| matches!(what, What::Op { outcome, .. } if outcome.told == Err(EROFS)),
        );
        assert!(refused.is_some(), "the refusal is in the history");
    }
}

/// An event that matches nothing did not happen, and the history says so.
#[test]
fn an_event_that_matches_nothing_is_not_done() {
    for engine in engines() {
        let mut case = trial("say entered; say left");
        let entered = at(HOLDER, Sign::Entered);
        case.plan.events = vec![
            event(1, entered, Deed::Remove(Target::Lock)),
            event(2, later(entered, 60_000), Deed::Remove(Target::Lock)),
        ];
        let history = run(engine.as_ref(), &case);
        for number in [1, 2] {
            let undone = seq_of(
                &history,
                |what| matches!(what, What::NotDone { event, .. } if *event == number),
            );
            assert!(undone.is_some(), "event {number}");
        }
    }
}
