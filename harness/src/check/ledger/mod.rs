//! Whose files the lock's files are, and what others did to them: kept from the operations alone.
//!
//! Pure. One pass over the events keeps the names below the lock directory, and for each file who
//! made it. [`super::evidence`] and [`super::integrity`] say what of this is wrong.
//!
//! # Whose a file is
//! A *claim* is one role's n-th try at the lock, and the stay that it leads to. A file under a lock
//! path belongs to the claim that created it (`mkdir`, `create`, `symlink`), or that wrote bytes
//! into it on the way in; moving or linking it to another name changes nothing. So it is for
//! - **mkdir locks**: the folder and what is made in it are its maker's, and so is the folder that
//!   the next one makes under the same name: a file is its inode, not its name;
//! - **file locks** and **token files** that are rewritten in place: whoever wrote the record last,
//!   on the way in, has it. Emptying a file writes no record (`O_TRUNC` before `flock` is everyday);
//! - **link locks**: the linked file is its creator's, under each of its names;
//! - **locks that beat by create and rename**: what the owner moves over its own file is its own.
//!   What anybody else moves over it, while inside, is that one's bytes in the place of the owner's
//!   lock: the place stays the owner's;
//! - **recovery locks**: their maker's, who makes and removes them on the way in; they are part of
//!   no stay unless they are there still when it begins.
//!
//! # What counts as gone
//! A claim's files count from its last making of one before it entered: what was made and lost
//! before that, it knew of. What an event of the scenario removes is a third party's doing. Where
//! the operations contradict what is kept here (something unseen moved a file), it is nobody's.

mod entries;
mod keeper;

use std::collections::BTreeMap;

use self::entries::FileId;
use self::keeper::Keeper;
use super::view::{Hold, Point};
use crate::fault::matching::Files;
use crate::history::Event;
use crate::op::OpKind;
use crate::plan::Plan;
use crate::role::Role;

/// How far a role has got when it does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is on its way in, or wants nothing yet: the number of its try.
    Trying(usize),
    /// It is inside: the place of its stay in `View::holds`.
    Inside(usize),
    /// It has left or died, and its release has not returned.
    Leaving(usize),
    /// Its release has returned, and it is to acquire no more.
    Over(usize),
}

/// What was done to another's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// A name of it was removed, moved away, or given to another file.
    Removed,
    /// It was refreshed.
    Refreshed,
}

/// One thing that a role did to the lock of another's stay.
#[derive(Clone, Debug)]
pub(crate) struct Touch {
    pub(crate) at: Point,
    pub(crate) by: Role,
    pub(crate) phase: Phase,
    pub(crate) harm: Harm,
    pub(crate) kind: OpKind,
    pub(crate) path: String,
    /// Whether it is a way in which this role beats.
    pub(crate) is_like_a_beat: bool,
    /// Whose: a place in `View::holds`.
    pub(crate) owner: usize,
    /// When that one had made the file, if it is a file of its own.
    pub(crate) made: Option<Point>,
    file: Option<FileId>,
    /// It was put back, or its owner made another before it entered: no harm was done.
    is_void: bool,
}

/// How a claim lost a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) at: Point,
    pub(crate) by: Role,
    pub(crate) kind: OpKind,
    pub(crate) path: String,
    file: FileId,
}

/// What of a stay's lock was on disk at some point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnDisk {
    /// One of its lock paths, if the stay has a file at all.
    pub(crate) path: Option<String>,
    /// Whether a file of it was still in its place.
    pub(crate) is_there: bool,
    /// What another role took away first.
    pub(crate) lost: Option<Loss>,
    /// The event that removed some of it first.
    pub(crate) struck: Option<(Point, u32)>,
    /// Whether something moved that no operation accounts for.
    pub(crate) is_unclear: bool,
    /// Whether the one who entered had been given a kernel lock on one of its files.
    pub(crate) is_kernel_locked: bool,
    /// Whether the owner had taken away what the one who entered had made.
    pub(crate) is_heirs_loss: bool,
}

impl OnDisk {
    /// Whether another role took it away. What is written over a file that an event struck first
    /// need not have been the lock any more.
    pub(crate) fn was_taken(&self) -> bool {
        self.lost.as_ref().is_some_and(|lost| {
            lost.kind != OpKind::Write || (self.struck.is_none() && !self.is_unclear)
        })
    }

    /// Whether it was there as its owner had made it.
    pub(crate) fn is_untouched(&self) -> bool {
        let is_struck = self.struck.is_some() || self.is_unclear || self.lost.is_some();
        self.is_there && !is_struck
    }
}

/// Everything that a history says about whose files were whose.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    touches: Vec<Touch>,
    /// By the `taken` of the stay that was on and of the one that began.
    meetings: BTreeMap<(u64, u64), OnDisk>,
    /// What became of each stay's files by its end.
    ends: BTreeMap<u64, OnDisk>,
    /// Whether the bound on moved names was hit.
    pub(crate) is_cut: bool,
}

impl Ledger {
    /// Reads the operations of a history.
    pub(crate) fn new(plan: &Plan, files: &Files, events: &[Event], holds: &[Hold]) -> Ledger {
        let mut keeper = Keeper::new(plan, files, holds);
        for event in events {
            keeper.take_in(event);
        }
        keeper.finish()
    }

    /// What each role did to the locks of others, in order, unless it was put right.
    pub(crate) fn touches(&self) -> impl Iterator<Item = &Touch> {
        self.touches.iter().filter(|touch| !touch.is_void)
    }

    /// What of a stay's lock was on disk when another began.
    pub(crate) fn when_entered(&self, on: &Hold, heir: &Hold) -> Option<&OnDisk> {
        self.meetings.get(&(on.taken.seq, heir.taken.seq))
    }

    /// What had become of a stay's lock by its end.
    pub(crate) fn when_over(&self, hold: &Hold) -> Option<&OnDisk> {
        self.ends.get(&hold.taken.seq)
    }
}
