//! Engines that break one promise each: a real engine whose plan, history or surroundings are
//! tampered with. The suite has to tell which promise it is.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use deadbeat::engine::{Engine, EngineError, Stage, Stop};
use deadbeat::fault::{Effect, Rule, Target, Times};
use deadbeat::history::{History, What};
use deadbeat::moment::Moment;
use deadbeat::op::{Errno, OpKind};
use deadbeat::plan::{Pids, Trial, World};
use deadbeat::role::{Role, Who};
use deadbeat::time::Nanos;

/// What is tampered with.
#[derive(Clone, Copy)]
pub(crate) enum Sabotage {
    /// The plan, before it is carried out.
    Plan(fn(&mut Trial)),
    /// The history, afterwards.
    History(fn(&mut Vec<What>)),
    /// The machine, afterwards.
    Machine(fn(&Saboteur<'_>, &Trial, &Stage)),
    /// The refusals; and what should have been refused is left out of the plan.
    Refusals(fn(&mut Trial)),
}

/// An engine that breaks one promise.
pub(crate) struct Saboteur<'a> {
    engine: &'a dyn Engine,
    sabotage: Sabotage,
    left: Mutex<Vec<Child>>,
}

impl<'a> Saboteur<'a> {
    /// This engine, tampered with.
    pub(crate) fn new(engine: &'a dyn Engine, sabotage: Sabotage) -> Saboteur<'a> {
        Saboteur { engine, sabotage, left: Mutex::new(Vec::new()) }
    }
}

impl Drop for Saboteur<'_> {
    fn drop(&mut self) {
        for child in self.left.get_mut().expect("nobody panics with it").iter_mut() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Engine for Saboteur<'_> {
    fn name(&self) -> &'static str {
        "saboteur"
    }

    fn refuses(&self, trial: &Trial, scratch: Option<&Path>) -> Option<String> {
        match self.sabotage {
            Sabotage::Refusals(_) => None,
            _ => self.engine.refuses(trial, scratch),
        }
    }

    fn run(&self, trial: &Trial, stage: &Stage, stop: &Stop) -> Result<History, EngineError> {
        let mut trial = trial.clone();
        if let Sabotage::Plan(tamper) | Sabotage::Refusals(tamper) = self.sabotage {
            tamper(&mut trial);
        }
        let mut history = self.engine.run(&trial, stage, stop)?;
        match self.sabotage {
            Sabotage::History(tamper) => {
                let mut events: Vec<What> =
                    history.events.iter().map(|event| event.what.clone()).collect();
                tamper(&mut events);
                let times: Vec<Nanos> = history.events.iter().map(|event| event.at).collect();
                history = History::default();
                for (what, at) in events.into_iter().zip(times) {
                    history.push(at, what);
                }
            }
            Sabotage::Machine(tamper) => tamper(self, &trial, stage),
            Sabotage::Plan(_) | Sabotage::Refusals(_) => {}
        }
        Ok(history)
    }
}

/// Every saboteur: which promise it breaks, how, and the tampering.
pub(crate) const SABOTEURS: &[(u32, &str, Sabotage)] = &[
    (1, "an effect is written down after what came of it", Sabotage::History(reorder)),
    (
        1,
        "a process goes on before its operation is written down",
        Sabotage::History(|events| lag(events)),
    ),
    (2, "a fault comes one operation late", Sabotage::Plan(|t| rules(t, one_late))),
    (2, "operations are counted for each thread", Sabotage::Plan(|t| rules(t, count_per_thread))),
    (2, "a fault hits every role", Sabotage::Plan(|t| rules(t, |rule| rule.who = Who::Any))),
    (2, "a fault hits every file", Sabotage::Plan(|t| rules(t, every_file))),
    (2, "an error comes after the effect", Sabotage::Plan(|t| rules(t, apply))),
    (2, "a torn write is a short one", Sabotage::Plan(|t| rules(t, shorten))),
    (2, "nothing hangs", Sabotage::Plan(|t| rules(t, do_not_hang))),
    (2, "a delay is too short", Sabotage::Plan(|t| rules(t, hurry))),
    (2, "another errno is written down", Sabotage::History(|events| misquote(events))),
    (3, "a fault begins late", Sabotage::Plan(|t| rules(t, |rule| postpone(&mut rule.from)))),
    (
        3,
        "a fault ends late",
        Sabotage::Plan(|t| rules(t, |r| r.until.iter_mut().for_each(postpone))),
    ),
    (
        3,
        "an event comes late",
        Sabotage::Plan(|t| t.plan.events.iter_mut().for_each(|e| postpone(&mut e.at))),
    ),
    (4, "the witness is in the lock's folder", Sabotage::Plan(move_witness)),
    (5, "a death is written down late", Sabotage::History(bury_late)),
    (
        5,
        "a death is not written down",
        Sabotage::History(|events| {
            events.retain(|what| !matches!(what, What::Exited { signal: Some(9), .. }));
        }),
    ),
    (6, "a bound of time is kept quiet", Sabotage::History(|events| hush(events, "real time"))),
    (6, "a bound of events is kept quiet", Sabotage::History(|events| hush(events, "events"))),
    (6, "a bound of output is kept quiet", Sabotage::History(|events| hush(events, "output"))),
    (
        6,
        "a bound of processes is kept quiet",
        Sabotage::History(|events| hush(events, "processes")),
    ),
    (6, "a leftover is kept quiet", Sabotage::History(|events| hush(events, "left a process"))),
    (7, "a process is left", Sabotage::Machine(leave_process)),
    (7, "a folder is left", Sabotage::Machine(leave_folder)),
    (8, "clocks are accepted and ignored", Sabotage::Refusals(|t| t.plan.world.clock.clear())),
    (
        8,
        "PID worlds are accepted and ignored",
        Sabotage::Refusals(|t| t.plan.world.pids = Pids::Shared),
    ),
    (
        8,
        "the whole world is accepted and ignored",
        Sabotage::Refusals(|t| t.plan.world = World::default()),
    ),
];

/// Moves what is at `from` behind what is at `to`.
fn move_behind(events: &mut Vec<What>, from: usize, to: usize) {
    let what = events.remove(from);
    events.insert(to, what);
}

fn is_speech_of(what: &What, is_wanted: impl Fn(Role) -> bool) -> bool {
    matches!(what, What::Witness { role, .. } if is_wanted(*role))
}

fn reorder(events: &mut Vec<What>) {
    let removal = |what: &What| {
        matches!(what, What::Op { op, outcome, .. }
            if op.kind == OpKind::Rmdir && outcome.told.is_ok())
    };
    let Some(from) = events.iter().position(removal) else { return };
    let What::Op { op, .. } = &events[from] else { return };
    let author = op.role;
    let others = events.iter().skip(from).position(|what| is_speech_of(what, |r| r != author));
    if let Some(distance) = others {
        move_behind(events, from, from + distance);
    }
}

fn lag(events: &mut [What]) {
    for index in (1..events.len()).rev() {
        let What::Op { op, .. } = &events[index - 1] else { continue };
        if is_speech_of(&events[index], |role| role == op.role) {
            events.swap(index - 1, index);
        }
    }
}

fn rules(trial: &mut Trial, tamper: impl Fn(&mut Rule)) {
    trial.plan.faults.iter_mut().for_each(tamper);
}

fn one_late(rule: &mut Rule) {
    if let Times::Range(first, last) = rule.times {
        rule.times = Times::Range(first + 1, last + 1);
    }
}

/// Each `touch` of the case is a process of its own, so each is the first of its thread: none is
/// the second or third.
fn count_per_thread(rule: &mut Rule) {
    if let Times::Range(2.., _) = rule.times {
        rule.times = Times::Range(u64::MAX, u64::MAX);
    }
}

fn every_file(rule: &mut Rule) {
    if rule.ops.kinds == [OpKind::Utimes] {
        rule.on = Target::LockDir;
    }
}

fn apply(rule: &mut Rule) {
    if let Effect::Error { apply, .. } = &mut rule.effect {
        *apply = true;
    }
}

fn shorten(rule: &mut Rule) {
    if let Effect::Torn(bytes) = rule.effect {
        rule.effect = Effect::Short(bytes);
    }
}

fn do_not_hang(rule: &mut Rule) {
    if matches!(rule.effect, Effect::Hang(_)) {
        rule.effect = Effect::Delay(Nanos::ZERO);
    }
}

fn hurry(rule: &mut Rule) {
    if let Effect::Delay(length) = &mut rule.effect {
        *length = Nanos::from_ms(1);
    }
}

fn misquote(events: &mut [What]) {
    for what in events {
        if let What::Op { outcome, fault: Some(_), .. } = what
            && outcome.told.is_err()
        {
            outcome.told = Err(Errno(1));
        }
    }
}

/// One operation later, in virtual time; much less than what any case leaves between moments.
fn postpone(moment: &mut Moment) {
    if *moment != Moment::START {
        moment.offset = moment.offset + Nanos::from_ms(20);
    }
}

/// Every line now goes through a file in `{dir}` first.
fn move_witness(trial: &mut Trial) {
    for part in &mut trial.plan.cast {
        for word in &mut part.argv {
            let through = r#">> "$DEADBEAT_DIR/.witness" && echo "$*" >> "$DEADBEAT_WITNESS""#;
            *word = word.replacen(r#">> "$DEADBEAT_WITNESS""#, through, 1);
        }
    }
}

fn bury_late(events: &mut Vec<What>) {
    let death = |what: &What| matches!(what, What::Exited { signal: Some(9), .. });
    let Some(from) = events.iter().position(death) else { return };
    let What::Exited { role: dead, .. } = events[from] else { return };
    let others = events.iter().skip(from).position(|what| is_speech_of(what, |r| r != dead));
    if let Some(distance) = others {
        move_behind(events, from, from + distance);
    }
}

fn hush(events: &mut Vec<What>, named: &str) {
    events.retain(|what| !matches!(what, What::Trouble { why } if why.contains(named)));
}

/// Something that calls itself what the run's processes are called.
fn leave_process(saboteur: &Saboteur<'_>, trial: &Trial, _stage: &Stage) {
    let called = trial.plan.cast[0].argv.join(" ");
    let mut sleep = Command::new("sleep");
    sleep.arg0(called).arg("3600").stdin(Stdio::null()).stdout(Stdio::null());
    let child = sleep.spawn().expect("sleep is installed");
    saboteur.left.lock().expect("nobody panics with it").push(child);
}

fn leave_folder(_saboteur: &Saboteur<'_>, _trial: &Trial, stage: &Stage) {
    if let Some(scratch) = &stage.scratch {
        std::fs::create_dir(scratch.join("left")).expect("the scratch folder is the test's");
    }
}
