//! Whether a takeover had a reason: nobody steals from the living on the age of a file alone.
//!
//! Pure. Asked of every stay that begins while another certainly is on. The steal is *unproven* if
//! the owner's lock was still on disk then, or another role had taken it away, unless
//! - both have a fencing token: then the resource tells them apart;
//! - the owner had been told before, and not taken back: then the lock had kept its promise;
//! - a third party (an event of the scenario) had removed what the owner had, and no role took away
//!   the rest: whoever comes to a free name steals nothing;
//! - the heir was given a kernel lock on the owner's file: the kernel said that it was free;
//! - the owner had taken the heir's lock away from under it: the heir had been there first, and that
//!   is [`super::integrity`]'s business;
//! - the owner removed its lock itself, has no file of its own, or something unseen moved it.
//!
//! So for a mkdir lock it is the folder that the heir removed before it made its own; for a file
//! lock the record that it overwrote; for a link lock or a rename beat the name that it moved its
//! own file to. For flock(1), where nobody removes anything and the kernel keeps the lock, there is
//! nothing to find. Following the dead is right: their stay is over.

use super::ledger::OnDisk;
use super::view::{Hold, View};
use super::{Check, Doubt, Finding, Kind, story, told};
use crate::plan::ExpectExclusion;

/// How many steals are worth telling of.
const STEALS_MAX: usize = 100;

/// Every takeover from a living owner that nothing excuses, up to a bound.
pub(crate) fn evidence(view: &View<'_>, doubts: &mut Vec<Doubt>) -> Vec<Finding> {
    if view.ledger.is_cut {
        doubts
            .push(Doubt("so many names were moved that nobody can tell whose is what".to_owned()));
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut looked_at = 0;
    let pairs =
        view.holds.iter().flat_map(|owner| view.heirs(owner).map(move |heir| (owner, heir)));
    for (owner, heir) in pairs {
        let Some(disk) = taken_from(view, owner, heir) else { continue };
        looked_at += 1;
        if looked_at > STEALS_MAX {
            doubts.push(Doubt(format!("there were more than {STEALS_MAX} takeovers")));
            break;
        }
        if told::standing(view, owner, heir.taken.seq).is_none() {
            findings.push(unproven(view, owner, heir, disk));
        }
    }
    findings
}

/// What was on disk, if the heir took from the owner what was its own, and no token tells them apart.
fn taken_from<'v>(view: &'v View<'_>, owner: &Hold, heir: &Hold) -> Option<&'v OnDisk> {
    let is_alive = owner.covers(heir.taken.seq);
    let is_fenced = owner.token.is_some() && heir.token.is_some();
    if !is_alive || is_fenced {
        return None;
    }
    let disk = view.ledger.when_entered(owner, heir)?;
    let is_excused = disk.is_kernel_locked || disk.is_heirs_loss;
    (!is_excused && (disk.was_taken() || disk.is_untouched())).then_some(disk)
}

fn unproven(view: &View<'_>, owner: &Hold, heir: &Hold, disk: &OnDisk) -> Finding {
    let until = owner.sure_end().min(heir.sure_end()).max(heir.taken);
    let why = match (&disk.lost, disk.was_taken()) {
        (Some(lost), true) if lost.by == heir.role => {
            format!("{} had taken away what was another's", heir.role)
        }
        (Some(lost), true) => format!(
            "{} came to a free name, but it was {} that had freed it, not its owner",
            heir.role, lost.by
        ),
        _ => format!("the owner's lock was there for {} to see", heir.role),
    };
    let story = format!(
        "{owner_role} was inside from {from} and alive when {heir_role} entered at {entered}.{beats}\
         {disk}{belief} {heir_role} took the lock for free and entered. That was wrong: {why}; the \
         owner lived, no two fencing tokens kept them apart, and an old time on a file proves no \
         death.",
        owner_role = owner.role,
        heir_role = heir.role,
        from = story::ms(view, owner.taken.at),
        entered = story::ms(view, heir.taken.at),
        beats = story::beats(view, owner, heir.taken),
        disk = story::disk_when_entered(view, owner, heir),
        belief = story::belief(view, owner, heir.taken),
    );
    Finding {
        check: Check::Evidence,
        kind: Kind::UnprovenSteal,
        roles: vec![owner.role, heir.role],
        from_ms: view.ms(heir.taken.at),
        overlap_ms: until.at.since(heir.taken.at).as_ms_f64(),
        stopped_ms: view.stopped(owner.role, heir.taken.at, until.at).as_ms_f64(),
        late_writes: 0,
        story,
        // Where the scenario asks nothing of exclusion, two inside is no broken promise.
        violates: view.trial.expect.exclusion != ExpectExclusion::Any,
    }
}
