//! Checks: pure functions of a history and of what was promised. One property a file. No clock,
//! no I/O, no engine.

use serde::{Deserialize, Serialize};

use crate::role::Role;

/// What one check found wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// Which kind, a word of CONTRACTS.
    pub kind: Kind,
    /// Who was involved: the displaced or failing one first.
    pub roles: Vec<Role>,
    /// From when, in ms since the holder's first `entered`.
    pub from_ms: f64,
    /// How long two were inside.
    pub overlap_ms: f64,
    /// How much of that the displaced one was stopped.
    pub stopped_ms: f64,
    /// Protected writes of the displaced one while its heir was inside.
    pub late_writes: u64,
    /// One paragraph for a person.
    pub story: String,
    /// Whether it stands against the lock; `fenced` does not where fencing is what was claimed.
    pub violates: bool,
}

/// Which check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Two inside.
    Exclusion,
    /// What the holder did about a failing beat.
    Reaction,
    /// Whether locks become free, and live work lives.
    Liveness,
    /// Whether people were told.
    Visibility,
    /// Whether a takeover had a reason.
    Evidence,
    /// Whether each touched only its own.
    Integrity,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "CONTRACTS.md, \"findings\", defines each word")]
pub enum Kind {
    ToldIgnored,
    ToldLate,
    DoubleHeld,
    Fenced,
    IgnoredFailure,
    Stuck,
    FalseCompromise,
    Crashed,
    Silent,
    Vague,
    UnprovenSteal,
    WrongfulRelease,
    ZombieRefresh,
}

/// How a scenario ended. Ordered by severity, so that `max` merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It could not run here.
    Skipped,
    /// Every check passed, and the run was not empty.
    Held,
    /// Exactly the recorded gap was seen.
    KnownGap,
    /// The run proves nothing.
    Inconclusive,
    /// The lock broke a promise.
    Violated,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The outcome.
    pub outcome: Outcome,
    /// Why, where it is not `held` or `violated`; or what a violation adds to its findings.
    pub reason: Option<String>,
    /// Everything that was found.
    pub findings: Vec<Finding>,
}
