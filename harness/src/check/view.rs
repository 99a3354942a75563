//! What every check asks of a history: who was inside when, who was told, who was stopped.
//!
//! Pure. Derived once from the events; orders by sequence number, takes lengths from times.

use std::collections::BTreeMap;

use crate::fault::matching::Files;
use crate::history::{Event, History, What};
use crate::moment::{Anchor, Moment, Sign};
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
    fn of(event: &Event) -> Point {
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
    Died { sure: Point, gone: Point, planned: bool },
    /// The history ends first.
    Open(Point),
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

    fn is_open(&self) -> bool {
        matches!(self.end, End::Open(_))
    }
}

/// What a process was told, or took back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// `degraded` or `lost`.
    Trouble,
    /// `healthy`.
    Healthy,
}

/// A history, read once.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) trial: &'a Trial,
    pub(crate) events: &'a [Event],
    pub(crate) files: Files,
    /// By `taken`.
    pub(crate) holds: Vec<Hold>,
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
        View { trial, events: &history.events, files, holds, zero }
    }

    /// Milliseconds since the holder's first `entered`; negative before.
    pub(crate) fn ms(&self, at: Nanos) -> f64 {
        at.as_ms_f64() - self.zero.as_ms_f64()
    }

    /// The notices of a hold up to `until`, in order.
    pub(crate) fn notices(&self, hold: &Hold, until: u64) -> impl Iterator<Item = (Point, Notice)> {
        let (role, from) = (hold.role, hold.taken.seq);
        self.events.iter().filter_map(move |event| {
            let What::Witness { role: by, said } = &event.what else { return None };
            let is_in = *by == role && event.seq > from && event.seq < until;
            let notice = match said {
                Said::Degraded { .. } | Said::Lost { .. } => Notice::Trouble,
                Said::Healthy => Notice::Healthy,
                _ => return None,
            };
            is_in.then_some((Point::of(event), notice))
        })
    }

    /// When the process was told of trouble that it has not taken back by `until`.
    pub(crate) fn told_before(&self, hold: &Hold, until: u64) -> Option<Point> {
        let mut told = None;
        for (point, notice) in self.notices(hold, until) {
            told = match notice {
                Notice::Trouble => told.or(Some(point)),
                Notice::Healthy => None,
            };
        }
        told
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

    /// When a moment came, if it did within the history.
    pub(crate) fn time_of(&self, moment: Moment) -> Option<Nanos> {
        let seen = self.events.iter().find(|event| is_anchor(&event.what, moment.anchor));
        let at = match moment.anchor {
            Anchor::Start => Some(Nanos::ZERO),
            _ => seen.map(|event| event.at),
        };
        at.map(|at| at + moment.offset)
    }

    /// When the history ends.
    pub(crate) fn end(&self) -> Point {
        self.events.last().map_or(Point { seq: 0, at: Nanos::ZERO }, Point::of)
    }

    /// The first event of a role that `wanted` takes.
    pub(crate) fn first(&self, wanted: impl Fn(&What) -> bool) -> Option<Point> {
        self.events.iter().find(|event| wanted(&event.what)).map(Point::of)
    }

    /// Everything that a role printed.
    pub(crate) fn output_of(&self, who: Role) -> String {
        let pieces = self.events.iter().filter_map(|event| match &event.what {
            What::Output { role, text, .. } if *role == who => Some(text.as_str()),
            _ => None,
        });
        pieces.collect()
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
    let mut holds: Vec<Hold> = Vec::new();
    // The stay that each role is in, as an index; the last thing that was seen of each role, and
    // the SIGKILL that the plan sent it.
    let mut inside: BTreeMap<Role, usize> = BTreeMap::new();
    let mut last_seen: BTreeMap<Role, Point> = BTreeMap::new();
    let mut killed: BTreeMap<Role, (Point, bool)> = BTreeMap::new();
    for event in events {
        let point = Point::of(event);
        match &event.what {
            What::Started { role, .. } => {
                killed.remove(role);
            }
            What::Witness { role, said } => {
                last_seen.insert(*role, point);
                match said {
                    Said::Entered { token } => {
                        // A second `entered` without leaving is the same stay.
                        inside.entry(*role).or_insert_with(|| {
                            let end = End::Open(point);
                            holds.push(Hold { role: *role, taken: point, token: *token, end });
                            holds.len() - 1
                        });
                    }
                    Said::Left => {
                        if let Some(index) = inside.remove(role) {
                            holds[index].end = End::Left(point);
                        }
                    }
                    Said::Aborted => {
                        if let Some(index) = inside.remove(role) {
                            holds[index].end = End::Aborted(point);
                        }
                    }
                    _ => {}
                }
            }
            What::Op { op, .. } => {
                last_seen.insert(op.role, point);
            }
            What::Killed { role, planned } => {
                killed.entry(*role).or_insert((point, *planned));
            }
            What::Exited { role, .. } => {
                if let Some(index) = inside.remove(role) {
                    let seen = last_seen.get(role).copied().unwrap_or(holds[index].taken);
                    let (gone, planned) = killed.get(role).copied().unwrap_or((point, false));
                    holds[index].end = End::Died { sure: seen.min(gone), gone, planned };
                }
            }
            _ => {}
        }
    }
    let end = events.last().map_or(Point { seq: 0, at: Nanos::ZERO }, Point::of);
    for index in inside.into_values() {
        holds[index].end = End::Open(end);
    }
    holds
}
