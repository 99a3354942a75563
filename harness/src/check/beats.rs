//! How a stay's beats fared: which attempts to refresh the lock failed, and for how long.
//!
//! Pure. An attempt is an operation of a refreshing kind onto a heartbeat path by the role that is
//! inside. It failed if it was answered with an error, if it had no effect, or as long as it is not
//! answered. Where the path is gone or shut, no refreshing operation ever reaches a file system, so
//! an error of a look-up, open or stat of a heartbeat path, or of a folder on the way to one, counts
//! as a failed attempt too: an *indirect* one. Looking for what need not be there is everyday work
//! (a beat that creates and renames does), so indirect attempts alone are a failure only if a fault
//! caused one, or if no refresh came until stale-after or until another role got in.

use std::collections::BTreeSet;

use super::view::{Hold, Point, View};
use crate::history::What;
use crate::op::{Errno, Op, OpId, OpKind, Outcome};
use crate::time::Nanos;

/// One stretch of failing beats within a stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The first failed attempt.
    pub(crate) since: Point,
    /// The next success, or where the role was certainly inside for the last time.
    pub(crate) until: Point,
    /// Which errors the attempts were answered with.
    pub(crate) errnos: Vec<Errno>,
    /// Which operations failed.
    pub(crate) kinds: Vec<OpKind>,
    /// On which paths, relative to the lock directory.
    pub(crate) paths: Vec<String>,
    /// Whether a refresh itself failed, or a fault was at work.
    is_direct: bool,
}

impl Failure {
    /// How long it lasted.
    pub(crate) fn length(&self) -> Nanos {
        self.until.at.since(self.since.at)
    }

    /// Whether it lasted at least `stale`; a lock that never becomes stale cannot be lost so.
    pub(crate) fn lasted(&self, stale: Option<Nanos>) -> bool {
        stale.is_some_and(|stale| self.length() >= stale)
    }

    fn begin(at: Point) -> Failure {
        Failure {
            since: at,
            until: at,
            errnos: Vec::new(),
            kinds: Vec::new(),
            paths: Vec::new(),
            is_direct: false,
        }
    }

    fn add(&mut self, op: &Op, errno: Option<Errno>, is_direct: bool) {
        self.is_direct |= is_direct;
        push_new(&mut self.errnos, errno);
        push_new(&mut self.kinds, Some(op.kind));
        push_new(&mut self.paths, op.all_paths().last().map(str::to_owned));
    }
}

/// The failures of a stay, in order.
pub(crate) fn failures(view: &View<'_>, hold: &Hold) -> Vec<Failure> {
    let mut failures = stretches(view, hold, hold.last_end().seq.saturating_add(1));
    failures.retain(|failure| failure.is_direct || matters(view, hold, failure));
    failures
}

/// The last failure of a stay that began before a place, with what was seen of it up to there.
pub(crate) fn failure_before(view: &View<'_>, hold: &Hold, until: u64) -> Option<Failure> {
    let whole = failures(view, hold).into_iter().rfind(|failure| failure.since.seq < until)?;
    stretches(view, hold, until).into_iter().find(|part| part.since == whole.since)
}

/// The stretches of failed attempts of a stay, seen up to a place.
fn stretches(view: &View<'_>, hold: &Hold, until: u64) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut open: Option<Failure> = None;
    let mut held: BTreeSet<OpId> = BTreeSet::new();
    for event in view.between(hold.taken.seq, until) {
        let (op, outcome, fault) = match &event.what {
            What::Op { op, outcome, fault } => (op, Some(outcome), fault),
            What::Waiting { op, fault } => (op, None, fault),
            _ => continue,
        };
        if op.role != hold.role {
            continue;
        }
        match attempt(view, op, outcome) {
            None => {}
            Some(Attempt::Succeeded) => {
                if let Some(mut failure) = open.take() {
                    failure.until = Point::of(event);
                    failures.push(failure);
                }
            }
            Some(Attempt::Failed { errno, is_direct }) => {
                if outcome.is_none() {
                    held.insert(op.id);
                }
                // A held operation that is interrupted failed by not returning; this error is the
                // engine's way to let it go.
                let is_let_go = held.contains(&op.id) && errno == Some(Errno(libc::EINTR));
                let failure = open.get_or_insert_with(|| Failure::begin(Point::of(event)));
                failure.add(op, errno.filter(|_| !is_let_go), is_direct || fault.is_some());
            }
        }
    }
    if let Some(mut failure) = open {
        failure.until = hold.sure_end().max(failure.since);
        failures.push(failure);
    }
    failures
}

/// Whether indirect attempts alone came to a failure.
fn matters(view: &View<'_>, hold: &Hold, failure: &Failure) -> bool {
    failure.lasted(view.trial.plan.timing.stale)
        || view
            .heirs(hold)
            .any(|heir| failure.since.seq < heir.taken.seq && heir.taken.seq < failure.until.seq)
}

/// Whether an operation refreshes the lock, in truth and not only by its answer.
pub(crate) fn reaches(view: &View<'_>, op: &Op, outcome: &Outcome) -> bool {
    attempt(view, op, Some(outcome)) == Some(Attempt::Succeeded)
}

/// What an operation says about a beat, if anything.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Succeeded,
    Failed { errno: Option<Errno>, is_direct: bool },
}

fn attempt(view: &View<'_>, op: &Op, outcome: Option<&Outcome>) -> Option<Attempt> {
    let hits = |path: &str| view.files.is_heartbeat(path);
    if !op.can_refresh() {
        let errno = outcome.and_then(|outcome| outcome.told.err())?;
        let is_way_to_beat = match op.kind {
            OpKind::Lookup => hits(op.path()) || leads_to_a_heartbeat(view, op.path()),
            OpKind::Open | OpKind::Stat => op.paths.iter().any(|path| hits(path)),
            _ => false,
        };
        return is_way_to_beat.then_some(Attempt::Failed { errno: Some(errno), is_direct: false });
    }
    if !op.refreshed_paths().any(hits) {
        return None;
    }
    let failed = |errno| Attempt::Failed { errno, is_direct: true };
    Some(match outcome {
        None => failed(None),
        // A beat on a file that has lost its name refreshes nothing that anybody sees.
        Some(outcome) if op.unlinked => failed(outcome.told.err()),
        Some(outcome) => match outcome.told {
            Err(errno) => failed(Some(errno)),
            Ok(_) if !outcome.effect => failed(None),
            Ok(_) => Attempt::Succeeded,
        },
    })
}

/// Whether `path` is a folder that a heartbeat path goes through: where that is gone, nobody gets
/// as far as the heartbeat itself.
fn leads_to_a_heartbeat(view: &View<'_>, path: &str) -> bool {
    let heartbeats = &view.trial.plan.files.heartbeat;
    let below = |heartbeat: &String| {
        heartbeat.strip_prefix(path).is_some_and(|rest| path.is_empty() || rest.starts_with('/'))
    };
    heartbeats.iter().any(below)
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: Option<T>) {
    if let Some(item) = item
        && !list.contains(&item)
    {
        list.push(item);
    }
}
