//! Whether people were told of a failed beat: in the log, or in a `degraded` or `lost` line.
//!
//! Pure. Asked when a failure lasted to stale-after or cost the lock, and the subject claims to
//! warn; or when the scenario asks, also for failures that heal. What was printed before the
//! failure cannot be about it.

use super::beats::{Failure, failures};
use super::mention::Mention;
use super::story::{self, what_failed};
use super::told;
use super::view::{Hold, View};
use super::{Check, Doubt, Finding, Kind};
use crate::history::{Stream, What};
use crate::plan::{Deed, Detail};
use crate::witness::Said;

/// An owner whose failed beats nobody heard of, or not enough of.
pub(crate) fn visibility(view: &View<'_>, doubts: &mut Vec<Doubt>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for hold in &view.holds {
        let failures = failures(view, hold);
        let short = if failures.is_empty() {
            robbed_without_a_word(view, hold)
        } else {
            failures.iter().find_map(|failure| {
                let needed = needed(view, hold, failure);
                if needed.is_empty() { None } else { judge(view, hold, failure, &needed) }
            })
        };
        match short {
            Some(_) if is_output_cut(view) => doubts.push(Doubt(format!(
                "{} printed so much that a message may have been cut",
                hold.role
            ))),
            other => findings.extend(other),
        }
    }
    findings
}

fn finding(kind: Kind, hold: &Hold, from_ms: f64, story: String) -> Finding {
    Finding {
        check: Check::Visibility,
        kind,
        roles: vec![hold.role],
        from_ms,
        overlap_ms: 0.0,
        stopped_ms: 0.0,
        late_writes: 0,
        story,
        violates: true,
    }
}

/// An owner whose lock was taken from under it by what the harness did to its files, while its
/// beats went on as if nothing had happened: they may refresh its heir's lock by now. Nothing
/// failed that a message could name, but nobody heard a word either. A role that was only stopped
/// lost its lock by being late, not by a failure: that is the business of exclusion.
fn robbed_without_a_word(view: &View<'_>, hold: &Hold) -> Option<Finding> {
    let heir = view.heirs(hold).find(|heir| hold.covers(heir.taken.seq))?;
    let before = view.between(hold.taken.seq, heir.taken.seq);
    let blow = before.iter().find(|event| strikes_files_of(view, hold, &event.what))?;
    let has_beat = view.trial.plan.timing.beat.is_some();
    let text = everything_said(view, hold, blow.seq);
    let names = [view.trial.plan.files.name.as_str()];
    let is_told = told::ever(view, hold, blow.seq) || Mention::new(&text, &names).is_of_a_lock();
    if view.trial.claims.warns.is_empty() || !has_beat || is_told {
        return None;
    }
    let story = format!(
        "{role} was inside from {entered} when its lock was struck at {struck}, and {heir} entered \
         at {at}; neither a log nor a notice of {role} said a word of it, and no beat of it \
         failed.{disk}",
        role = hold.role,
        entered = story::ms(view, hold.taken.at),
        struck = story::ms(view, blow.at),
        heir = heir.role,
        at = story::ms(view, heir.taken.at),
        disk = story::disk_when_over(view, hold),
    );
    Some(finding(Kind::Silent, hold, view.ms(blow.at), story))
}

/// Whether the harness did something to the owner's files, or to its operations on them.
fn strikes_files_of(view: &View<'_>, hold: &Hold, what: &What) -> bool {
    match what {
        What::Fired { role, .. } => *role == hold.role,
        What::Done { event, .. } => {
            let act = view.trial.plan.events.iter().find(|act| act.number == *event);
            act.is_some_and(|act| {
                matches!(
                    act.what,
                    Deed::Remove(_)
                        | Deed::Rename(..)
                        | Deed::Chmod(..)
                        | Deed::Chown(..)
                        | Deed::Immutable(_)
                        | Deed::Truncate(..)
                        | Deed::Corrupt(..)
                        | Deed::Touch(..)
                        | Deed::FillBlocks(_)
                        | Deed::FillInodes(_)
                        | Deed::Remount { .. }
                )
            })
        }
        _ => false,
    }
}

fn needed(view: &View<'_>, hold: &Hold, failure: &Failure) -> Vec<Detail> {
    let timing = &view.trial.plan.timing;
    let mut needed = view.trial.expect.warning.clone();
    // A failure that healed long before an heir came did not cost the lock; a beat that works on
    // its heir's file right before that one enters heals nothing.
    let latest = failure.until.at + timing.beat_unit;
    let cost_the_lock = view.heirs(hold).any(|heir| {
        heir.taken.seq > failure.since.seq && heir.taken.at <= latest && hold.covers(heir.taken.seq)
    });
    if failure.lasted(timing.stale) || cost_the_lock {
        needed.extend(&view.trial.claims.warns);
    }
    needed.sort();
    needed.dedup();
    needed
}

fn judge(view: &View<'_>, hold: &Hold, failure: &Failure, needed: &[Detail]) -> Option<Finding> {
    let text = everything_said(view, hold, failure.since.seq);
    let lock = view.trial.plan.files.name.as_str();
    let names: Vec<&str> =
        std::iter::once(lock).chain(failure.paths.iter().map(String::as_str)).collect();
    let mention = Mention::new(&text, &names);
    let is_short = |detail: &Detail| match detail {
        Detail::LockPath => !mention.names_path(),
        Detail::Operation => !mention.names_operation(&failure.kinds),
        // Where the file system gave no error, none can be named.
        Detail::Errno => !failure.errnos.is_empty() && !mention.names_errno(&failure.errnos),
    };
    let missing: Vec<Detail> = needed.iter().copied().filter(is_short).collect();
    let is_told = told::ever(view, hold, failure.since.seq)
        || mention.is_of_a_lock()
        || mention.names_errno(&failure.errnos);
    let (kind, how) = match (is_told, missing.is_empty()) {
        (true, true) => return None,
        (true, false) => (Kind::Vague, format!("what it said does not name {}", words(&missing))),
        (false, _) => (Kind::Silent, "neither its log nor a notice said a word of it".to_owned()),
    };
    let from = view.ms(failure.since.at);
    let heir = view.heirs(hold).find(|heir| hold.covers(heir.taken.seq)).map(|heir| {
        format!(
            " {} entered at {}, {} after that beat, with {} inside still.",
            heir.role,
            story::ms(view, heir.taken.at),
            heir.taken.at.since(failure.since.at),
            hold.role,
        )
    });
    let story = format!(
        "{role} was inside from {entered}. A beat of {role} failed at {from:.0} ms ({what}), and \
         {how}.{heir}{disk}",
        role = hold.role,
        entered = story::ms(view, hold.taken.at),
        what = what_failed(failure),
        heir = heir.unwrap_or_default(),
        disk = story::disk_when_over(view, hold),
    );
    Some(finding(kind, hold, from, story))
}

/// Missing details as words, for a story.
fn words(missing: &[Detail]) -> String {
    let names: Vec<&str> = missing
        .iter()
        .map(|detail| match detail {
            Detail::LockPath => "the lock path",
            Detail::Operation => "the operation",
            Detail::Errno => "the errno",
        })
        .collect();
    names.join(" or ")
}

/// What the role printed and the details of its notices, from an event on to the end of the run: a
/// message may come late. Each stream is put together by itself: its pieces are cut anywhere.
fn everything_said(view: &View<'_>, hold: &Hold, from: u64) -> String {
    let since = view.between(from.saturating_sub(1), u64::MAX);
    let mut text = String::new();
    for wanted in [Stream::Stdout, Stream::Stderr] {
        for event in since {
            if let What::Output { role, stream, text: piece } = &event.what
                && *role == hold.role
                && *stream == wanted
            {
                text.push_str(piece);
            }
        }
        text.push('\n');
    }
    for event in since {
        if let What::Witness { role, said: Said::Degraded { details } | Said::Lost { details } } =
            &event.what
            && *role == hold.role
        {
            for (key, value) in details {
                text.push_str(&format!("{key}={value}\n"));
            }
        }
    }
    text
}

fn is_output_cut(view: &View<'_>) -> bool {
    let is_cut = |why: &str| why.starts_with("the output of");
    view.events.iter().any(|event| matches!(&event.what, What::Trouble { why } if is_cut(why)))
}
