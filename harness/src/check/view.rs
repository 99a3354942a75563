//! What every check asks of a history: who was inside when, who was told, who was stopped.
//!
//! Pure. Derived once from the events; orders by sequence number, takes lengths from times.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::Ledger;
use crate::fault::matching::Files;
use crate::history::{Event, History, What};
use crate::moment::{Anchor, Moment, Sign};
use crate::op::OpId;
use crate::plan::Trial;
use crate::role::Role;
use crate::time::Nanos;
use crate::witness::Said;

/// A place in the history: its sequence number orders, its time gives lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) seq: u64,
    pub(crate) at: Nanos,
}

impl Point {
    pub(crate) fn of(event: &Event) -> Point {
        Point { seq: event.seq, at: event.at }
    }
}

/// One stay of a role inside the critical section, half-open: `[taken, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) role: Role,
    pub(crate) taken: Point,
    pub(crate) token: Option<u64>,
    pub(crate) end: End,
}

/// How a stay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It said `left`.
    Left(Point),
    /// It said `aborted`.
    Aborted(Point),
    /// It died. It was certainly inside up to `sure`, and certainly not from `gone` on.
    Died { sure: Point, gone: Point, by: Death },
    /// The history ends first.
    Open(Point),
}

/// Whose doing a death was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Its own, or its lock's: nobody killed it.
    Own,
    /// The plan's: an event or a fault.
    Planned,
    /// The harness's, at the end of the run: it says nothing about the lock.
    Teardown,
}

impl Hold {
    /// Where it was certainly still inside.
    pub(crate) fn sure_end(&self) -> Point {
        match self.end {
            End::Left(end) | End::Aborted(end) | End::Open(end) => end,
            End::Died { sure, .. } => sure,
        }
    }

    /// From where on it was certainly not inside any more.
    pub(crate) fn last_end(&self) -> Point {
        match self.end {
            End::Died { gone, .. } => gone,
            _ => self.sure_end(),
        }
    }

    /// Whether a point lies in it, for certain.
    pub(crate) fn covers(&self, seq: u64) -> bool {
        self.taken.seq < seq && (seq < self.sure_end().seq || self.is_open())
    }

    /// Whether a point lies in it, or in the uncertainty of its end.
    pub(crate) fn may_cover(&self, seq: u64) -> bool {
        self.taken.seq < seq && (seq <= self.last_end().seq || self.is_open())
    }

    fn is_open(&self) -> bool {
        matches!(self.end, End::Open(_))
    }
}

/// A history, read once.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) trial: &'a Trial,
    pub(crate) events: &'a [Event],
    pub(crate) files: Files,
    /// By `taken`.
    pub(crate) holds: Vec<Hold>,
    /// Whose files were whose, and what others did to them.
    pub(crate) ledger: Ledger,
    /// The holder's first `entered`, from which reports count; the start where there is none.
    pub(crate) zero: Nanos,
}

impl<'a> View<'a> {
    /// Reads a history.
    ///
    /// # Panics
    /// If the plan's globs are malformed: resolving a trial compiles them.
    pub(crate) fn new(trial: &'a Trial, history: &'a History) -> View<'a> {
        let files = Files::new(&trial.plan.files).expect("resolving the trial compiled the globs");
        let holds = holds(&history.events);
        let first = holds.iter().find(|hold| hold.role == Role::Holder);
        let zero = first.map_or(Nanos::ZERO, |hold| hold.taken.at);
        let ledger = Ledger::new(&trial.plan, &files, &history.events, &holds);
        View { trial, events: &history.events, files, holds, ledger, zero }
    }

    /// Milliseconds since the holder's first `entered`; negative before.
    pub(crate) fn ms(&self, at: Nanos) -> f64 {
        at.as_ms_f64() - self.zero.as_ms_f64()
    }

    /// How much of `[from, to)` a role was stopped by the harness.
    pub(crate) fn stopped(&self, role: Role, from: Nanos, to: Nanos) -> Nanos {
        let mut total = Nanos::ZERO;
        let mut since = None;
        let mut add = |since: Nanos, until: Nanos| {
            total = total + until.min(to).since(since.max(from));
        };
        for event in self.events {
            match event.what {
                What::Stopped { role: who } if who == role => {
                    since = since.or(Some(event.at));
                }
                What::Continued { role: who } | What::Exited { role: who, .. } if who == role => {
                    if let Some(since) = since.take() {
                        add(since, event.at);
                    }
                }
                _ => {}
            }
        }
        if let Some(since) = since {
            add(since, to);
        }
        total
    }

    /// The first fault that fired or event that was done.
    pub(crate) fn first_blow(&self) -> Option<Point> {
        let is_blow = |what: &What| matches!(what, What::Fired { .. } | What::Done { .. });
        self.events.iter().find(|event| is_blow(&event.what)).map(Point::of)
    }

    /// Where a moment's anchor is in the history, if it came: the first time. The moment itself is
    /// its offset later.
    pub(crate) fn anchor_of(&self, moment: Moment) -> Option<Point> {
        match moment.anchor {
            Anchor::Start => Some(Point { seq: 0, at: Nanos::ZERO }),
            anchor => self.first(|what| is_anchor(what, anchor)),
        }
    }

    /// When the history ends.
    pub(crate) fn end(&self) -> Point {
        self.events.last().map_or(Point { seq: 0, at: Nanos::ZERO }, Point::of)
    }

    /// The first event between two places, neither of them included, that `wanted` takes.
    pub(crate) fn first_between(
        &self,
        from: u64,
        until: u64,
        wanted: impl Fn(&What) -> bool,
    ) -> Option<Point> {
        self.between(from, until).iter().find(|event| wanted(&event.what)).map(Point::of)
    }

    /// The events between two places, neither of them included.
    pub(crate) fn between(&self, from: u64, until: u64) -> &'a [Event] {
        let begin = self.events.partition_point(|event| event.seq <= from);
        let end = self.events.partition_point(|event| event.seq < until);
        &self.events[begin..end.max(begin)]
    }

    /// The stays of others that began while this one lasted, or may have lasted.
    pub(crate) fn heirs<'v>(&'v self, hold: &'v Hold) -> impl Iterator<Item = &'v Hold> {
        let later = self.holds.partition_point(|heir| heir.taken.seq <= hold.taken.seq);
        self.holds[later..]
            .iter()
            .take_while(|heir| hold.may_cover(heir.taken.seq))
            .filter(|heir| heir.role != hold.role)
    }

    /// The first event of a role that `wanted` takes.
    pub(crate) fn first(&self, wanted: impl Fn(&What) -> bool) -> Option<Point> {
        self.events.iter().find(|event| wanted(&event.what)).map(Point::of)
    }
}

fn is_anchor(what: &What, anchor: Anchor) -> bool {
    match (anchor, what) {
        (Anchor::Fired(number), What::Fired { fault, .. }) => *fault == number,
        (Anchor::Done(number), What::Done { event, .. }) => *event == number,
        (Anchor::Role(who, Sign::Started), What::Started { role, .. })
        | (Anchor::Role(who, Sign::Dead), What::Exited { role, .. }) => who.means(*role),
        (Anchor::Role(who, sign), What::Witness { role, said }) => {
            who.means(*role) && said.sign() == Some(sign)
        }
        _ => false,
    }
}

/// The stays, by when they began.
fn holds(events: &[Event]) -> Vec<Hold> {
    let mut stays = Stays::default();
    for event in events {
        stays.take_in(event);
    }
    stays.finish(events.last().map_or(Point { seq: 0, at: Nanos::ZERO }, Point::of))
}

/// Finds the stays in a history, event by event.
#[derive(Debug, Default)]
struct Stays {
    holds: Vec<Hold>,
    /// The stay that each role is in, as an index.
    inside: BTreeMap<Role, usize>,
    /// The stay in which each role's first process died. Another process of the role may live on.
    died_in: BTreeMap<Role, usize>,
    /// Stays in which a role was seen at work after its first process had died.
    survived: BTreeSet<usize>,
    roles: BTreeMap<Role, Seen>,
}

/// What is known of a role's processes.
#[derive(Debug, Default)]
struct Seen {
    last: Option<Point>,
    killed: Option<(Point, Death)>,
    is_stopped: bool,
    waiting: BTreeSet<OpId>,
}

impl Seen {
    /// The last point at which the role was certainly alive. A stopped process, and one in an
    /// operation that has not returned, cannot have died before the SIGKILL came.
    fn alive_until(&self, taken: Point) -> Point {
        let seen = self.last.unwrap_or(taken);
        match self.killed {
            Some((killed, _)) if self.is_stopped || !self.waiting.is_empty() => killed,
            Some((killed, _)) => seen.min(killed),
            None => seen,
        }
    }
}

impl Stays {
    fn take_in(&mut self, event: &Event) {
        let point = Point::of(event);
        match &event.what {
            What::Started { role, .. } => {
                self.roles.insert(*role, Seen::default());
                self.died_in.remove(role);
            }
            What::Witness { role, said } => {
                self.see(*role, point);
                self.hear(*role, said, point);
            }
            What::Fenced { role, said, .. } => {
                self.see(*role, point);
                if matches!(said, Said::Wrote { .. }) {
                    self.outlive(*role, point);
                }
            }
            What::Op { op, .. } => {
                self.see(op.role, point);
                // What is answered after the SIGKILL is answered to nobody: until then it waited.
                let seen = self.roles.entry(op.role).or_default();
                if seen.killed.is_none() {
                    seen.waiting.remove(&op.id);
                }
            }
            What::Waiting { op, .. } => {
                self.see(op.role, point);
                self.roles.entry(op.role).or_default().waiting.insert(op.id);
            }
            What::Stopped { role } => {
                self.see(*role, point);
                self.roles.entry(*role).or_default().is_stopped = true;
            }
            What::Continued { role } => {
                let seen = self.roles.entry(*role).or_default();
                seen.is_stopped &= seen.killed.is_some();
            }
            What::Killed { role, planned } => {
                let by = if *planned { Death::Planned } else { Death::Teardown };
                self.roles.entry(*role).or_default().killed.get_or_insert((point, by));
            }
            What::Exited { role, .. } => self.bury(*role, point),
            _ => {}
        }
    }

    fn see(&mut self, role: Role, point: Point) {
        self.roles.entry(role).or_default().last = Some(point);
    }

    fn hear(&mut self, role: Role, said: &Said, point: Point) {
        match said {
            // A second `entered` without leaving is the same stay.
            Said::Entered { token } => match self.inside.get(&role) {
                Some(index) => {
                    let hold = &mut self.holds[*index];
                    hold.token = token.or(hold.token);
                }
                None => {
                    self.inside.insert(role, self.holds.len());
                    let end = End::Open(point);
                    self.holds.push(Hold { role, taken: point, token: *token, end });
                }
            },
            Said::Left => self.leave(role, End::Left(point)),
            Said::Aborted => self.leave(role, End::Aborted(point)),
            Said::Wrote { .. } => self.outlive(role, point),
            _ => {}
        }
    }

    fn leave(&mut self, role: Role, end: End) {
        let index = self.inside.remove(&role).or_else(|| self.died_in.remove(&role));
        if let Some(index) = index {
            self.survived.remove(&index);
            self.holds[index].end = end;
        }
    }

    /// A role works on after its first process has died: its stay is not over.
    fn outlive(&mut self, role: Role, point: Point) {
        if let Some(index) = self.died_in.get(&role)
            && let End::Died { sure, .. } = &mut self.holds[*index].end
        {
            *sure = point;
            self.survived.insert(*index);
        }
    }

    fn bury(&mut self, role: Role, point: Point) {
        let Some(index) = self.inside.remove(&role) else { return };
        let seen = self.roles.entry(role).or_default();
        let sure = seen.alive_until(self.holds[index].taken);
        let (gone, by) = seen.killed.unwrap_or((point, Death::Own));
        self.holds[index].end = End::Died { sure, gone, by };
        self.died_in.insert(role, index);
    }

    fn finish(mut self, end: Point) -> Vec<Hold> {
        for index in self.inside.into_values() {
            self.holds[index].end = End::Open(end);
        }
        // Nobody saw when the last of such a role's processes ended.
        for index in self.survived {
            if let End::Died { gone, .. } = &mut self.holds[index].end {
                *gone = end;
            }
        }
        self.holds
    }
}
