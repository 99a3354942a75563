//! A run's choices as data, and the promises that its history is held against.
//!
//! Everything here is resolved: durations are nanoseconds, roles are named one by one, globs are
//! relative to the lock directory. `{dir}`-like placeholders in `argv` and `env` stay until the
//! engine knows the paths ([`Places::fill_in`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::{Rule, Target};
use crate::moment::Moment;
use crate::role::{Role, Who};
use crate::time::Nanos;

/// One run: the plan, and what is expected of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// `family/name`.
    pub scenario: String,
    /// `name@variant`.
    pub subject: String,
    /// What the engine carries out.
    pub plan: Plan,
    /// What the implementer promises.
    pub claims: Claims,
    /// What the scenario expects.
    pub expect: Expect,
    /// The subject's recorded gaps that match this scenario.
    pub gaps: Vec<KnownGap>,
    /// What a reader should know: unrealistic errnos, fallbacks of lengths.
    pub warnings: Vec<String>,
}

/// Everything an engine needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The schedule's seed; 0 is the dull one.
    pub seed: u64,
    /// The subject's lengths.
    pub timing: Timing,
    /// Which files are the lock's.
    pub files: LockFiles,
    /// Who plays.
    pub cast: Vec<Part>,
    /// What surrounds the run.
    pub world: World,
    /// What goes wrong.
    pub faults: Vec<Rule>,
    /// What the harness does.
    pub events: Vec<Act>,
    /// How much a run may take.
    pub bounds: Bounds,
}

/// The subject's lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// The age at which a contender may think the owner is dead.
    pub stale: Option<Nanos>,
    /// How often the lock is refreshed.
    pub beat: Option<Nanos>,
    /// What "1 stale" means for lengths.
    pub stale_unit: Nanos,
    /// What "1 beat" means for lengths.
    pub beat_unit: Nanos,
    /// Time between protected writes.
    pub tick: Nanos,
}

/// Which files below the lock directory are the lock's. Globs, relative to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockFiles {
    /// What the program is given as `DEADBEAT_LOCK`.
    pub name: String,
    /// The lock itself; everything below it belongs to it.
    pub lock: Vec<String>,
    /// The files a beat refreshes.
    pub heartbeat: Vec<String>,
}

/// One role's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which role.
    pub role: Role,
    /// The program and its arguments, with placeholders.
    pub argv: Vec<String>,
    /// Added to the environment, with placeholders.
    pub env: BTreeMap<String, String>,
    /// When it starts.
    pub starts: Moment,
    /// How long it stays inside.
    pub hold: Nanos,
    /// How long it tries.
    pub patience: Nanos,
    /// How many acquisitions it tries.
    pub acquires: u32,
    /// How long its main thread is blocked right after it entered.
    pub stall: Option<Nanos>,
    /// How long after it entered the same process tries to take the same lock once more.
    pub again: Option<Nanos>,
}

/// What surrounds the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// A real small file system: free bytes, free inodes.
    pub space: Option<Space>,
    /// What `statfs` shows instead.
    pub statfs: Option<Space>,
    /// Roles run as this user when deadbeat is root.
    pub user: Option<u32>,
    /// Roles that run as another one than `user`. Where there are any, all share the group of
    /// `user`, with umask 002, as those do who share a lock folder.
    pub users: BTreeMap<Role, u32>,
    /// PID namespaces.
    pub pids: Pids,
    /// Whether each role has a host name of its own.
    pub separate_hostname: bool,
    /// Offsets of a role's wall clock, in signed nanoseconds.
    pub clock: BTreeMap<Role, i64>,
    /// The file system's personality.
    pub files: FilePersonality,
}

/// Free bytes and inodes; `None` leaves the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes.
    pub free: Option<u64>,
    /// Inodes.
    pub inodes: Option<u64>,
}

/// How the roles' PID namespaces relate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pids {
    /// One namespace for all.
    #[default]
    Shared,
    /// One a role; each role has the same pid in its own, and is not its init: who looks for an
    /// owner by pid finds itself.
    Separate,
    /// One a role, and no two roles have the same pid: an owner's pid is nobody's where others look.
    Foreign,
    /// One a role, of which its first process is the init, as in a container.
    #[serde(rename = "pid-1")]
    PidOne,
    /// One for all; a dead role's pid is given to an unrelated process.
    Reused,
}

/// How the file system differs from a plain local one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePersonality {
    /// Timestamps are cut to multiples of this.
    pub mtime_granularity: Option<Nanos>,
    /// Attributes may be this old, as on NFS.
    pub attr_cache: Option<Nanos>,
    /// Handles of files that others removed answer ESTALE.
    pub estale: bool,
    /// `link` fails (EPERM).
    pub no_links: bool,
}

/// One `[[event]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// Its number in the scenario file, from 1.
    pub number: u32,
    /// When.
    pub at: Moment,
    /// What.
    pub what: Deed,
    /// As the scenario file puts it.
    pub text: String,
}

/// What the harness does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// Recursively, every match.
    Remove(Target),
    /// Moves a match to a name below `{dir}`.
    Rename(Target, String),
    /// Sets the mode.
    Chmod(u32, Target),
    /// Sets the owner.
    Chown(u32, Target),
    /// Sets the immutable attribute.
    Immutable(Target),
    /// Cuts to so many bytes.
    Truncate(Target, u64),
    /// Overwrites with this text (default: bytes that are no record).
    Corrupt(Target, Option<String>),
    /// Sets the mtime to now, or to so long ago.
    Touch(Target, Nanos),
    /// Uses up the blocks but for so many bytes.
    FillBlocks(u64),
    /// Uses up the inodes but for so many.
    FillInodes(u64),
    /// Frees what was filled.
    Free,
    /// Makes the file system read-only (`true`) or writable.
    Remount {
        /// Read-only or not.
        read_only: bool,
    },
    /// Stops a role's process tree, or only its first process.
    Pause(Who, Reach),
    /// Lets it go on.
    Resume(Who),
    /// Kills it.
    Kill(Who, Reach),
    /// Starts it, now, again if it is dead.
    Start(Who),
    /// No thread of it runs for so long.
    Stall(Who, Nanos),
    /// Steps a role's wall clock by signed nanoseconds.
    StepClock(Who, i64),
    /// All roles stop; monotonic time stops with them.
    Suspend(Nanos),
    /// Ends every active fault and undoes chmod, chown, immutable, fill and remount.
    Heal,
}

/// How much of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// The whole process tree.
    Tree,
    /// The first process only.
    Main,
}

/// How much a run may take. Reaching one makes it inconclusive, and the message names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Real time.
    pub wall: Nanos,
    /// Events in the history.
    pub events: u64,
    /// Bytes of output kept for each role.
    pub output: u64,
    /// Processes and threads of one run.
    pub processes: u64,
}

/// What the implementer promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Strict, or fenced.
    pub exclusion: Exclusion,
    /// What the holder does when its beat keeps failing.
    pub on_failure: Vec<Reaction>,
    /// A dead owner's lock is free within this; `None` = never.
    pub dead_owner_takeover: Option<Nanos>,
    /// What a message about a failed beat names.
    pub warns: Vec<Detail>,
}

/// How two processes are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exclusion {
    /// Never two inside.
    Strict,
    /// The resource rejects the old token.
    Fenced,
}

/// What a holder can do when its beat keeps failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reaction {
    /// It stops its protected work.
    Abort,
    /// It gives the lock back.
    Release,
    /// It says that the lock is unhealthy.
    MarkUnhealthy,
    /// It stays to the end of its hold, without a word: the fault heals.
    Finish,
}

/// What a message about a failed beat can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Detail {
    /// The lock's or the beat file's path.
    LockPath,
    /// What failed.
    Operation,
    /// With which error.
    Errno,
}

/// What the scenario expects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// What is asked of exclusion.
    pub exclusion: ExpectExclusion,
    /// Any of these of the holder; empty: nothing is asked.
    pub holder: Vec<Reaction>,
    /// All of these, in the log or in a `degraded` or `lost` line; empty: nothing is asked.
    pub warning: Vec<Detail>,
    /// The heir must get in.
    pub takeover: Option<Takeover>,
}

/// What a scenario asks of exclusion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectExclusion {
    /// Never two inside.
    Held,
    /// An overlap is fine if the holder was told before.
    Told,
    /// Nothing.
    Any,
}

/// The heir must get in within a length of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// From when.
    pub after: Moment,
    /// How soon.
    pub within: Nanos,
}

/// A recorded gap of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownGap {
    /// The glob of scenarios it stands for.
    pub scenario: String,
    /// Exactly these finding kinds.
    pub findings: Vec<String>,
    /// Why it is so.
    pub reason: String,
    /// Where it is discussed.
    pub issue: Option<String>,
    /// `YYYY-MM-DD`.
    pub review_by: String,
}

/// The paths that placeholders stand for.
#[derive(Clone, Debug)]
pub struct Places {
    /// `{dir}`.
    pub dir: String,
    /// `{lock}`.
    pub lock: String,
    /// `{subject}`.
    pub subject: String,
    /// `{deadbeat}`.
    pub deadbeat: String,
}

impl Places {
    /// Replaces the placeholders of one argument or environment value.
    #[must_use]
    pub fn fill_in(&self, text: &str, timing: &Timing) -> String {
        let ms = |length: Option<Nanos>| length.map_or(String::new(), |n| n.as_ms().to_string());
        text.replace("{dir}", &self.dir)
            .replace("{lock}", &self.lock)
            .replace("{subject}", &self.subject)
            .replace("{deadbeat}", &self.deadbeat)
            .replace("{stale-ms}", &ms(timing.stale))
            .replace("{beat-ms}", &ms(timing.beat))
    }
}
