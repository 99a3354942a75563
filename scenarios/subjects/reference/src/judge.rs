//! Whether a contender may take a lock: one table, and a function that is it.
//!
//! Pure. What it is given was seen by module `look`.
//!
//! The *life lock* is a flock(2) that the owner has on its record. Nobody but the kernel can take
//! it from a living process, and the kernel frees it at any death, so on one machine it tells a
//! living owner from a dead one even across PID namespaces. It is asked only where the record says
//! that the owner runs under this kernel: the lock manager of a network file system may keep the
//! locks of a client that is gone.
//!
//! `silent` is how long nothing of the lock has changed, as this contender itself has seen it, on
//! its own monotonic clock. No time stamp of a file is ever compared with a clock, so clock steps,
//! skew and coarse time stamps do no harm, and a contender that was suspended starts late rather
//! than early. The window is stale-after and a beat, by the longer of the owner's settings and the
//! contender's (`Ages::window`): the first look may have come right before a beat.
//!
//! | the lock | life lock | owner's process | silent | action | why |
//! |---|---|---|---|---|---|
//! | none | | | | take | |
//! | not a folder | | | | leave | no lock of this library: whoever made it may have other rules |
//! | of a newer format | | | | leave | its owner may prove its life by means that are not known here |
//! | ours, readable or not | held | | | leave | the kernel says that the owner lives |
//! | readable | free | gone | | clear | the owner is dead, for certain |
//! | readable | free | runs, or cannot be seen | ≥ window | clear | given up by a living process, or the owner cannot be judged |
//! | readable | not asked | any | ≥ window | clear | another machine or boot: cannot be judged |
//! | unreadable | free, or not asked | any | ≥ window | clear | a lock is published with its record, so a third party or a crash of the machine was at it |
//! | any of these four | | | < window | watch | |
//!
//! To clear is to do it under the recovery lock, after all of this was seen once more, and to
//! draw a higher token. Where the owner cannot be judged, and lives after all, that token is what
//! protects the resource.

use std::time::Duration;

/// What is at the lock's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// Something that is not a folder.
    NotAFolder,
    /// A lock of a newer format.
    Future,
    /// A lock whose record can be read.
    Readable,
    /// A folder whose record is missing, empty, torn, or not of this library.
    Unreadable,
}

/// What can be said of the owner's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// It runs.
    Runs,
    /// It does not run any more.
    Gone,
    /// It cannot be seen from here.
    Unseen,
}

/// Whether somebody has the life lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// A process of this kernel.
    Held,
    /// Nobody.
    Free,
    /// It would prove nothing.
    NotAsked,
}

/// Everything that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) found: Found,
    pub(crate) life: Life,
    pub(crate) process: Process,
}

/// What a contender does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The lock is free.
    Take,
    /// Its remains may be moved away, and it may be taken.
    Clear,
    /// It may be, once it was silent for the whole window.
    Watch,
    /// It is not to be touched.
    Leave,
}

/// The table above.
pub(crate) fn judge(seen: Seen, silent: Duration, window: Duration) -> Action {
    match (seen.found, seen.life, seen.process) {
        (Found::Nothing, ..) => Action::Take,
        (Found::NotAFolder | Found::Future, ..) => Action::Leave,
        (Found::Readable | Found::Unreadable, Life::Held, _) => Action::Leave,
        (Found::Readable, Life::Free, Process::Gone) => Action::Clear,
        (Found::Readable | Found::Unreadable, _, _) if silent >= window => Action::Clear,
        (Found::Readable | Found::Unreadable, _, _) => Action::Watch,
    }
}

impl Seen {
    /// Why the lock cannot be had now, for a message.
    pub(crate) fn why_not(self) -> &'static str {
        match (self.found, self.life) {
            (Found::Nothing, _) => "another process is taking it",
            (Found::NotAFolder, _) => {
                "what is there is no folder, so no lock of this library; remove it by hand if \
                 nobody uses it"
            }
            (Found::Future, _) => {
                "its record is of a newer format: use the newer library, or remove the lock by \
                 hand if its owner is dead"
            }
            (_, Life::Held) => "its owner lives",
            (Found::Readable, _) => "its owner cannot be judged, and it was not silent for long",
            (Found::Unreadable, _) => "its record cannot be read, and it was not silent for long",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOUND: [Found; 5] =
        [Found::Nothing, Found::NotAFolder, Found::Future, Found::Readable, Found::Unreadable];
    const LIVES: [Life; 3] = [Life::Held, Life::Free, Life::NotAsked];
    const PROCESSES: [Process; 3] = [Process::Runs, Process::Gone, Process::Unseen];

    proptest! {
        /// Each row of the table is a rule of its own, and one of them fits.
        #[test]
        fn every_row_holds(
            found in proptest::sample::select(&FOUND[..]),
            life in proptest::sample::select(&LIVES[..]),
            process in proptest::sample::select(&PROCESSES[..]),
            silent in 0u64..200, window in 1u64..200,
        ) {
            let is_ours = matches!(found, Found::Readable | Found::Unreadable);
            let is_readable = found == Found::Readable;
            let is_dead = is_readable && life == Life::Free && process == Process::Gone;
            let is_doubtful = is_ours && life != Life::Held && !is_dead;
            let rows = [
                (found == Found::Nothing, Action::Take),
                (found == Found::NotAFolder, Action::Leave),
                (found == Found::Future, Action::Leave),
                (is_ours && life == Life::Held, Action::Leave),
                (is_dead, Action::Clear),
                (is_doubtful && silent >= window, Action::Clear),
                (is_doubtful && silent < window, Action::Watch),
            ];
            let fitting: Vec<Action> =
                rows.into_iter().filter(|(fits, _)| *fits).map(|(_, action)| action).collect();
            let ms = Duration::from_millis;
            let judged = judge(Seen { found, life, process }, ms(silent), ms(window));
            prop_assert_eq!(fitting, vec![judged]);
        }

        /// Whatever else is seen, nobody is robbed whom the kernel says to live.
        #[test]
        fn age_alone_never_takes_a_living_owners_lock(
            found in proptest::sample::select(&FOUND[1..]),
            process in proptest::sample::select(&PROCESSES[..]),
            silent in any::<u32>(), window in any::<u32>(),
        ) {
            let seen = Seen { found, life: Life::Held, process };
            let ms = |ms: u32| Duration::from_millis(ms.into());
            prop_assert_eq!(judge(seen, ms(silent), ms(window)), Action::Leave);
        }
    }
}
