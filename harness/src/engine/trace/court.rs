//! Decides what happens to each operation, and writes down what did; on virtual time.
//!
//! The supervisor asks while every thread of the run stands still, and asks again only when the
//! operation is answered: so what is written here is in the order of effects, and what a moment
//! brings about is done before the next operation can run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::clock::Clock;
use super::players::Player;
use super::{stamps, sys};
use crate::engine::agenda::{Agenda, Occurrence};
use crate::engine::fuse::deeds::Hand;
use crate::engine::fuse::ground::Ground;
use crate::engine::fuse::wire::Line;
use crate::fault::matching::{BadGlob, Matcher};
use crate::fault::{Effect, HangEnd};
use crate::history::{Event, What};
use crate::moment::{Anchor, Sign};
use crate::op::{Errno, Op, OpId, OpKind, Outcome};
use crate::plan::{Deed, Plan, Reach};
use crate::role::{Role, Who};
use crate::time::Nanos;
use crate::witness::{self, Resource, Said};

/// What shall happen to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It is carried out.
    Proceed,
    /// It fails; nothing happened.
    Fail(i32),
    /// It is carried out, and the answer is an error all the same.
    FailAfter(i32),
    /// Success is reported, nothing happened.
    Pretend,
    /// It waits until the court lets it go.
    Hold,
    /// Only so many bytes are written, and reported.
    Short(u64),
    /// Only so many bytes are written, but all reported.
    Torn(u64),
}

/// What waits for its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Start(Role),
    Activate(u32),
    Deactivate(u32),
    Act(u32),
    /// A hanging operation returns.
    LetGo(OpId),
    /// A stopped role goes on; the operation that stopped it is carried out.
    Continue(Role, Option<OpId>),
}

/// Writes the history, with numbers and times, to the harness.
#[derive(Debug)]
struct Recorder<W> {
    clock: Clock,
    seq: u64,
    events_max: u64,
    out: W,
    /// The harness does not read any more, or the bound was hit.
    is_full: bool,
}

impl<W: Write> Recorder<W> {
    fn now(&self) -> Nanos {
        self.clock.now()
    }

    fn write(&mut self, what: What) {
        // The last events of a run that hit the bound say so, and that it ended.
        let is_last_word = matches!(what, What::Trouble { .. } | What::End);
        if self.is_full && !is_last_word {
            return;
        }
        self.seq += 1;
        let event = Event { seq: self.seq, at: self.now(), what };
        let line = serde_json::to_string(&Line::Event(event)).expect("events have a JSON form");
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        self.is_full |= written.is_err() || self.seq >= self.events_max;
    }
}

/// The state of a run.
pub(crate) struct Court<W> {
    plan: Plan,
    began: Instant,
    recorder: Recorder<W>,
    agenda: Agenda<Item>,
    matcher: Matcher,
    hand: Hand,
    dir: PathBuf,
    resource: Resource,
    inside: BTreeSet<Role>,
    players: Vec<Player>,
    /// Every process of the run, and whose it is.
    pub(crate) processes: BTreeMap<i32, Role>,
    /// Processes that the plan has stopped.
    pub(crate) stopped: BTreeSet<i32>,
    /// Which fault had a hand in an operation that is not answered yet.
    fault_of: BTreeMap<OpId, u32>,
    /// What each fault holds.
    held_by: BTreeMap<OpId, u32>,
    read_only: bool,
    /// For the loop: operations that may be carried out.
    pub(crate) releases: Vec<OpId>,
    /// For the loop: roles to start.
    pub(crate) starts: Vec<Role>,
    /// Why the run is to end at once.
    pub(crate) stop: Option<String>,
}

impl<W: Write> Court<W> {
    /// Opens the court for a run that begins now.
    ///
    /// # Errors
    /// A glob of the plan is malformed.
    pub(crate) fn new(plan: &Plan, ground: &Ground, out: W) -> Result<Court<W>, BadGlob> {
        let matcher = Matcher::new(plan)?;
        let mut agenda = Agenda::default();
        // Faults first: one that begins at the same moment as a role starts is in place then.
        for rule in &plan.faults {
            agenda.add(rule.from, Item::Activate(rule.number));
            if let Some(until) = rule.until {
                agenda.add(until, Item::Deactivate(rule.number));
            }
        }
        for act in &plan.events {
            agenda.add(act.at, Item::Act(act.number));
        }
        for part in &plan.cast {
            agenda.add(part.starts, Item::Start(part.role));
        }
        Ok(Court {
            recorder: Recorder {
                clock: Clock::new(plan.world.clock.clone()),
                seq: 0,
                events_max: plan.bounds.events,
                out,
                is_full: false,
            },
            agenda,
            hand: Hand::new(ground, matcher.files().clone()),
            matcher,
            dir: ground.dir_on_backing(),
            resource: Resource::default(),
            inside: BTreeSet::new(),
            players: Vec::new(),
            processes: BTreeMap::new(),
            stopped: BTreeSet::new(),
            fault_of: BTreeMap::new(),
            held_by: BTreeMap::new(),
            read_only: false,
            releases: Vec::new(),
            starts: Vec::new(),
            stop: None,
            plan: plan.clone(),
            began: Instant::now(),
        })
    }

    /// How long the run has taken on the machine's own clock.
    pub(crate) fn real_time(&self) -> Duration {
        self.began.elapsed()
    }

    /// Time since the run began.
    pub(crate) fn now(&self) -> Nanos {
        self.recorder.now()
    }

    /// The run's clocks.
    pub(crate) fn clock(&mut self) -> &mut Clock {
        &mut self.recorder.clock
    }

    /// The same, to be looked at.
    pub(crate) fn clock_now(&self) -> &Clock {
        &self.recorder.clock
    }

    /// Time stamps of files are finer than this in the plan's world.
    pub(crate) fn granularity(&self) -> Option<Nanos> {
        self.plan.world.files.mtime_granularity
    }

    /// When something is due next.
    pub(crate) fn next_due(&self) -> Option<Nanos> {
        self.agenda.next()
    }

    /// The run's plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The roles' processes.
    pub(crate) fn players(&mut self) -> &mut Vec<Player> {
        &mut self.players
    }

    /// Whether the history can take no more.
    pub(crate) fn is_full(&self) -> bool {
        self.recorder.is_full
    }

    /// Makes sure that the harness has what was written so far.
    pub(crate) fn flush(&mut self) {
        self.recorder.is_full |= self.recorder.out.flush().is_err();
    }

    /// Writes down an event of the run.
    pub(crate) fn record(&mut self, what: What) {
        self.recorder.write(what);
    }

    /// Writes down why the run proves less than it should.
    pub(crate) fn trouble(&mut self, why: impl Into<String>) {
        self.record(What::Trouble { why: why.into() });
    }

    /// Takes in a role that was started.
    pub(crate) fn admit(&mut self, player: Player) {
        self.processes.insert(player.main, player.role);
        self.players.retain(|old| old.role != player.role);
        self.players.push(player);
    }

    /// Tells that something happened that moments may wait for, and does what is due at once.
    pub(crate) fn happened(&mut self, what: Occurrence) {
        self.agenda.happened(what, self.recorder.now());
        self.do_due();
    }

    /// Whether a role may still start though none is alive: because its time has come, or because
    /// of an event whose time is certain, or of one after that.
    pub(crate) fn expects_a_start(&self) -> bool {
        let mut certain: Vec<Item> = self.agenda.timed().copied().collect();
        let mut index = 0;
        // Each item is added once, so this ends.
        while let Some(item) = certain.get(index).copied() {
            index += 1;
            let Item::Act(number) = item else { continue };
            let after =
                self.agenda.waiting().filter(|(moment, _)| moment.anchor == Anchor::Done(number));
            let new: Vec<Item> =
                after.map(|(_, item)| *item).filter(|item| !certain.contains(item)).collect();
            certain.extend(new);
        }
        !self.starts.is_empty()
            || certain.iter().any(|item| match item {
                Item::Start(_) => true,
                Item::Act(number) => matches!(act(&self.plan, *number).what, Deed::Start(_)),
                _ => false,
            })
    }

    /// Writes down the events that had no chance.
    pub(crate) fn record_undone(&mut self) {
        let left: Vec<u32> = self
            .agenda
            .left()
            .filter_map(|item| if let Item::Act(number) = item { Some(*number) } else { None })
            .collect();
        for number in left {
            let why = format!("the run ended before {}", act(&self.plan, number).at);
            self.record(What::NotDone { event: number, why });
        }
    }

    /// Does everything whose time has come.
    pub(crate) fn do_due(&mut self) {
        while let Some(item) = self.agenda.pop_due(self.recorder.now()) {
            match item {
                Item::Start(role) => self.starts.push(role),
                Item::Activate(number) => self.matcher.activate(number),
                Item::Deactivate(number) => {
                    self.matcher.deactivate(number);
                    self.let_go_all_of(Some(number));
                }
                Item::Act(number) => self.act(number),
                Item::LetGo(op) => self.let_go(op),
                Item::Continue(role, op) => {
                    self.resume(Who::One(role));
                    if let Some(op) = op {
                        self.let_go(op);
                    }
                }
            }
        }
    }

    fn let_go(&mut self, op: OpId) {
        if self.held_by.remove(&op).is_some() {
            self.releases.push(op);
        }
    }

    fn let_go_all_of(&mut self, fault: Option<u32>) {
        let of_it = |number: &u32| fault.is_none_or(|fault| fault == *number);
        let ops: Vec<OpId> =
            self.held_by.iter().filter(|(_, by)| of_it(by)).map(|(op, _)| *op).collect();
        for op in ops {
            self.let_go(op);
        }
    }

    /// A role's first process has ended; the shim knows how.
    pub(crate) fn bury(&mut self, role: Role, code: Option<i32>, signal: Option<i32>) {
        if let Some(player) = self.players.iter_mut().find(|player| player.role == role) {
            player.is_dead = true;
        }
        self.inside.remove(&role);
        self.record(What::Exited { role, code, signal });
        self.happened(Occurrence::Role(role, Sign::Dead));
    }

    fn act(&mut self, number: u32) {
        let deed = act(&self.plan, number).what.clone();
        match self.carry_out(&deed) {
            Ok(note) => {
                self.record(What::Done { event: number, note });
                self.agenda.happened(Occurrence::Done(number), self.recorder.now());
            }
            Err(error) => self.record(What::NotDone { event: number, why: error.to_string() }),
        }
        // The harness itself changes files by the machine's clock.
        let back = if let Deed::Touch(_, back) = deed { back } else { Nanos::ZERO };
        let made_at = SystemTime::now().checked_sub(Duration::from(back));
        let shown = self.recorder.clock.stamp().checked_sub(Duration::from(back));
        if let (Some(made_at), Some(shown)) = (made_at, shown) {
            stamps::correct_below(&self.dir, made_at, shown);
        }
    }

    fn carry_out(&mut self, deed: &Deed) -> io::Result<String> {
        match deed {
            Deed::Remove(target) => self.hand.remove(target),
            Deed::Rename(target, name) => self.hand.rename(target, name),
            Deed::Chmod(mode, target) => self.hand.chmod(*mode, target),
            Deed::Chown(uid, target) => self.hand.chown(*uid, target),
            Deed::Immutable(target) => self.hand.immutable(target),
            Deed::Truncate(target, length) => self.hand.truncate(target, *length),
            Deed::Corrupt(target, text) => self.hand.corrupt(target, text.as_deref()),
            Deed::Touch(target, back) => self.hand.touch(target, *back),
            Deed::FillBlocks(leave) => self.hand.fill_blocks(*leave),
            Deed::FillInodes(leave) => self.hand.fill_inodes(*leave),
            Deed::Free => self.hand.free(),
            Deed::Remount { read_only } => {
                self.read_only = *read_only;
                Ok(if *read_only { "read-only" } else { "writable" }.to_owned())
            }
            Deed::Pause(who, reach) => self.pause(*who, *reach),
            Deed::Resume(who) => nobody_is_an_error(&self.resume(*who)),
            Deed::Kill(who, reach) => self.kill(*who, *reach),
            Deed::Start(who) => self.start_again(*who),
            Deed::Stall(who, length) => self.stall(*who, *length),
            Deed::Heal => {
                self.matcher.heal();
                self.let_go_all_of(None);
                self.read_only = false;
                self.hand.heal()
            }
            Deed::StepClock(who, by) => self.step_clock(*who, *by),
            Deed::Suspend(length) => {
                self.recorder.clock.suspend(*length);
                Ok(format!("{length} suspended"))
            }
        }
    }

    fn step_clock(&mut self, who: Who, by: i64) -> io::Result<String> {
        let roles: Vec<Role> =
            self.plan.cast.iter().map(|part| part.role).filter(|role| who.means(*role)).collect();
        for role in &roles {
            self.recorder.clock.step(*role, by);
        }
        nobody_is_an_error(&roles)
    }

    /// The living processes that a deed means, of each role that has some.
    fn meant(&self, who: Who, reach: Reach) -> BTreeMap<Role, Vec<i32>> {
        let mut meant: BTreeMap<Role, Vec<i32>> = BTreeMap::new();
        for (pid, role) in self.processes.iter().filter(|(_, role)| who.means(**role)) {
            let is_main = || self.players.iter().any(|p| p.main == *pid && !p.is_dead);
            if reach == Reach::Tree || is_main() {
                meant.entry(*role).or_default().push(*pid);
            }
        }
        meant
    }

    fn pause(&mut self, who: Who, reach: Reach) -> io::Result<String> {
        let meant = self.meant(who, reach);
        for (role, pids) in &meant {
            for pid in pids {
                sys::kill(*pid, libc::SIGSTOP);
                self.stopped.insert(*pid);
            }
            self.record(What::Stopped { role: *role });
        }
        nobody_is_an_error(&meant.into_keys().collect::<Vec<_>>())
    }

    fn resume(&mut self, who: Who) -> Vec<Role> {
        let mut resumed: BTreeMap<Role, Vec<i32>> = BTreeMap::new();
        for pid in &self.stopped {
            if let Some(role) = self.processes.get(pid).filter(|role| who.means(**role)) {
                resumed.entry(*role).or_default().push(*pid);
            }
        }
        for (role, pids) in &resumed {
            // Written down before it can run again, so that nothing it does comes before.
            self.record(What::Continued { role: *role });
            for pid in pids {
                self.stopped.remove(pid);
                sys::kill(*pid, libc::SIGCONT);
            }
        }
        resumed.into_keys().collect()
    }

    fn kill(&mut self, who: Who, reach: Reach) -> io::Result<String> {
        let meant = self.meant(who, reach);
        for (role, pids) in &meant {
            self.record(What::Killed { role: *role, planned: true });
            self.inside.remove(role);
            for pid in pids {
                sys::kill(*pid, libc::SIGKILL);
            }
        }
        nobody_is_an_error(&meant.into_keys().collect::<Vec<_>>())
    }

    fn start_again(&mut self, who: Who) -> io::Result<String> {
        let cast = self.plan.cast.iter().map(|part| part.role).filter(|role| who.means(*role));
        let free: Vec<Role> =
            cast.filter(|role| self.players.iter().all(|p| p.role != *role || p.is_dead)).collect();
        self.starts.extend(&free);
        nobody_is_an_error(&free)
    }

    fn stall(&mut self, who: Who, length: Nanos) -> io::Result<String> {
        let note = self.pause(who, Reach::Tree)?;
        let until = self.now() + length;
        let stalled: Vec<Role> =
            self.players.iter().filter(|p| who.means(p.role)).map(|p| p.role).collect();
        for role in stalled {
            self.agenda.add_at(until, Item::Continue(role, None));
        }
        Ok(note)
    }

    /// What a fault does to an operation.
    fn rule_by(&mut self, fault: u32, effect: &Effect, op: &Op) -> Ruling {
        self.record(What::Fired { fault, role: op.role, op: op.id });
        self.agenda.happened(Occurrence::Fired(fault), self.recorder.now());
        self.fault_of.insert(op.id, fault);
        let ruling = match effect {
            Effect::Error { errno, apply: false } => Ruling::Fail(errno.0),
            Effect::Error { errno, apply: true } => Ruling::FailAfter(errno.0),
            Effect::Ignore => Ruling::Pretend,
            Effect::Short(bytes) => Ruling::Short(*bytes),
            Effect::Torn(bytes) => Ruling::Torn(*bytes),
            Effect::Hang(end) => {
                match end {
                    HangEnd::Until(moment) => self.agenda.add(*moment, Item::LetGo(op.id)),
                    HangEnd::After(length) => {
                        self.agenda.add_at(self.recorder.now() + *length, Item::LetGo(op.id));
                    }
                }
                self.hold(fault, op)
            }
            Effect::Delay(length) => {
                self.agenda.add_at(self.recorder.now() + *length, Item::LetGo(op.id));
                self.hold(fault, op)
            }
            Effect::Kill => {
                // Its first process dies with the rest of the tree; the answer reaches nobody.
                match self.kill(Who::One(op.role), Reach::Tree) {
                    Ok(_) => {}
                    Err(error) => self.trouble(format!("fault {fault} killed nobody: {error}")),
                }
                Ruling::Fail(libc::EINTR)
            }
            Effect::Pause(length) => {
                let until = self.recorder.now() + *length;
                match self.pause(Who::One(op.role), Reach::Tree) {
                    Ok(_) => {}
                    Err(error) => self.trouble(format!("fault {fault} stopped nobody: {error}")),
                }
                self.agenda.add_at(until, Item::Continue(op.role, Some(op.id)));
                self.hold(fault, op)
            }
        };
        self.do_due();
        ruling
    }

    fn hold(&mut self, fault: u32, op: &Op) -> Ruling {
        self.held_by.insert(op.id, fault);
        self.record(What::Waiting { op: op.clone(), fault: Some(fault) });
        Ruling::Hold
    }

    fn line(&mut self, role: Role, said: Said) -> Result<(), i32> {
        if let Err(refused) = self.resource.accept(role, &said) {
            self.record(What::Fenced { role, said, accepted: refused.accepted, by: refused.by });
            return Err(libc::ESTALE);
        }
        match said {
            Said::Entered { .. } => {
                self.inside.insert(role);
            }
            Said::Left | Said::Aborted => {
                self.inside.remove(&role);
            }
            _ => {}
        }
        let sign = said.sign();
        self.record(What::Witness { role, said });
        if let Some(sign) = sign {
            self.happened(Occurrence::Role(role, sign));
        }
        Ok(())
    }

    /// What shall happen to an operation that would change files, or not, on the file system.
    pub(crate) fn rule(&mut self, op: &Op, changes_files: bool) -> Ruling {
        if op.kind.is_nameable() {
            let inside = self.inside.contains(&op.role);
            if let Some(hit) = self.matcher.rule_on(op, inside) {
                return self.rule_by(hit.fault, &hit.effect, op);
            }
        }
        if self.read_only && changes_files {
            return Ruling::Fail(libc::EROFS);
        }
        if self.plan.world.files.no_links && op.kind == OpKind::Link {
            return Ruling::Fail(libc::EPERM);
        }
        Ruling::Proceed
    }

    /// Writes down what an operation came to, before its process may go on.
    pub(crate) fn settled(
        &mut self,
        op: Op,
        told: Result<u64, i32>,
        effect: bool,
        ino: Option<u64>,
    ) {
        self.held_by.remove(&op.id);
        let fault = self.fault_of.remove(&op.id);
        let outcome = Outcome { told: told.map_err(Errno), effect, ino };
        self.record(What::Op { op, outcome, fault });
    }

    /// A role wrote to the witness.
    pub(crate) fn append(&mut self, role: Role, data: &[u8]) -> Result<(), i32> {
        witness::parse(data).into_iter().try_for_each(|said| self.line(role, said))
    }

    /// What `statfs` shows, where the plan says it.
    pub(crate) fn shown_space(&self) -> Option<crate::plan::Space> {
        self.plan.world.statfs
    }
}

fn act(plan: &Plan, number: u32) -> &crate::plan::Act {
    let act = plan.events.iter().find(|act| act.number == number);
    act.expect("the agenda holds numbers of the plan only")
}

fn nobody_is_an_error(roles: &[Role]) -> io::Result<String> {
    if roles.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no such role was there"));
    }
    let names: Vec<String> = roles.iter().map(ToString::to_string).collect();
    Ok(names.join(", "))
}
