//! The promises of an engine (`deadbeat::engine`), each as cases that any engine can be held to.
//!
//! A case is a plan made by hand whose roles are shell scripts, so that it says exactly what each
//! process does; it is judged by the history and by what is left on the machine, not by checks.
//! That a case can fail is shown by the engines of `saboteur`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use deadbeat::engine::{Engine, Stage, Stop};
use deadbeat::fault::{Effect, HangEnd, Target, Times};
use deadbeat::handmade::{self, CONTENDER, HOLDER, at, event, fault, later, shell};
use deadbeat::history::{History, TOO_SLOW, What};
use deadbeat::moment::{Anchor, Moment, Sign};
use deadbeat::op::{Errno, OpKind, Outcome};
use deadbeat::plan::{Deed, Reach, Space, Trial};
use deadbeat::role::{Role, Who};
use deadbeat::time::Nanos;
use deadbeat::witness::Said;

use crate::abilities;

const ENOSPC: Errno = Errno(28);
const EIO: Errno = Errno(5);
/// How often a case is repeated that a race could let pass.
const RACES: u32 = 10;

/// How often a run is tried for which the machine was too slow: then it shows nothing.
const TRIES: u32 = 6;

/// What a case came to: nothing, or in which way the promise is broken.
pub(crate) type Kept = Result<(), String>;

/// One way to see whether an engine keeps a promise.
type Case = fn(&Bench<'_>) -> Kept;

/// An engine on trial.
pub(crate) struct Bench<'a> {
    /// The engine.
    pub(crate) engine: &'a dyn Engine,
    /// Which worker it is: workers are pinned to different cpus.
    pub(crate) worker: usize,
}

impl Bench<'_> {
    /// Carries the trial out.
    pub(crate) fn run(&self, trial: &Trial) -> Result<History, String> {
        self.run_in(trial, None)
    }

    /// The same, with the run's folder below `scratch`.
    pub(crate) fn run_in(&self, trial: &Trial, scratch: Option<&Path>) -> Result<History, String> {
        let scratch = scratch.map(Path::to_path_buf);
        let stage = Stage { subject: PathBuf::from("/"), scratch, worker: self.worker };
        let mut history = History::default();
        for _ in 0..TRIES {
            let run = self.engine.run(trial, &stage, &Stop::default());
            history = run.map_err(|error| format!("the engine failed: {error}"))?;
            let is_slow =
                |what: &What| matches!(what, What::Trouble { why } if why.starts_with(TOO_SLOW));
            if !history.events.iter().any(|event| is_slow(&event.what)) {
                break;
            }
        }
        Ok(history)
    }

    /// Carries the trial out, and fails if anything about the run was wrong.
    fn quietly(&self, trial: &Trial) -> Result<History, String> {
        let history = self.run(trial)?;
        let trouble =
            history.events.iter().find(|event| matches!(event.what, What::Trouble { .. }));
        match trouble {
            None => Ok(history),
            Some(trouble) => Err(format!("{:?}", trouble.what)),
        }
    }
}

/// Holds an engine to each of its promises, by their numbers in the contract.
pub(crate) fn promises(bench: &Bench<'_>) -> Vec<(u32, Kept)> {
    let cases: [(u32, &[Case]); 8] = [
        (1, &[effects_are_in_order, an_event_comes_before_its_process_goes_on]),
        (
            2,
            &[
                faults_are_counted_by_role_and_file,
                each_effect_is_what_it_says,
                hangs_hold_nobody_else,
            ],
        ),
        (3, &[consequences_come_first]),
        (4, &[the_witness_is_out_of_reach]),
        (5, &[a_death_comes_before_its_consequences]),
        (6, &[bounds_and_leftovers_are_named]),
        (7, &[nothing_is_left]),
        (8, &[abilities::are_true]),
    ];
    let hold = |cases: &[Case]| cases.iter().try_for_each(|case| case(bench));
    cases.into_iter().map(|(number, cases)| (number, hold(cases))).collect()
}

/// An error with these words, unless it is so.
pub(crate) fn ensure(is_so: bool, why: impl FnOnce() -> String) -> Kept {
    if is_so { Ok(()) } else { Err(why()) }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Kept {
    ensure(found == wanted, || format!("{what}: {found:?}, not {wanted:?}"))
}

/// A trial whose holder runs this script from the start.
pub(crate) fn trial(holder: &str) -> Trial {
    let mut trial = handmade::trial("contract/case");
    trial.plan.cast = vec![shell(HOLDER, holder, Moment::START)];
    trial
}

/// What a role said, in order: the word, or the text after `failed`.
pub(crate) fn said(history: &History, who: Role) -> Vec<String> {
    let words = history.events.iter().filter_map(|event| match &event.what {
        What::Witness { role, said: Said::Failed { text } } if *role == who => Some(text.clone()),
        What::Witness { role, said } if *role == who => Some(said.word().to_owned()),
        _ => None,
    });
    words.collect()
}

fn saying(history: &History, who: Role, words: &[&str]) -> Kept {
    let wanted: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    equal(&format!("what {who} said"), &said(history, who), &wanted)
}

/// Where the first such event is.
fn seq_of(history: &History, what: &str, wanted: impl Fn(&What) -> bool) -> Result<u64, String> {
    let found = history.events.iter().find(|event| wanted(&event.what)).map(|event| event.seq);
    found.ok_or_else(|| format!("the history lacks this: {what}"))
}

/// Fails unless these are there, and in this order.
fn in_order(events: &[(&str, Result<u64, String>)]) -> Kept {
    let mut last = ("the start", 0);
    for (name, seq) in events {
        let seq = seq.clone()?;
        ensure(last.1 < seq, || format!("{name} ({seq}) comes before {} ({})", last.0, last.1))?;
        last = (name, seq);
    }
    Ok(())
}

fn has_said(history: &History, who: Role, word: &str) -> Result<u64, String> {
    let what = format!("{who} says {word}");
    seq_of(history, &what, |what| match what {
        What::Witness { role, said: Said::Failed { text } } => *role == who && text == word,
        What::Witness { role, said } => *role == who && said.word() == word,
        _ => false,
    })
}

fn has_done(history: &History, who: Role, kind: OpKind, path: &str) -> Result<u64, String> {
    let what = format!("{who} does {} on {path}", kind.as_str());
    seq_of(history, &what, |what| {
        matches!(what, What::Op { op, outcome, .. }
            if op.kind == kind && op.role == who && op.path() == path && outcome.told.is_ok())
    })
}

/// Promise 1: events are numbered without gaps, times never go back, the end comes last, and what
/// another process does after an operation's effect comes after that operation.
fn effects_are_in_order(bench: &Bench<'_>) -> Kept {
    let holder = "mkdir resource.lock; say entered; say left; rmdir resource.lock; say released";
    let mut case = trial(holder);
    let heir = "until mkdir resource.lock 2>/dev/null; do sleep 0.01; done; say entered; say left";
    case.plan.cast.push(shell(CONTENDER, heir, at(HOLDER, Sign::Entered)));
    let history = bench.quietly(&case)?;
    let mut numbered = history.events.iter().zip(1..);
    ensure(numbered.all(|(event, seq)| event.seq == seq), || "a number is missing".to_owned())?;
    ensure(history.events.is_sorted_by_key(|event| event.at), || "time goes back".to_owned())?;
    let is_ended = matches!(history.events.last().map(|event| &event.what), Some(What::End));
    ensure(is_ended, || "the end is not the last event".to_owned())?;
    in_order(&[
        ("the holder's entering", has_said(&history, HOLDER, "entered")),
        ("the removal", has_done(&history, HOLDER, OpKind::Rmdir, "resource.lock")),
        ("the heir's mkdir", has_done(&history, CONTENDER, OpKind::Mkdir, "resource.lock")),
        ("the heir's entering", has_said(&history, CONTENDER, "entered")),
    ])
}

/// Promise 1: an operation is written down before its process does the next thing.
fn an_event_comes_before_its_process_goes_on(bench: &Bench<'_>) -> Kept {
    let history = bench.quietly(&trial("mkdir a; say failed 1; rmdir a; say failed 2"))?;
    in_order(&[
        ("mkdir", has_done(&history, HOLDER, OpKind::Mkdir, "a")),
        ("what is said after mkdir", has_said(&history, HOLDER, "1")),
        ("rmdir", has_done(&history, HOLDER, OpKind::Rmdir, "a")),
        ("what is said after rmdir", has_said(&history, HOLDER, "2")),
    ])
}

/// Promise 2: counted per role and file, whatever process and spelling; no other role and no other
/// file is hit, and the history tells what the process was told.
fn faults_are_counted_by_role_and_file(bench: &Bench<'_>) -> Kept {
    let script = r#"
        : > a; : > b; ln -s a link; say entered
        for n in 1 2 3 4; do
            case $n in 1) f=a ;; 2) f="$PWD/a" ;; 3) f=../dir/a ;; 4) f=link ;; esac
            if (touch "$f") 2>/dev/null; then say failed "$n ok"; else say failed "$n error"; fi
            touch b || say failed "b error"
        done"#;
    let mut case = trial(script);
    let other = "for n in 1 2 3 4; do touch a || say failed error; done; say left";
    case.plan.cast.push(shell(CONTENDER, other, at(HOLDER, Sign::Entered)));
    let effect = Effect::Error { errno: ENOSPC, apply: false };
    let who = Who::One(HOLDER);
    case.plan.faults = vec![fault(who, "a", &[OpKind::Utimes], effect, Times::Range(2, 3))];
    let history = bench.quietly(&case)?;
    saying(&history, HOLDER, &["entered", "1 ok", "2 error", "3 error", "4 ok"])?;
    saying(&history, CONTENDER, &["left"])?;
    let hits = hits(&history);
    let is_told =
        |(path, outcome): &(String, Outcome)| path == "a" && *outcome == refused(ENOSPC, outcome);
    ensure(hits.len() == 2 && hits.iter().all(is_told), || format!("hits: {hits:?}"))
}

fn refused(errno: Errno, like: &Outcome) -> Outcome {
    Outcome { told: Err(errno), effect: false, ..*like }
}

/// The operations that fault 1 had a hand in.
fn hits(history: &History) -> Vec<(String, Outcome)> {
    let hits = history.events.iter().filter_map(|event| match &event.what {
        What::Op { op, outcome, fault: Some(1) } => Some((op.path().to_owned(), *outcome)),
        _ => None,
    });
    hits.collect()
}

/// Promise 2: for each kind of fault, what the process was told and what really happened.
fn each_effect_is_what_it_says(bench: &Bench<'_>) -> Kept {
    let kinds: [(Effect, OpKind, &str, &[&str]); 8] = [
        (
            Effect::Error { errno: EIO, apply: false },
            OpKind::Mkdir,
            "mkdir a 2>/dev/null || say failed error; [ -d a ] && say failed there",
            &["error"],
        ),
        (
            Effect::Error { errno: EIO, apply: true },
            OpKind::Mkdir,
            "mkdir a 2>/dev/null || say failed error; [ -d a ] && say failed there",
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
            r#"printf 123456 > a && say failed ok; say failed "$(cat a)""#,
            &["ok", "123"],
        ),
        (
            Effect::Short(2),
            OpKind::Write,
            r#"dd if=/dev/zero of=a bs=6 count=1 2>/dev/null; say failed "$(stat -c %s a)""#,
            &["6"],
        ),
        (Effect::Delay(Nanos::from_ms(150)), OpKind::Mkdir, "mkdir a && say failed ok", &["ok"]),
        (Effect::Pause(Nanos::from_ms(150)), OpKind::Mkdir, "mkdir a && say failed ok", &["ok"]),
        (Effect::Kill, OpKind::Mkdir, "mkdir a; say failed alive", &[]),
    ];
    for (effect, kind, script, words) in kinds {
        let mut case = trial(script);
        let rule = fault(Who::Any, "a", &[kind], effect.clone(), Times::First(1));
        case.plan.faults = vec![rule];
        let told = bench.quietly(&case).and_then(|history| {
            saying(&history, HOLDER, words)?;
            is_in_the_history(&history, &effect)
        });
        told.map_err(|why| format!("{effect:?}: {why}"))?;
    }
    Ok(())
}

/// Whether the history tells of the one hit what it was.
fn is_in_the_history(history: &History, effect: &Effect) -> Kept {
    let fired = seq_of(history, "the fault fires", |what| matches!(what, What::Fired { .. }))?;
    let when = |seq: u64| history.events.iter().find(|e| e.seq == seq).map(|e| e.at);
    let hits = hits(history);
    let is_told = match (effect, hits.as_slice()) {
        (Effect::Error { errno, apply }, [(_, hit)]) => {
            hit.told == Err(*errno) && hit.effect == *apply
        }
        (Effect::Ignore, [(_, hit)]) => hit.told.is_ok() && !hit.effect,
        (Effect::Torn(_), [(_, hit)]) => hit.told == Ok(6),
        (Effect::Short(bytes), [(_, hit)]) => hit.told == Ok(*bytes),
        (Effect::Kill, _) => {
            let killed = |what: &What| matches!(what, What::Killed { planned: true, .. });
            return seq_of(history, "the holder is killed", killed).map(|_| ());
        }
        (Effect::Delay(length) | Effect::Pause(length), [(_, hit)]) => {
            let done = has_done(history, HOLDER, OpKind::Mkdir, "a")?;
            hit.told.is_ok() && when(done) >= when(fired).map(|begun| begun + *length)
        }
        _ => false,
    };
    ensure(is_told, || format!("hits: {hits:?}"))
}

/// Promise 2, a hang: it lasts to its moment, and nobody else waits.
fn hangs_hold_nobody_else(bench: &Bench<'_>) -> Kept {
    let mut case = trial("say entered; mkdir a; say left");
    let hang = Effect::Hang(HangEnd::Until(at(CONTENDER, Sign::Entered)));
    case.plan.faults = vec![fault(Who::One(HOLDER), "a", &[OpKind::Mkdir], hang, Times::All)];
    let script = "mkdir b; say entered; until [ -d a ]; do sleep 0.01; done; say left";
    case.plan.cast.push(shell(CONTENDER, script, at(HOLDER, Sign::Entered)));
    let history = bench.quietly(&case)?;
    let waits = |what: &What| matches!(what, What::Waiting { fault: Some(1), .. });
    in_order(&[
        ("the hang", seq_of(&history, "the hang begins", waits)),
        ("the other's entering", has_said(&history, CONTENDER, "entered")),
        ("the answer", has_done(&history, HOLDER, OpKind::Mkdir, "a")),
        ("the holder's leaving", has_said(&history, HOLDER, "left")),
    ])
}

/// Promise 3: what a moment brings about, an event or the beginning or the end of a fault, is
/// there when the next operation runs.
fn consequences_come_first(bench: &Bench<'_>) -> Kept {
    let script = "mkdir resource.lock; : > resource.lock/beat; say entered
        [ -e resource.lock/beat ] && say failed 'the event came late'
        mkdir early 2>/dev/null && say failed 'the fault began late'
        say left
        mkdir late 2>/dev/null || say failed 'the fault ended late'
        say released";
    let effect = Effect::Error { errno: EIO, apply: false };
    let mut rule = fault(Who::Any, "*", &[OpKind::Mkdir], effect, Times::All);
    rule.from = Moment { anchor: Anchor::Done(1), offset: Nanos::ZERO };
    rule.until = Some(at(HOLDER, Sign::Left));
    let remove = event(1, at(HOLDER, Sign::Entered), Deed::Remove(Target::Heartbeat));
    for _ in 0..RACES {
        let mut case = trial(script);
        case.plan.events = vec![remove.clone()];
        case.plan.faults = vec![rule.clone()];
        saying(&bench.quietly(&case)?, HOLDER, &["entered", "left", "released"])?;
    }
    Ok(())
}

/// Promise 4: nothing reaches the witness: no full disk, closed folder, read-only file system or
/// error of every operation.
fn the_witness_is_out_of_reach(bench: &Bench<'_>) -> Kept {
    let script = "say entered; sleep 0.1; (echo x > a) 2>/dev/null && say failed written; say left; say released";
    let entered = at(HOLDER, Sign::Entered);
    let harms = [
        vec![event(1, entered, Deed::FillBlocks(0)), event(2, entered, Deed::FillInodes(0))],
        vec![event(1, entered, Deed::Chmod(0, Target::LockDir))],
        vec![event(1, entered, Deed::Remount { read_only: true })],
        Vec::new(),
    ];
    for harm in harms {
        let mut case = trial(script);
        if harm.is_empty() {
            let all: Vec<OpKind> =
                OpKind::ALL.iter().copied().filter(|kind| kind.is_nameable()).collect();
            let effect = Effect::Error { errno: EIO, apply: false };
            let mut rule = fault(Who::Any, "", &all, effect, Times::All);
            rule.on = Target::LockDir;
            rule.from = entered;
            case.plan.faults = vec![rule];
        }
        case.plan.world.space = Some(Space { free: Some(16 << 10), inodes: Some(8) });
        case.plan.events = harm;
        saying(&bench.run(&case)?, HOLDER, &["entered", "left", "released"])?;
    }
    Ok(())
}

/// Promise 5: a death is in the history before what another process does because of it.
fn a_death_comes_before_its_consequences(bench: &Bench<'_>) -> Kept {
    let mut case = trial("echo $$ > pid; say entered; exec sleep 30");
    let heir = r#"pid=$(cat pid); while kill -0 "$pid" 2>/dev/null || [ -d "/proc/$pid" ]; do sleep 0.001; done
        say entered; say left"#;
    let entered = at(HOLDER, Sign::Entered);
    case.plan.cast.push(shell(CONTENDER, heir, entered));
    let kill = Deed::Kill(Who::One(HOLDER), Reach::Tree);
    case.plan.events = vec![event(1, later(entered, 200), kill)];
    let history = bench.quietly(&case)?;
    let killed = |what: &What| matches!(what, What::Killed { role: HOLDER, planned: true });
    let dead = |what: &What| matches!(what, What::Exited { role: HOLDER, signal: Some(9), .. });
    in_order(&[
        ("the kill", seq_of(&history, "the holder is killed", killed)),
        ("the death", seq_of(&history, "the holder is dead", dead)),
        ("the heir's entering", has_said(&history, CONTENDER, "entered")),
    ])
}

/// Promise 6: a bound that is hit ends the run and is named; so is a process left behind.
fn bounds_and_leftovers_are_named(bench: &Bench<'_>) -> Kept {
    let mut endless = trial("say entered; sleep 3600");
    endless.plan.bounds.wall = Nanos::from_ms(300);
    let mut busy = trial("while :; do [ -e a ] || :; done");
    busy.plan.bounds.events = 500;
    let mut loud = trial("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done");
    loud.plan.bounds.output = 1000;
    loud.plan.bounds.wall = Nanos::from_ms(500);
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
        let history = bench.run(&case)?;
        let names = |what: &What| matches!(what, What::Trouble { why } if why.contains(named));
        seq_of(&history, &format!("a trouble that names {named:?}"), names)?;
        let is_ended = matches!(history.events.last().map(|event| &event.what), Some(What::End));
        ensure(is_ended, || format!("{named}: the end is not the last event"))?;
    }
    Ok(())
}

/// Promise 7: after a run, also one that ended badly, no process, mount or folder of it is left.
fn nothing_is_left(bench: &Bench<'_>) -> Kept {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let marker = format!("31536{}0{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let script = format!("(setsid sleep {marker} &); sleep {marker} & mkdir a; wait");
    let mut case = trial(&script);
    case.plan.bounds.wall = Nanos::from_ms(300);
    let forever = Effect::Hang(HangEnd::Until(at(CONTENDER, Sign::Dead)));
    case.plan.faults = vec![fault(Who::Any, "a", &[OpKind::Mkdir], forever, Times::All)];
    let scratch = tempfile::Builder::new().prefix("contract-").tempdir();
    let scratch = scratch.map_err(|error| format!("no scratch folder: {error}"))?;
    let before = mounts(scratch.path());
    for place in [None, Some(scratch.path())] {
        bench.run_in(&case, place)?;
        equal("processes left", &processes(&marker), &Vec::new())?;
        equal("mounts left", &mounts(scratch.path()), &before)?;
        let entries = std::fs::read_dir(scratch.path()).map_err(|error| error.to_string())?;
        let left: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        equal("folders left", &left, &Vec::new())?;
    }
    Ok(())
}

/// Processes whose command line has this word in it.
fn processes(word: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let paths = entries.map(|entry| entry.path());
    let named = |path: &PathBuf| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    };
    paths.filter(named).collect()
}

/// Mounts that may be this run's.
fn mounts(scratch: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let scratch = scratch.to_string_lossy();
    let ours = |line: &&str| line.contains("deadbeat") || line.contains(scratch.as_ref());
    table.lines().filter(ours).map(str::to_owned).collect()
}
