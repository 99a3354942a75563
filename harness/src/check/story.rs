//! Sentences for stories: who held, what failed, what was on disk, what each side believed.
//!
//! Pure. Each sentence is made from events of the history, and left out where there is none: a
//! story says nothing that the history does not show.

use super::beats::{self, Failure, failures};
use super::ledger::OnDisk;
use super::told;
use super::view::{End, Hold, Point, View};
use crate::history::What;
use crate::op::OpKind;
use crate::time::Nanos;

/// `450 ms`, counted from the holder's first `entered`.
pub(crate) fn ms(view: &View<'_>, at: Nanos) -> String {
    // Adding zero makes of a negative zero a plain one.
    format!("{:.0} ms", view.ms(at).round() + 0.0)
}

/// How a stay ended, as a verb.
pub(crate) fn ended(hold: &Hold) -> &'static str {
    match hold.end {
        End::Left(_) => "left",
        End::Aborted(_) => "aborted",
        End::Died { .. } => "died",
        End::Open(_) => "was inside to the end of the run, which was",
    }
}

/// ` Its beats failed from 301 ms on (utimes on beat: ENOSPC); the last that worked was at 1 ms.`
/// Says what there was up to `until`; nothing for a lock without a beat.
pub(crate) fn beats(view: &View<'_>, hold: &Hold, until: Point) -> String {
    if view.trial.plan.files.heartbeat.is_empty() {
        return String::new();
    }
    let failures = failures(view, hold);
    let failure = failures.iter().rfind(|failure| failure.since.seq < until.seq);
    let good = last_good_beat(view, hold, until);
    let last = match good {
        Some(good) => format!(
            "its last beat that worked was at {}, {} before",
            ms(view, good.at),
            until.at.since(good.at)
        ),
        None => "no beat of it had worked yet".to_owned(),
    };
    match failure {
        Some(failure) => format!(
            " The beats of {} failed from {} on ({}), {}; {last}.",
            hold.role,
            ms(view, failure.since.at),
            what_failed(failure),
            if failure.until.seq < until.seq {
                format!("until {}", ms(view, failure.until.at))
            } else {
                format!("for {} up to then", until.at.since(failure.since.at))
            },
        ),
        None => format!(" No beat of {} had failed up to then; {last}.", hold.role),
    }
}

fn last_good_beat(view: &View<'_>, hold: &Hold, until: Point) -> Option<Point> {
    let stay = view.between(hold.taken.seq, until.seq.min(hold.last_end().seq));
    let worked = stay.iter().rfind(|event| match &event.what {
        What::Op { op, outcome, .. } => op.role == hold.role && beats::reaches(view, op, outcome),
        _ => false,
    });
    worked.map(Point::of)
}

/// ` On disk: …`: what had become of a stay's files.
pub(crate) fn on_disk(view: &View<'_>, owner: &Hold, disk: Option<&OnDisk>) -> String {
    let Some(disk) = disk else { return String::new() };
    let Some(path) = disk.path.as_deref() else {
        return format!(" On disk: no lock file that {} had made.", owner.role);
    };
    let mut facts = Vec::new();
    if let Some((at, number)) = disk.struck {
        let act = view.trial.plan.events.iter().find(|act| act.number == number);
        let text = act.map_or(String::new(), |act| format!(" (`{}`)", act.text));
        facts.push(format!("event {number}{text} had removed it at {}", ms(view, at.at)));
    }
    if let Some(lost) = &disk.lost {
        facts.push(format!(
            "{} had {} {}, which {} had made, at {}",
            lost.by,
            took_away(lost.kind),
            shown(&lost.path),
            owner.role,
            ms(view, lost.at.at),
        ));
    }
    if facts.is_empty() {
        facts.push(match (disk.is_there, disk.is_unclear) {
            (true, _) => "it was still there".to_owned(),
            (false, true) => "it was gone, and nobody was seen to remove it".to_owned(),
            (false, false) => format!("it was gone, by {} itself", owner.role),
        });
    }
    format!(" On disk: the lock of {} was {}; {}.", owner.role, shown(path), facts.join(", and "))
}

/// What an operation does to the file that it takes away, as a participle.
pub(crate) fn took_away(kind: OpKind) -> &'static str {
    match kind {
        OpKind::Rename | OpKind::Link => "moved away or replaced",
        OpKind::Write | OpKind::Truncate => "overwritten",
        _ => "removed",
    }
}

/// A path below the lock directory, for a person.
pub(crate) fn shown(path: &str) -> &str {
    if path.is_empty() { "the lock directory" } else { path }
}

/// ` holder took the lock for its own: …`: what it had been told when another entered.
pub(crate) fn belief(view: &View<'_>, owner: &Hold, heir: Point) -> String {
    if let Some(told) = told::standing(view, owner, heir.seq) {
        return format!(
            " {} knew: it had been told at {}, {} before.",
            owner.role,
            ms(view, told.at),
            heir.at.since(told.at),
        );
    }
    match told::between(view, owner, heir.seq, owner.last_end().seq.saturating_add(1)) {
        Some(told) => format!(
            " {} took the lock for its own: it was told only at {}, {} later.",
            owner.role,
            ms(view, told.at),
            told.at.since(heir.at),
        ),
        None => format!(
            " {} took the lock for its own: it was told nothing while it was inside.",
            owner.role
        ),
    }
}

/// `utimes on resource.lock: ENOSPC`.
pub(crate) fn what_failed(failure: &Failure) -> String {
    let kinds: Vec<&str> = failure.kinds.iter().map(|kind| kind.as_str()).collect();
    let errnos: Vec<String> = failure.errnos.iter().map(ToString::to_string).collect();
    let how = if errnos.is_empty() { "without an error".to_owned() } else { errnos.join(", ") };
    let paths: Vec<&str> = failure.paths.iter().map(|path| shown(path)).collect();
    format!("{} on {}: {how}", kinds.join(", "), paths.join(", "))
}
