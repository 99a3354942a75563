//! Decides what happens to each operation, and writes down what did; the same for every engine.
//!
//! The engine asks before an operation and tells after it, from one thread: so what is written here
//! is in the order of effects, and what a moment brings about is done before the next operation
//! can run. What only the engine can do (letting go of a held operation, starting a role) is left
//! in a list for its loop, which sees to it before anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::agenda::{Agenda, Occurrence};
use super::deeds::Hand;
use super::ground::Ground;
use super::wire::Line;
use crate::fault::matching::{BadGlob, Matcher};
use crate::fault::{Effect, HangEnd};
use crate::history::{Event, Stream, What};
use crate::moment::{Anchor, Sign};
use crate::op::{Errno, Op, OpId, OpKind, Outcome};
use crate::plan::{Deed, Plan, Reach};
use crate::role::{Role, Who};
use crate::time::Nanos;
use crate::witness::{self, Resource, Said};

/// The clocks and the processes of a run: what a court's decisions act on.
pub(crate) trait World {
    /// Time since the run began.
    fn now(&self) -> Nanos;

    /// Notes that the role's first process has ended.
    fn bury(&mut self, role: Role);

    /// Whether the role's first process lives.
    fn plays(&self, role: Role) -> bool;

    /// Stops processes of `who`; gives the roles of which there were some.
    fn stop(&mut self, who: Who, reach: Reach) -> Vec<Role>;

    /// The roles of `who` with processes that [`World::stop`] stopped.
    fn stopped(&self, who: Who) -> Vec<Role>;

    /// Lets the processes of these roles go on.
    fn go_on(&mut self, roles: &[Role]);

    /// The roles of `who` that have processes to be killed.
    fn killable(&self, who: Who, reach: Reach) -> Vec<Role>;

    /// Kills processes of these roles.
    fn kill(&mut self, roles: &[Role], reach: Reach);

    /// Steps the wall clocks of these roles, by nanoseconds.
    ///
    /// # Errors
    /// Time is real.
    fn step_clock(&mut self, roles: &[Role], by: i64) -> io::Result<()>;

    /// The machine sleeps for so long.
    ///
    /// # Errors
    /// Time is real.
    fn suspend(&mut self, length: Nanos) -> io::Result<()>;

    /// The harness itself has just changed files, as if it had done so `back` ago.
    fn changed_files(&mut self, back: Nanos);

    /// What the roles have printed since the last time.
    fn output(&mut self) -> Vec<(Role, Stream, String)>;
}

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

/// Where the history goes, event by event.
pub(crate) trait Scribe {
    /// Takes the next event.
    ///
    /// # Errors
    /// Nobody reads any more.
    fn put(&mut self, event: Event) -> io::Result<()>;

    /// Makes sure that what was taken is where it belongs.
    ///
    /// # Errors
    /// Nobody reads any more.
    fn hand_over(&mut self) -> io::Result<()>;
}

/// The pipe to the harness.
impl<O: Write> Scribe for O {
    fn put(&mut self, event: Event) -> io::Result<()> {
        let line = serde_json::to_string(&Line::Event(event)).expect("events have a JSON form");
        self.write_all(line.as_bytes())?;
        self.write_all(b"\n")
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// Gives events their numbers and times, and hands them on.
#[derive(Debug)]
struct Recorder<O> {
    last: Nanos,
    seq: u64,
    events_max: u64,
    out: O,
    /// The harness does not read any more, or the bound was hit.
    is_full: bool,
}

impl<O: Scribe> Recorder<O> {
    fn write(&mut self, now: Nanos, what: What) {
        // The last events of a run that hit the bound say so, and that it ended.
        let is_last_word = matches!(what, What::Trouble { .. } | What::End);
        if self.is_full && !is_last_word {
            return;
        }
        self.seq += 1;
        self.last = self.last.max(now);
        let event = Event { seq: self.seq, at: self.last, what };
        self.is_full |= self.out.put(event).is_err() || self.seq >= self.events_max;
    }
}

/// How much a role has printed.
#[derive(Debug, Default)]
struct Printed {
    bytes: u64,
    is_cut: bool,
}

/// The state of a run in world `W`, whose history goes to `O`.
pub(crate) struct Court<W, O> {
    plan: Plan,
    pub(crate) world: W,
    recorder: Recorder<O>,
    agenda: Agenda<Item>,
    matcher: Matcher,
    /// What carries out deeds on files; nothing does where there is no ground.
    hand: Option<Hand>,
    resource: Resource,
    inside: BTreeSet<Role>,
    printed: BTreeMap<Role, Printed>,
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

impl<W: World, O: Scribe> Court<W, O> {
    /// Opens the court for a run that begins now.
    ///
    /// # Errors
    /// A glob of the plan is malformed.
    pub(crate) fn new(
        plan: &Plan,
        ground: &Ground,
        world: W,
        out: O,
    ) -> Result<Court<W, O>, BadGlob> {
        let mut court = Court::outside(plan, world, out)?;
        court.hand = Some(Hand::new(ground, court.matcher.files().clone()));
        Ok(court)
    }

    /// Opens a court that has no ground of its own: the files are somebody else's, so it can do
    /// nothing to them, and the plan has no events.
    ///
    /// # Errors
    /// A glob of the plan is malformed.
    pub(crate) fn outside(plan: &Plan, world: W, out: O) -> Result<Court<W, O>, BadGlob> {
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
            world,
            recorder: Recorder {
                last: Nanos::ZERO,
                seq: 0,
                events_max: plan.bounds.events,
                out,
                is_full: false,
            },
            agenda,
            hand: None,
            matcher,
            resource: Resource::default(),
            inside: BTreeSet::new(),
            printed: BTreeMap::new(),
            fault_of: BTreeMap::new(),
            held_by: BTreeMap::new(),
            read_only: false,
            releases: Vec::new(),
            starts: Vec::new(),
            stop: None,
            plan: plan.clone(),
        })
    }

    /// Time since the run began.
    pub(crate) fn now(&self) -> Nanos {
        self.world.now()
    }

    /// When something is due next.
    pub(crate) fn next_due(&self) -> Option<Nanos> {
        self.agenda.next()
    }

    /// The run's plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether the history can take no more.
    pub(crate) fn is_full(&self) -> bool {
        self.recorder.is_full
    }

    /// Closes the court; gives what took the history.
    pub(crate) fn close(self) -> O {
        self.recorder.out
    }

    /// Makes sure that the harness has what was written so far.
    pub(crate) fn flush(&mut self) {
        self.recorder.is_full |= self.recorder.out.hand_over().is_err();
    }

    /// Writes down an event of the run.
    pub(crate) fn record(&mut self, what: What) {
        self.recorder.write(self.world.now(), what);
    }

    /// Writes down why the run proves less than it should.
    pub(crate) fn trouble(&mut self, why: impl Into<String>) {
        self.record(What::Trouble { why: why.into() });
    }

    /// Writes down what the roles have printed, up to its bound; whether there was anything.
    pub(crate) fn take_output(&mut self) -> bool {
        let max = self.plan.bounds.output;
        let pieces = self.world.output();
        let is_news = !pieces.is_empty();
        for (role, stream, text) in pieces {
            let printed = self.printed.entry(role).or_default();
            if printed.is_cut {
                continue;
            }
            printed.bytes = printed.bytes.saturating_add(text.len() as u64);
            printed.is_cut = printed.bytes > max;
            let is_cut = printed.is_cut;
            self.record(What::Output { role, stream, text });
            if is_cut {
                self.trouble(format!("the output of {role} was cut at its bound of {max} bytes"));
            }
        }
        is_news
    }

    /// Tells that something happened that moments may wait for, and does what is due at once.
    pub(crate) fn happened(&mut self, what: Occurrence) {
        self.agenda.happened(what, self.world.now());
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
    pub(crate) fn do_due(&mut self) -> bool {
        let mut is_any = false;
        while let Some(item) = self.agenda.pop_due(self.world.now()) {
            is_any = true;
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
        is_any
    }

    /// Whether a held operation hangs or is slow, rather than that its process is stopped.
    pub(crate) fn hangs(&self, op: OpId) -> bool {
        let fault = self.held_by.get(&op);
        let mut faults = self.plan.faults.iter();
        let rule = faults.find(|rule| fault.is_some_and(|number| *number == rule.number));
        rule.is_some_and(|rule| matches!(rule.effect, Effect::Hang(_) | Effect::Delay(_)))
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

    /// A role's first process has ended.
    pub(crate) fn bury(&mut self, role: Role, code: Option<i32>, signal: Option<i32>) {
        self.world.bury(role);
        self.inside.remove(&role);
        self.record(What::Exited { role, code, signal });
        self.happened(Occurrence::Role(role, Sign::Dead));
    }

    /// A role's program never ran.
    pub(crate) fn could_not_start(&mut self, role: Role, why: &str) {
        self.trouble(format!("{role} {why}"));
        self.bury(role, None, None);
    }

    fn act(&mut self, number: u32) {
        let deed = act(&self.plan, number).what.clone();
        match self.carry_out(&deed) {
            Ok(note) => {
                self.record(What::Done { event: number, note });
                self.agenda.happened(Occurrence::Done(number), self.world.now());
            }
            Err(error) => self.record(What::NotDone { event: number, why: error.to_string() }),
        }
        let back = if let Deed::Touch(_, back) = deed { back } else { Nanos::ZERO };
        self.world.changed_files(back);
    }

    fn carry_out(&mut self, deed: &Deed) -> io::Result<String> {
        match deed {
            Deed::Remove(target) => self.hand()?.remove(target),
            Deed::Rename(target, name) => self.hand()?.rename(target, name),
            Deed::Chmod(mode, target) => self.hand()?.chmod(*mode, target),
            Deed::Chown(uid, target) => self.hand()?.chown(*uid, target),
            Deed::Immutable(target) => self.hand()?.immutable(target),
            Deed::Truncate(target, length) => self.hand()?.truncate(target, *length),
            Deed::Corrupt(target, text) => self.hand()?.corrupt(target, text.as_deref()),
            Deed::Touch(target, back) => self.hand()?.touch(target, *back),
            Deed::FillBlocks(leave) => self.hand()?.fill_blocks(*leave),
            Deed::FillInodes(leave) => self.hand()?.fill_inodes(*leave),
            Deed::Free => self.hand()?.free(),
            Deed::Remount { read_only } => {
                self.read_only = *read_only;
                Ok(if *read_only { "read-only" } else { "writable" }.to_owned())
            }
            Deed::Pause(who, reach) => nobody_is_an_error(&self.pause(*who, *reach)),
            Deed::Resume(who) => nobody_is_an_error(&self.resume(*who)),
            Deed::Kill(who, reach) => self.kill(*who, *reach),
            Deed::Start(who) => self.start_again(*who),
            Deed::Stall(who, length) => self.stall(*who, *length),
            Deed::Heal => {
                self.matcher.heal();
                self.let_go_all_of(None);
                self.read_only = false;
                self.hand()?.heal()
            }
            Deed::StepClock(who, by) => self.step_clock(*who, *by),
            Deed::Suspend(length) => {
                self.world.suspend(*length)?;
                Ok(format!("{length} suspended"))
            }
        }
    }

    fn hand(&mut self) -> io::Result<&mut Hand> {
        self.hand.as_mut().ok_or_else(|| io::Error::other("these files are not deadbeat's"))
    }

    /// Roles of the cast.
    fn cast(&self, who: Who) -> Vec<Role> {
        self.plan.cast.iter().map(|part| part.role).filter(|role| who.means(*role)).collect()
    }

    fn step_clock(&mut self, who: Who, by: i64) -> io::Result<String> {
        let roles = self.cast(who);
        self.world.step_clock(&roles, by)?;
        nobody_is_an_error(&roles)
    }

    fn pause(&mut self, who: Who, reach: Reach) -> Vec<Role> {
        let roles = self.world.stop(who, reach);
        for role in &roles {
            self.record(What::Stopped { role: *role });
        }
        roles
    }

    fn resume(&mut self, who: Who) -> Vec<Role> {
        let roles = self.world.stopped(who);
        // Written down before it can run again, so that nothing it does comes before.
        for role in &roles {
            self.record(What::Continued { role: *role });
        }
        self.world.go_on(&roles);
        roles
    }

    fn kill(&mut self, who: Who, reach: Reach) -> io::Result<String> {
        let roles = self.world.killable(who, reach);
        for role in &roles {
            self.record(What::Killed { role: *role, planned: true });
            self.inside.remove(role);
        }
        self.world.kill(&roles, reach);
        nobody_is_an_error(&roles)
    }

    fn start_again(&mut self, who: Who) -> io::Result<String> {
        let mut free = self.cast(who);
        free.retain(|role| !self.world.plays(*role));
        self.starts.extend(&free);
        nobody_is_an_error(&free)
    }

    fn stall(&mut self, who: Who, length: Nanos) -> io::Result<String> {
        let roles = self.pause(who, Reach::Tree);
        let until = self.now() + length;
        for role in &roles {
            self.agenda.add_at(until, Item::Continue(*role, None));
        }
        nobody_is_an_error(&roles)
    }

    /// What a fault does to an operation.
    pub(crate) fn rule_by(&mut self, fault: u32, effect: &Effect, op: &Op) -> Ruling {
        self.record(What::Fired { fault, role: op.role, op: op.id });
        self.agenda.happened(Occurrence::Fired(fault), self.world.now());
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
                        self.agenda.add_at(self.world.now() + *length, Item::LetGo(op.id));
                    }
                }
                self.hold(fault, op)
            }
            Effect::Delay(length) => {
                self.agenda.add_at(self.world.now() + *length, Item::LetGo(op.id));
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
                let until = self.world.now() + *length;
                if self.pause(Who::One(op.role), Reach::Tree).is_empty() {
                    self.trouble(format!("fault {fault} stopped nobody"));
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
    pub(crate) fn decide(&mut self, op: &Op, changes_files: bool) -> Ruling {
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
    pub(crate) fn settle(
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
    pub(crate) fn hear(&mut self, role: Role, data: &[u8]) -> Result<(), i32> {
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
