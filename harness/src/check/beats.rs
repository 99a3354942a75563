//! How a stay's beats fared: which attempts to refresh the lock failed, and for how long.
//!
//! Pure. An attempt is an operation of a refreshing kind onto a heartbeat path by the role that is
//! inside. Where the path is gone no such operation ever reaches a file system, so a look-up of a
//! heartbeat path that ends in an error is an attempt as well. An attempt failed if it was
//! answered with an error, if it had no effect, or as long as it is not answered.

use super::view::{End, Hold, View};
use crate::history::What;
use crate::op::{Errno, Op, OpKind, Outcome};
use crate::time::Nanos;

/// One stretch of failing beats within a stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The first failed attempt.
    pub(crate) since: Nanos,
    /// Its place in the history.
    pub(crate) seq: u64,
    /// The next success, or the end of the stay.
    pub(crate) until: Nanos,
    /// Which errors the attempts were answered with.
    pub(crate) errnos: Vec<Errno>,
    /// Which operations failed.
    pub(crate) kinds: Vec<OpKind>,
    /// On which paths, relative to the lock directory.
    pub(crate) paths: Vec<String>,
}

impl Failure {
    /// Whether it lasted at least `stale`; a lock that never becomes stale cannot be lost so.
    pub(crate) fn lasted(&self, stale: Option<Nanos>) -> bool {
        stale.is_some_and(|stale| self.until.since(self.since) >= stale)
    }
}

/// The failures of a stay, in order.
pub(crate) fn failures(view: &View<'_>, hold: &Hold) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut open: Option<Failure> = None;
    for event in view.events {
        let is_inside = event.seq > hold.taken.seq
            && (event.seq <= hold.last_end().seq || matches!(hold.end, End::Open(_)));
        if !is_inside {
            continue;
        }
        let (op, outcome) = match &event.what {
            What::Op { op, outcome, .. } => (op, Some(outcome)),
            What::Waiting { op, .. } => (op, None),
            _ => continue,
        };
        if op.role != hold.role {
            continue;
        }
        match attempt(view, op, outcome) {
            None => {}
            Some(Attempt::Succeeded) => {
                if let Some(mut failure) = open.take() {
                    failure.until = event.at;
                    failures.push(failure);
                }
            }
            Some(Attempt::Failed(errno)) => {
                let failure = open.get_or_insert_with(|| Failure {
                    since: event.at,
                    seq: event.seq,
                    until: event.at,
                    errnos: Vec::new(),
                    kinds: Vec::new(),
                    paths: Vec::new(),
                });
                push_new(&mut failure.errnos, errno);
                push_new(&mut failure.kinds, Some(op.kind));
                push_new(&mut failure.paths, op.all_paths().last().map(str::to_owned));
            }
        }
    }
    if let Some(mut failure) = open {
        failure.until = hold.sure_end().at.max(failure.since);
        failures.push(failure);
    }
    failures
}

/// What an operation says about a beat, if anything.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Succeeded,
    Failed(Option<Errno>),
}

fn attempt(view: &View<'_>, op: &Op, outcome: Option<&Outcome>) -> Option<Attempt> {
    let hits = |path: &str| view.files.is_heartbeat(path);
    if op.kind == OpKind::Lookup {
        let error = outcome.and_then(|outcome| outcome.told.err())?;
        let is_on_the_way = hits(op.path()) || leads_to_a_heartbeat(view, op.path());
        return is_on_the_way.then_some(Attempt::Failed(Some(error)));
    }
    if !op.can_refresh() || !op.refreshed_paths().any(hits) {
        return None;
    }
    Some(match outcome {
        None => Attempt::Failed(None),
        // A beat on a file that has lost its name refreshes nothing that anybody sees.
        Some(outcome) if op.unlinked => Attempt::Failed(outcome.told.err()),
        Some(outcome) => match outcome.told {
            Err(errno) => Attempt::Failed(Some(errno)),
            Ok(_) if !outcome.effect => Attempt::Failed(None),
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
