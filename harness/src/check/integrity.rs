//! Whether each touched only its own.
//!
//! Pure. A stay's lock is its own as long as it certainly is on, and, for what its role created on
//! the way in, from then until it entered. What counts is whose bytes and inode were touched
//! ([`super::ledger`]), and what really happened on disk, whatever the process was told.
//!
//! # `wrongful-release`
//! A role removed another's lock, moved it away, put a file in its place, or emptied it:
//! - while it was inside, or between its leaving and the return of its release. So it does not
//!   matter that it had lost its own lock and did not know: what it removed was its successor's. A
//!   release that finds its own folder (or the ghost of it), or nothing, is right;
//! - on its way in, if it did not enter while the other was inside: where it did, the takeover is
//!   judged as one ([`super::evidence`]). An owner that had been told, or that has a fencing token,
//!   may be robbed of its files.
//!
//! Who puts back what it moved away, before anything else is touched, has done nothing.
//!
//! # `zombie-refresh`
//! A role refreshed a heartbeat path that is another's lock: by `utimes`, `write` or `truncate` on
//! the other's file, or by moving, linking or creating a file in its place, while it was inside
//! itself or after it had left. A contender that only looks, or tries whether it may write, is on
//! its way in, and refreshes nothing. A beat through a descriptor of its own file hits its own
//! ghost. Emptying or writing after `left`, by an owner that does not beat so, is its release.

use std::collections::BTreeSet;

use super::ledger::{Harm, Phase, Touch};
use super::view::{Hold, View};
use super::{Check, Doubt, Finding, Kind, story, told};
use crate::op::OpKind;
use crate::role::Role;

/// How many touches of others' locks are worth telling of.
const TOUCHES_MAX: usize = 100;

/// The first time that each role removed, and refreshed, the lock of each other stay.
pub(crate) fn integrity(view: &View<'_>, doubts: &mut Vec<Doubt>) -> Vec<Finding> {
    // A cut ledger is a doubt already; what it knew before it was cut is no less true.
    let mut seen: BTreeSet<(Role, usize, &str)> = BTreeSet::new();
    let mut findings = Vec::new();
    for touch in view.ledger.touches() {
        let kind = kind_of(touch);
        if seen.contains(&(touch.by, touch.owner, kind.as_str())) {
            continue;
        }
        if findings.len() == TOUCHES_MAX {
            doubts.push(Doubt(format!("more than {TOUCHES_MAX} locks of others were touched")));
            break;
        }
        if is_wrong(view, touch) {
            seen.insert((touch.by, touch.owner, kind.as_str()));
            findings.push(finding(view, touch, kind));
        }
    }
    findings
}

fn kind_of(touch: &Touch) -> Kind {
    let is_release = match (touch.harm, touch.phase, touch.kind) {
        (Harm::Removed, _, _) => true,
        (_, Phase::Leaving(_), OpKind::Write | OpKind::Truncate | OpKind::Open) => {
            !touch.is_like_a_beat
        }
        _ => false,
    };
    if is_release { Kind::WrongfulRelease } else { Kind::ZombieRefresh }
}

fn is_wrong(view: &View<'_>, touch: &Touch) -> bool {
    let Phase::Trying(number) = touch.phase else { return true };
    let owner = &view.holds[touch.owner];
    let own = view.holds.iter().filter(|hold| hold.role == touch.by).nth(number);
    // A takeover, which is judged as one.
    let is_takeover = own.is_some_and(|own| owner.covers(own.taken.seq));
    let is_told = || told::standing(view, owner, touch.at.seq).is_some();
    !is_takeover && owner.token.is_none() && !is_told()
}

fn finding(view: &View<'_>, touch: &Touch, kind: Kind) -> Finding {
    let owner = &view.holds[touch.owner];
    let end = owner.sure_end();
    let rest = end.at.since(touch.at.at.max(owner.taken.at));
    let made = match touch.made {
        Some(made) => format!(", which {} had made at {}", owner.role, story::ms(view, made.at)),
        None => format!(", in the lock of {}", owner.role),
    };
    let did = match kind {
        Kind::ZombieRefresh => "refreshed",
        _ => story::took_away(touch.kind),
    };
    let now = match touch.at.seq < owner.taken.seq {
        true => format!("was about to enter, and entered at {}", story::ms(view, owner.taken.at)),
        false => format!("was inside from {}", story::ms(view, owner.taken.at)),
    };
    let harm = match kind {
        Kind::ZombieRefresh => format!(
            "The time on the lock said nothing of {} any more: had it died, its lock would have \
             looked alive",
            owner.role
        ),
        _ => format!("From then on nothing kept others from entering beside {}", owner.role),
    };
    let story = format!(
        "{owner_role} {now}. At {at} {by}{state} {did} {path}{made} ({op}).{disk}{belief} That was \
         wrong: what one has not made, or has lost, is not one's own. {harm}; {owner_role} was inside \
         for another {rest}, and {told}.",
        owner_role = owner.role,
        at = story::ms(view, touch.at.at),
        by = touch.by,
        state = state_of(view, touch),
        path = story::shown(&touch.path),
        op = touch.kind.as_str(),
        disk = own_disk(view, touch),
        belief = own_belief(view, touch),
        told = told_of(view, owner, touch),
    );
    Finding {
        check: Check::Integrity,
        kind,
        roles: vec![touch.by, owner.role],
        from_ms: view.ms(touch.at.at),
        overlap_ms: 0.0,
        stopped_ms: 0.0,
        late_writes: 0,
        story,
        violates: true,
    }
}

/// The stay of the role that touched, if it has had one.
fn own_stay<'v>(view: &'v View<'_>, touch: &Touch) -> Option<&'v Hold> {
    match touch.phase {
        Phase::Trying(_) => None,
        Phase::Inside(own) | Phase::Leaving(own) | Phase::Over(own) => Some(&view.holds[own]),
    }
}

fn state_of(view: &View<'_>, touch: &Touch) -> String {
    let Some(own) = own_stay(view, touch) else {
        return ", on its way in,".to_owned();
    };
    let from = story::ms(view, own.taken.at);
    match touch.phase {
        Phase::Inside(_) => format!(", inside since {from},"),
        _ => format!(", which had entered at {from} and {},", story::ended(view, own)),
    }
}

/// What had become of the lock of the role that touched, by the end of its stay.
fn own_disk(view: &View<'_>, touch: &Touch) -> String {
    match own_stay(view, touch) {
        Some(own) => story::disk_when_over(view, own),
        None => String::new(),
    }
}

/// What the role that touched knew of its own lock then.
fn own_belief(view: &View<'_>, touch: &Touch) -> String {
    let Some(own) = own_stay(view, touch) else { return String::new() };
    match told::standing(view, own, touch.at.seq) {
        Some(told) => format!(
            " {} knew better: it had been told at {}, {} before.",
            touch.by,
            story::ms(view, told.at),
            touch.at.at.since(told.at),
        ),
        None => format!(" {} took it for its own: {}.", touch.by, story::unheard(view, own)),
    }
}

/// Whether the owner heard of it.
fn told_of(view: &View<'_>, owner: &Hold, touch: &Touch) -> String {
    let end = owner.last_end().seq.saturating_add(1);
    match told::between(view, owner, touch.at.seq, end) {
        Some(told) => {
            format!(
                "it was told {} after, at {}",
                told.at.since(touch.at.at),
                story::ms(view, told.at)
            )
        }
        None => "was told nothing after it".to_owned(),
    }
}
