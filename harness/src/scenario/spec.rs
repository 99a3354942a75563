//! What a scenario file and a subject file say, before they are resolved against each other.
//!
//! Lengths are still sums of seconds, beats and stale ages; roles may still be groups; a variant
//! is already merged with the plain subject.

use std::collections::BTreeMap;

use super::feature::Feature;
use crate::fault::{Effect, Ops, Target, Times};
use crate::moment::Anchor;
use crate::plan::{
    Claims, Deed, Detail, ExpectExclusion, FilePersonality, KnownGap, LockFiles, Pids, Reaction,
    Space, Timing,
};
use crate::role::Who;
use crate::time::Nanos;

/// A length that may depend on the subject: a fixed time, plus beats, plus stale ages.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Length {
    /// The fixed part.
    pub fixed: Nanos,
    /// So many beats.
    pub beats: f64,
    /// So many stale ages.
    pub stales: f64,
}

impl Length {
    /// No length at all.
    pub const ZERO: Length = Length { fixed: Nanos::ZERO, beats: 0.0, stales: 0.0 };

    /// So many stale ages.
    #[must_use]
    pub const fn stales(stales: f64) -> Length {
        Length { fixed: Nanos::ZERO, beats: 0.0, stales }
    }

    /// Both, one after the other.
    #[must_use]
    pub fn plus(self, other: Length) -> Length {
        Length {
            fixed: self.fixed + other.fixed,
            beats: self.beats + other.beats,
            stales: self.stales + other.stales,
        }
    }

    /// The length for a subject with these lengths.
    #[must_use]
    pub fn resolve(self, timing: &Timing) -> Nanos {
        self.fixed + timing.beat_unit.scaled(self.beats) + timing.stale_unit.scaled(self.stales)
    }

    /// Whether it is zero for every subject.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.fixed == Nanos::ZERO && self.beats <= 0.0 && self.stales <= 0.0
    }

    /// Whether it is at most `other` for every subject.
    #[must_use]
    pub fn never_exceeds(self, other: Length) -> bool {
        self.fixed <= other.fixed && self.beats <= other.beats && self.stales <= other.stales
    }
}

/// An anchor, and an unresolved length after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct When {
    /// What it counts from.
    pub anchor: Anchor,
    /// How long after it.
    pub offset: Length,
}

macro_rules! checklist {
    ($($(#[$doc:meta])* $name:ident = $text:literal: $must:literal),+ $(,)?) => {
        /// One line of the runbook's checklist that a scenario can cover.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Covers { $($(#[$doc])* $name),+ }

        impl Covers {
            /// Every line, in the order of CONTRACTS.
            pub const ALL: &[Covers] = &[$(Covers::$name),+];

            /// Its id.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Covers::$name => $text),+ }
            }

            /// What must be true.
            #[must_use]
            pub const fn must_be_true(self) -> &'static str {
                match self { $(Covers::$name => $must),+ }
            }
        }
    };
}

checklist! {
    /// `failure-logged`
    FailureLogged = "failure-logged":
        "a failed beat is logged with lock path, beat path, operation and error",
    /// `cause-classified`
    CauseClassified = "cause-classified":
        "ENOSPC (blocks, inodes), EDQUOT, EIO, EROFS, EACCES, EPERM and a missing path are told \
         apart from a plain stale timeout",
    /// `degradation`
    Degradation = "degradation": "a failed beat is a lock-health state, not a success",
    /// `holder-reaction`
    HolderReaction = "holder-reaction": "the holder aborts, releases or marks the lock unhealthy",
    /// `protected-writes-stop`
    ProtectedWritesStop = "protected-writes-stop":
        "no protected write goes on unprotected after a failed beat",
    /// `steal-evidence`
    StealEvidence = "steal-evidence":
        "nobody steals on mtime alone: dead-owner evidence, a fencing token or a recovery lock",
    /// `two-contenders`
    TwoContenders = "two-contenders":
        "holder's beat fails, a second process polls, both are never inside",
    /// `disk-status`
    DiskStatus = "disk-status":
        "file-system and inode status of the lock folder are surfaced",
    /// `recovery`
    Recovery = "recovery":
        "a dead owner's lock is taken over, and a healed fault kills nobody",
    /// `ownership`
    Ownership = "ownership": "release and beat touch only what is one's own",
}

/// A parsed scenario file.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// `family/name`, from where the file lies.
    pub name: String,
    /// The file, as it was named to the parser.
    pub file: String,
    /// One line: what it is.
    pub title: String,
    /// Why it exists.
    pub why: String,
    /// Which lines of the checklist it covers.
    pub covers: Vec<Covers>,
    /// Free words to select by.
    pub tags: Vec<String>,
    /// What it needs of a subject: one that lacks any of it skips the scenario.
    pub needs: Vec<Feature>,
    /// The holder.
    pub holder: CastPart,
    /// The contenders, from number 1 on.
    pub contenders: Vec<CastPart>,
    /// What surrounds the run.
    pub world: WorldSpec,
    /// What goes wrong, in file order.
    pub faults: Vec<FaultSpec>,
    /// What the harness does, in file order.
    pub events: Vec<EventSpec>,
    /// What is expected.
    pub expect: ExpectSpec,
}

impl Scenario {
    /// The part of the name before the slash: the folder.
    #[must_use]
    pub fn family(&self) -> &str {
        self.name.split_once('/').map_or("", |(family, _)| family)
    }
}

/// One role of the cast. What is `None` has a default that depends on the subject.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CastPart {
    /// When it starts.
    pub starts: Option<When>,
    /// How long it stays inside.
    pub hold: Option<Length>,
    /// How long it tries.
    pub patience: Option<Length>,
    /// How many acquisitions it tries.
    pub acquires: Option<u32>,
    /// How long its main thread is blocked right after it entered.
    pub stall: Option<Length>,
    /// How long after it entered the same process tries to take the same lock once more.
    pub again: Option<Length>,
    /// The stale age that it is set to, where that is not the subject's.
    pub stale: Option<Length>,
    /// How often it beats, where that is not the subject's.
    pub beat: Option<Length>,
    /// The subject's variant that plays it, where it is not the one under test.
    pub variant: Option<String>,
}

impl CastPart {
    /// `self`, with the gaps filled from `base`.
    #[must_use]
    pub fn over(self, base: &CastPart) -> CastPart {
        CastPart {
            starts: self.starts.or(base.starts),
            hold: self.hold.or(base.hold),
            patience: self.patience.or(base.patience),
            acquires: self.acquires.or(base.acquires),
            stall: self.stall.or(base.stall),
            again: self.again.or(base.again),
            stale: self.stale.or(base.stale),
            beat: self.beat.or(base.beat),
            variant: self.variant.or_else(|| base.variant.clone()),
        }
    }
}

/// `[world]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorldSpec {
    /// A real small file system.
    pub space: Option<Space>,
    /// What `statfs` shows instead.
    pub statfs: Option<Space>,
    /// Roles run as this user when deadbeat is root.
    pub user: Option<u32>,
    /// Who runs as another user than that.
    pub users: Vec<(Who, u32)>,
    /// PID namespaces.
    pub pids: Pids,
    /// Whether each role has a host name of its own.
    pub separate_hostname: bool,
    /// Offsets of wall clocks: whose, whether it is behind, and how far.
    pub clock: Vec<(Who, bool, Length)>,
    /// The file system's personality; its lengths are fixed ones.
    pub files: FilePersonality,
}

/// One `[[fault]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSpec {
    /// Whose operations.
    pub who: Who,
    /// On which files.
    pub on: Target,
    /// Which operations.
    pub ops: Ops,
    /// What happens to them.
    pub effect: EffectSpec,
    /// From when.
    pub from: When,
    /// Until when.
    pub until: Option<When>,
    /// Which of them.
    pub times: Times,
    /// Whether the author says that no local file system is known to do this.
    pub synthetic: bool,
}

/// An effect whose lengths are not resolved yet.
#[derive(Clone, Debug, PartialEq)]
pub enum EffectSpec {
    /// One without a length.
    Plain(Effect),
    /// It hangs until a moment.
    HangUntil(When),
    /// It hangs for a length.
    HangFor(Length),
    /// It is late.
    Delay(Length),
    /// The role stops before it.
    Pause(Length),
}

/// One `[[event]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSpec {
    /// When.
    pub at: When,
    /// What.
    pub what: DeedSpec,
    /// As the file puts it.
    pub text: String,
}

/// A deed whose lengths are not resolved yet.
#[derive(Clone, Debug, PartialEq)]
pub enum DeedSpec {
    /// One without a length.
    Plain(Deed),
    /// `touch PATH [back D]`.
    Touch(Target, Length),
    /// `stall ROLE D`.
    Stall(Who, Length),
    /// `step-clock ROLE D`; `true`: backwards.
    StepClock(Who, bool, Length),
    /// `suspend D`.
    Suspend(Length),
}

/// `[expect]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectSpec {
    /// What is asked of exclusion.
    pub exclusion: ExpectExclusion,
    /// Any of these of the holder.
    pub holder: Vec<Reaction>,
    /// All of these of the warning.
    pub warning: Vec<Detail>,
    /// The heir must get in.
    pub takeover: Option<TakeoverSpec>,
}

/// The heir must get in within a length of a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TakeoverSpec {
    /// From when.
    pub after: When,
    /// How soon.
    pub within: Length,
}

/// A parsed subject file.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Its name, without a variant.
    pub name: String,
    /// The version of the lock under test.
    pub version: String,
    /// One line: what it is.
    pub summary: String,
    /// How its folder is made ready.
    pub setup: Setup,
    /// Its variants, each complete; the plain subject is `default`.
    pub variants: BTreeMap<String, Variant>,
}

impl Subject {
    /// The name of the plain subject's variant.
    pub const DEFAULT: &str = "default";
}

/// `[setup]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// What the machine must have.
    pub needs: Vec<Need>,
    /// What is run once in a cached copy of the folder; empty: nothing.
    pub argv: Vec<String>,
}

/// Something that a subject needs of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A program, of at least this version as `PROGRAM --version` tells it.
    Program {
        /// Its name or path.
        name: String,
        /// The lowest version that will do.
        at_least: Option<String>,
    },
    /// To be root.
    Root,
}

/// One complete variant of a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// How a holder is started.
    pub holder: Launch,
    /// How a contender is started.
    pub contender: Launch,
    /// Which files are the lock's.
    pub files: LockFiles,
    /// Its lengths.
    pub timing: TimingSpec,
    /// What its implementer promises.
    pub claims: Claims,
    /// What it does not have.
    pub lacks: Vec<Feature>,
    /// Its recorded gaps.
    pub gaps: Vec<KnownGap>,
    /// What is wrong with it on purpose, if it is there to be caught.
    pub planted: Option<Planted>,
}

/// A bug that was planted, so that one sees that it is caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    /// Its class: scenarios that carry this as a tag were written for it.
    pub class: String,
    /// The variant that it goes on from, where that one is not sound by itself: what it shows as
    /// well is not what this one is caught by.
    pub base: Option<String>,
    /// The bug, in a line.
    pub bug: String,
    /// Where it was seen, or why it is likely.
    pub seen: String,
    /// The run that every gate run makes of it.
    pub canary: Option<Canary>,
}

/// A run that must show a planted bug before anything else is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// The scenario.
    pub scenario: String,
    /// What it must show, exactly.
    pub shows: Vec<String>,
    /// Whether it is short enough for an engine that runs in real time.
    pub real_time: bool,
}

/// How a process is started. Placeholders stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
}

/// `[timing]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimingSpec {
    /// The age at which a contender may think the owner is dead.
    pub stale: Option<Nanos>,
    /// How often the lock is refreshed.
    pub beat: Option<Nanos>,
    /// The library's own patience.
    pub acquire_timeout: Option<Nanos>,
    /// What "1 stale" means where there is no stale age.
    pub unit: Option<Nanos>,
}
