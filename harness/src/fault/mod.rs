//! What goes wrong, for whom, on which file and operation, when.
//!
//! A [`Rule`] is one resolved `[[fault]]` table. [`matching`] turns an operation into a ruling and
//! counts; [`realism`] knows which errno a local file system really gives. Pure: no engine here.

mod errno;
pub mod matching;
pub mod realism;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::op::{Errno, OpKind};
use crate::role::Who;
use crate::time::Nanos;

/// One fault of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its number in the scenario file, from 1.
    pub number: u32,
    /// Whose operations.
    pub who: Who,
    /// On which files.
    pub on: Target,
    /// Which operations.
    pub ops: Ops,
    /// What happens to them.
    pub effect: Effect,
    /// From this moment on.
    pub from: Moment,
    /// Until this moment; `None`: to the end of the run.
    pub until: Option<Moment>,
    /// Which of the matching operations, counted per role and file.
    pub times: Times,
    /// Whether the author says that no local file system is known to do this.
    pub synthetic: bool,
}

/// Which files a fault or an event means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The paths of the subject's `heartbeat`.
    Heartbeat,
    /// The subject's lock path and everything below it.
    Lock,
    /// The lock directory `{dir}`; for a fault, everything below it as well.
    LockDir,
    /// A glob below `{dir}`, relative to it.
    Glob(String),
}

/// Which operations a fault means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ops {
    /// Operations that refresh the lock, as CONTRACTS defines them: of such a kind, onto a
    /// heartbeat path, by a role that is inside.
    pub refresh: bool,
    /// These kinds, wherever the role is.
    pub kinds: Vec<OpKind>,
}

/// What happens to a matching operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The answer is an error; `apply`: it happened all the same.
    Error {
        /// Which error.
        errno: Errno,
        /// Whether the effect happens before the answer.
        apply: bool,
    },
    /// Success is reported, nothing happened.
    Ignore,
    /// It does not return before this.
    Hang(HangEnd),
    /// It is carried out this much later.
    Delay(Nanos),
    /// So many bytes are written, and so many reported.
    Short(u64),
    /// So many bytes are written, all are reported.
    Torn(u64),
    /// The role's process tree is killed in the middle of it.
    Kill,
    /// The role's process tree is stopped for so long, before it.
    Pause(Nanos),
}

/// When a hanging operation returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HangEnd {
    /// At this moment.
    Until(Moment),
    /// After so long.
    After(Nanos),
}

/// Which of the matching operations are hit. Counting starts at 1; ranges are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Times {
    /// Each.
    All,
    /// The first N.
    First(u64),
    /// From the first number to the second.
    Range(u64, u64),
    /// Each N-th.
    Every(u64),
    /// Each `step`-th from the number `first` on, up to the number `last` if there is one.
    Steps {
        /// The first that is hit.
        first: u64,
        /// None after this one is.
        last: Option<u64>,
        /// How many lie between two that are hit, plus one.
        step: u64,
    },
}
