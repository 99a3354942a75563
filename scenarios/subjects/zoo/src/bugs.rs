//! What can be wrong with the lock. Each bug is planted at one place, which asks for it by name.

use rustix::io::Errno;

/// One bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Gives out no fencing token.
    Unfenced,
    /// Takes a beat that failed for one that worked.
    SwallowsErrors,
    /// Takes a beat that failed with this errno for one that worked.
    Ignores(Errno),
    /// Takes a beat for good whose time did not move on disk.
    TrustsTheAnswer,
    /// Ends beating, and watching, at the first failed beat; tells nobody.
    DiesOfAnError,
    /// Gives the lock up at the first failed beat.
    GivesUpAtOnce,
    /// Gives the lock up at the third failed beat of its life, however many worked in between.
    CountsForLife,
    /// Goes on without a beat where no thread can be had.
    IgnoresMissingThread,
    /// All acquisitions of a process share one beat; one that fails ends it.
    SharesTheBeat,
    /// Only the first acquisition of a process gets a beat.
    BeatsOnce,
    /// Nobody watches whether beats come back.
    NoWatchdog,
    /// Tells of trouble only long after others may have taken the lock.
    TellsLate,
    /// Says that the lock is in trouble, and never that it is lost.
    NeverGivesUp,
    /// Tells of trouble without saying what, where and why.
    SaysLittle,
    /// Beats on the thread that works.
    BeatsInMain,
    /// Looks whether the lock is its own, and then refreshes what is at the path.
    RefreshesByPath,
    /// Refreshes what is at the path, whose ever it is.
    RefreshesBlindly,
    /// Refreshes by path, and makes the file where it is missing.
    RecreatesTheBeat,
    /// Takes the lock for its own while its names exist.
    ExistsIsMine,
    /// Two beats within one tick of the file's clock leave the same time.
    IgnoresCoarseTimes,
    /// Judges by the age of the beat's file, by the file server's clock.
    TrustsFileTimes,
    /// Judges by the age of the beat's file, by its own clock.
    TrustsOwnClock,
    /// Measures silence on the clock that people set.
    WaitsOnWallClock,
    /// Judges by its own settings, not by the owner's.
    OwnSettings,
    /// Waits for a fifth of the stale age.
    TooEager,
    /// Counts from its first look, though the lock beat meanwhile.
    NeverLooksAgain,
    /// Looks at a name's cached attributes, where opening the file would ask the server.
    LooksAtCache,
    /// Takes an error of a look for a lock that nobody has.
    ErrorsMeanGone,
    /// Panics at an error of a look.
    PanicsOnErrors,
    /// Knows an owner by its pid alone.
    PidAlone,
    /// Knows an owner by pid and host name, whatever namespace and boot they are of.
    HostNameAlone,
    /// Waits for a process that has a dead owner's pid.
    TrustsReusedPid,
    /// Asks kill(2) whether the owner runs, and takes every error for a no.
    AsksByKill,
    /// Takes no lock of a dead owner, ever.
    NeverTakesOver,
    /// Waits many stale ages for an owner that is dead for certain.
    WaitsForTheDead,
    /// Makes the lock piece by piece where everybody sees it, and clears an unreadable one at once.
    HalfMade,
    /// Makes the lock piece by piece where everybody sees it, and waits for an unreadable one.
    EmptyBlocks,
    /// Takes an acquisition whose answer was lost for one that failed.
    BelievesTheAnswer,
    /// Clears and takes without a lock around it, by what it saw before.
    NoRecoveryLock,
    /// The lock around clearing and taking is a folder, which is broken by its age.
    BreaksTheBreaker,
    /// Counts tokens from 1 where their file cannot be read.
    ForgetsTokens,
    /// Releases whatever is at the path.
    ReleasesBlindly,
}

/// The bugs of one lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bugs(&'static [Bug]);

impl Bugs {
    #[cfg(test)]
    pub(crate) const fn none() -> Bugs {
        Bugs(&[])
    }

    pub(crate) const fn new(bugs: &'static [Bug]) -> Bugs {
        Bugs(bugs)
    }

    pub(crate) fn has(self, bug: Bug) -> bool {
        self.0.contains(&bug)
    }
}
