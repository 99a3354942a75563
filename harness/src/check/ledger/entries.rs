//! What the ledger is kept in: files, what each claim has on disk, and the roles.

use std::collections::BTreeSet;

use super::{Loss, Phase};
use crate::check::view::Point;
use crate::op::OpKind;
use crate::role::Role;

/// One role's n-th try at the lock, counted from 0, and the stay that it leads to.
pub(super) type Claim = (Role, usize);

/// A place in the list of all files that were seen.
pub(super) type FileId = usize;

/// One file, for as long as anybody knows it.
#[derive(Debug)]
pub(super) struct File {
    pub(super) ino: Option<u64>,
    pub(super) created: Option<Claim>,
    /// Whose bytes they are.
    pub(super) maker: Option<Claim>,
    /// Whose lock it is in the place of.
    pub(super) stands_for: Option<Claim>,
    pub(super) made: Point,
    /// How many names it has under lock paths.
    pub(super) places: usize,
}

/// What one claim has on disk.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) path: Option<String>,
    /// How many of its files have a name under a lock path.
    pub(super) standing: usize,
    pub(super) lost: Option<Loss>,
    pub(super) struck: Option<(Point, u32)>,
    pub(super) is_unclear: bool,
    /// Touches that count only if it makes no other file before it enters.
    pub(super) before_entering: Vec<usize>,
}

/// What is known of a role.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) phase: Phase,
    /// How many stays of it have begun.
    pub(super) begun: usize,
    /// The files on which it was given a kernel lock in this try.
    pub(super) locked: BTreeSet<FileId>,
    /// The kinds of operation by which it refreshed the heartbeat while inside, or tried to.
    pub(super) beats: BTreeSet<OpKind>,
}
