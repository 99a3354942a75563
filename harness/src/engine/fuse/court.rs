//! Decides what happens to each operation, and writes down what did.
//!
//! The court is asked by the file system before an operation and told after it, in one thread: so
//! what it writes is in the order of effects, and what a moment brings about is done before the
//! next operation can run. What needs the file system itself (letting go of a held operation,
//! starting a role) it leaves in a list for the loop, which sees to it before it serves again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::Instant;

use deadbeat_fs::{
    Caller, Errno as FsErrno, Kind, MountId, OpId as FsOpId, Operation, Outcome as FsOutcome,
    Ruler, Ruling, StatfsProfile,
};
use rustix::process::Signal;

use super::deeds::{BALLAST, Hand, INODE_BALLAST};
use super::ground::Ground;
use super::players::{News, Player};
use super::wire::Line;
use crate::engine::agenda::{Agenda, Occurrence};
use crate::fault::matching::{BadGlob, Matcher};
use crate::fault::{Effect, HangEnd};
use crate::history::{Event, What};
use crate::moment::{Anchor, Sign};
use crate::op::{Errno, Op, OpId, OpKind, Outcome};
use crate::plan::{Deed, Plan, Reach};
use crate::role::{Role, Who};
use crate::time::Nanos;
use crate::witness::{self, Resource, Said};

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
    began: Instant,
    last: Nanos,
    seq: u64,
    events_max: u64,
    out: W,
    /// The harness does not read any more, or the bound was hit.
    is_full: bool,
}

impl<W: Write> Recorder<W> {
    fn now(&self) -> Nanos {
        self.began.elapsed().into()
    }

    fn write(&mut self, what: What) {
        // The last events of a run that hit the bound say so, and that it ended.
        let is_last_word = matches!(what, What::Trouble { .. } | What::End);
        if self.is_full && !is_last_word {
            return;
        }
        self.seq += 1;
        self.last = self.last.max(self.now());
        let event = Event { seq: self.seq, at: self.last, what };
        let line = serde_json::to_string(&Line::Event(event)).expect("events have a JSON form");
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        self.is_full |= written.is_err() || self.seq >= self.events_max;
    }
}

/// The state of a run.
pub(crate) struct Court<W> {
    plan: Plan,
    recorder: Recorder<W>,
    agenda: Agenda<Item>,
    matcher: Matcher,
    hand: Hand,
    resource: Resource,
    inside: BTreeSet<Role>,
    mounts: BTreeMap<MountId, Role>,
    players: Vec<Player>,
    /// Which fault had a hand in an operation that is not answered yet.
    fault_of: BTreeMap<OpId, u32>,
    /// What each fault holds.
    held_by: BTreeMap<OpId, u32>,
    read_only: bool,
    /// For the loop: operations to end, with what ruling.
    pub(crate) releases: Vec<(FsOpId, Ruling)>,
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
                began: Instant::now(),
                last: Nanos::ZERO,
                seq: 0,
                events_max: plan.bounds.events,
                out,
                is_full: false,
            },
            agenda,
            hand: Hand::new(ground, matcher.files().clone()),
            matcher,
            resource: Resource::default(),
            inside: BTreeSet::new(),
            mounts: BTreeMap::new(),
            players: Vec::new(),
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
        self.recorder.now()
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

    /// Takes in a role that was started behind `mount`.
    pub(crate) fn admit(&mut self, mount: MountId, player: Player) {
        self.mounts.insert(mount, player.role);
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
            self.releases.push((FsOpId(op.0), Ruling::Proceed));
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

    /// A role's program never ran.
    pub(crate) fn could_not_start(&mut self, role: Role, why: &str) {
        self.trouble(format!("{role} {why}"));
        self.bury(role, None, None);
    }

    /// Records every death that the kernel knows of, before anything that may come of it.
    pub(crate) fn bury_the_dead(&mut self) {
        for index in 0..self.players.len() {
            if self.players[index].main_ended() {
                let role = self.players[index].role;
                match self.players[index].how_it_ended() {
                    Some(News::Exited(code, signal)) => self.bury(role, code, signal),
                    Some(News::Cannot(why)) => self.could_not_start(role, &why),
                    _ => self.bury(role, None, None),
                }
            }
        }
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
            Deed::StepClock(..) | Deed::Suspend(_) => {
                Err(io::Error::other("the fuse engine runs in real time"))
            }
        }
    }

    fn pause(&mut self, who: Who, reach: Reach) -> io::Result<String> {
        let mut stopped = Vec::new();
        for player in self.players.iter_mut().filter(|player| who.means(player.role)) {
            if player.signal(Signal::STOP, reach) > 0 {
                player.is_stopped = true;
                stopped.push(player.role);
            }
        }
        for role in &stopped {
            self.record(What::Stopped { role: *role });
        }
        nobody_is_an_error(&stopped)
    }

    fn resume(&mut self, who: Who) -> Vec<Role> {
        let mut resumed = Vec::new();
        for player in self.players.iter_mut().filter(|player| who.means(player.role)) {
            if player.is_stopped {
                player.is_stopped = false;
                resumed.push(player.role);
            }
        }
        // Written down before it can run again, so that nothing it does comes before.
        for role in &resumed {
            self.record(What::Continued { role: *role });
        }
        for player in self.players.iter().filter(|player| resumed.contains(&player.role)) {
            player.signal(Signal::CONT, Reach::Tree);
        }
        resumed
    }

    fn kill(&mut self, who: Who, reach: Reach) -> io::Result<String> {
        let alive: Vec<Role> = self
            .players
            .iter()
            .filter(|player| who.means(player.role))
            .filter(|player| !player.is_dead || !player.processes().is_empty())
            .map(|player| player.role)
            .collect();
        for role in &alive {
            self.record(What::Killed { role: *role, planned: true });
            self.inside.remove(role);
        }
        for player in self.players.iter().filter(|player| alive.contains(&player.role)) {
            player.signal(Signal::KILL, reach);
        }
        nobody_is_an_error(&alive)
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
            Effect::Error { errno, apply: false } => Ruling::Fail(FsErrno(errno.0)),
            Effect::Error { errno, apply: true } => Ruling::FailAfter(FsErrno(errno.0)),
            Effect::Ignore => Ruling::Pretend,
            Effect::Short(bytes) => Ruling::Short(as_length(*bytes)),
            Effect::Torn(bytes) => Ruling::Torn(as_length(*bytes)),
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
                Ruling::Fail(FsErrno(libc::EINTR))
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

    fn op_of(&self, operation: &Operation) -> Option<Op> {
        let role = *self.mounts.get(&operation.mount)?;
        let paths: Vec<String> = operation.paths.iter().filter_map(|path| below(path)).collect();
        let to = operation.to.as_deref().and_then(below);
        if paths.is_empty() && to.is_none() {
            return None;
        }
        Some(Op {
            id: OpId(operation.id.0),
            role,
            kind: kind_of(operation.kind),
            truncates: operation.truncates,
            paths,
            to,
            by_descriptor: operation.by_descriptor,
            unlinked: operation.unlinked,
            ino: (operation.ino != 0).then_some(operation.ino),
        })
    }

    fn line(&mut self, role: Role, said: Said) -> Result<(), FsErrno> {
        if let Err(refused) = self.resource.accept(role, &said) {
            self.record(What::Fenced { role, said, accepted: refused.accepted, by: refused.by });
            return Err(FsErrno(libc::ESTALE));
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
}

impl<W: Write> Ruler for Court<W> {
    fn rule(&mut self, operation: &Operation) -> Ruling {
        let Some(op) = self.op_of(operation) else { return Ruling::Proceed };
        if op.kind.is_nameable() {
            let inside = self.inside.contains(&op.role);
            if let Some(hit) = self.matcher.rule_on(&op, inside) {
                return self.rule_by(hit.fault, &hit.effect, &op);
            }
        }
        if self.read_only && changes_files(operation) {
            return Ruling::Fail(FsErrno(libc::EROFS));
        }
        Ruling::Proceed
    }

    fn settled(&mut self, operation: &Operation, outcome: &FsOutcome) {
        let Some(op) = self.op_of(operation) else { return };
        self.held_by.remove(&op.id);
        let fault = self.fault_of.remove(&op.id);
        // Looking up {dir} comes before every operation, and says nothing as long as it is there.
        if op.kind == OpKind::Lookup && op.path().is_empty() && outcome.result.is_ok() {
            return;
        }
        let outcome = Outcome {
            told: outcome.result.map_err(|errno| Errno(errno.0)),
            effect: outcome.effect,
            ino: (outcome.ino != 0).then_some(outcome.ino),
        };
        self.record(What::Op { op, outcome, fault });
    }

    fn append(&mut self, mount: MountId, _: Caller, data: &[u8]) -> Result<(), FsErrno> {
        let Some(role) = self.mounts.get(&mount).copied() else {
            return Err(FsErrno(libc::EIO));
        };
        self.bury_the_dead();
        witness::parse(data).into_iter().try_for_each(|said| self.line(role, said))
    }

    fn statfs(&mut self, _: MountId) -> Option<StatfsProfile> {
        let shown = self.plan.world.statfs?;
        Some(StatfsProfile { free_bytes: shown.free, free_inodes: shown.inodes })
    }

    fn hidden(&self, name: &std::ffi::OsStr) -> bool {
        name == BALLAST || name == INODE_BALLAST
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

fn as_length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A path of the mount, relative to `{dir}`; `None` for what is not below it.
fn below(path: &std::path::Path) -> Option<String> {
    path.strip_prefix(super::DIR).ok().map(|rest| rest.to_string_lossy().into_owned())
}

fn kind_of(kind: Kind) -> OpKind {
    match kind {
        Kind::Lookup => OpKind::Lookup,
        Kind::Stat => OpKind::Stat,
        Kind::Utimes => OpKind::Utimes,
        Kind::Chmod => OpKind::Chmod,
        Kind::Chown => OpKind::Chown,
        Kind::Truncate => OpKind::Truncate,
        Kind::Open => OpKind::Open,
        Kind::Create => OpKind::Create,
        Kind::Read => OpKind::Read,
        Kind::Write => OpKind::Write,
        Kind::Close => OpKind::Close,
        Kind::Fsync => OpKind::Fsync,
        Kind::Readdir => OpKind::Readdir,
        Kind::Mkdir => OpKind::Mkdir,
        Kind::Rename => OpKind::Rename,
        Kind::Link => OpKind::Link,
        Kind::Symlink => OpKind::Symlink,
        Kind::Unlink => OpKind::Unlink,
        Kind::Rmdir => OpKind::Rmdir,
        Kind::Flock => OpKind::Flock,
        Kind::FcntlLock => OpKind::FcntlLock,
        Kind::Statfs => OpKind::Statfs,
        _ => OpKind::Other,
    }
}

/// Whether a read-only file system would refuse it.
fn changes_files(operation: &Operation) -> bool {
    match operation.kind {
        Kind::Open => {
            operation.truncates || operation.open_flags & libc::O_ACCMODE != libc::O_RDONLY
        }
        Kind::Utimes
        | Kind::Chmod
        | Kind::Chown
        | Kind::Truncate
        | Kind::Create
        | Kind::Write
        | Kind::Mkdir
        | Kind::Rename
        | Kind::Link
        | Kind::Symlink
        | Kind::Unlink
        | Kind::Rmdir => true,
        _ => false,
    }
}
