//! Sentences for stories: who held, what failed, what was on disk, what each side believed.
//!
//! Pure. Each sentence is made from events of the history, and left out where there is none: a
//! story says nothing that the history does not show.

use super::beats::{self, Failure, failure_before};
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

/// How a stay ended, and when: `left at 6000 ms`.
pub(crate) fn ended(view: &View<'_>, hold: &Hold) -> String {
    match hold.end {
        End::Left(end) => format!("left at {}", ms(view, end.at)),
        End::Aborted(end) => format!("aborted at {}", ms(view, end.at)),
        End::Died { sure, gone, .. } if sure.at == gone.at => {
            format!("died at {}", ms(view, gone.at))
        }
        End::Died { sure, gone, .. } => format!(
            "died (last seen at {}, dead for certain at {})",
            ms(view, sure.at),
            ms(view, gone.at)
        ),
        End::Open(end) => {
            format!("was inside to the end of the run, which was at {}", ms(view, end.at))
        }
    }
}

/// ` Its beats failed from 301 ms on (utimes on beat: ENOSPC); the last that worked was at 1 ms.`
/// Says what there was up to `until`; nothing for a lock without a beat.
pub(crate) fn beats(view: &View<'_>, hold: &Hold, until: Point) -> String {
    if view.trial.plan.files.heartbeat.is_empty() {
        return String::new();
    }
    let failure = failure_before(view, hold, until.seq);
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
            what_failed(&failure),
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

/// ` On disk …`: what had become of a stay's files when another entered.
pub(crate) fn disk_when_entered(view: &View<'_>, owner: &Hold, heir: &Hold) -> String {
    let disk = view.ledger.when_entered(owner, heir);
    on_disk(view, owner, disk, &format!("when {} entered", heir.role))
}

/// ` On disk …`: what had become of a stay's files by its end.
pub(crate) fn disk_when_over(view: &View<'_>, owner: &Hold) -> String {
    let when = format!("when the stay of {} ended", owner.role);
    on_disk(view, owner, view.ledger.when_over(owner), &when)
}

fn on_disk(view: &View<'_>, owner: &Hold, disk: Option<&OnDisk>, when: &str) -> String {
    let Some(disk) = disk else { return String::new() };
    let Some(path) = disk.path.as_deref() else {
        return format!(" On disk {when}: no lock file that {} was seen to make.", owner.role);
    };
    let mut facts = Vec::new();
    if let Some((at, number)) = disk.struck {
        let act = view.trial.plan.events.iter().find(|act| act.number == number);
        let text = act.map_or(String::new(), |act| format!(" (`{}`)", act.text));
        facts.push(format!("event {number}{text} had removed it at {}", ms(view, at.at)));
    }
    if let Some(lost) = &disk.lost {
        facts.push(format!(
            "{} had {} {}, which was {}'s, at {}",
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
    let facts = facts.join(", and ");
    format!(" On disk {when}: the lock of {} was {}; {facts}.", owner.role, shown(path))
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
        None => format!(" {} took the lock for its own: {}.", owner.role, unheard(view, owner)),
    }
}

/// That no word stood while a stay lasted: there was none, or it was taken back.
pub(crate) fn unheard(view: &View<'_>, owner: &Hold) -> String {
    let end = owner.last_end().seq.saturating_add(1);
    match told::first(view, owner, owner.taken.seq, end) {
        Some(told) => {
            format!("what it was told at {} was over or taken back by then", ms(view, told.at))
        }
        None => "it was told nothing while it was inside".to_owned(),
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
