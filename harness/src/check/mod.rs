//! Checks: pure functions of a history and of what was promised. One property a file. No clock,
//! no I/O, no engine.

mod beats;
mod evidence;
mod exclusion;
pub mod gaps;
mod integrity;
mod ledger;
mod liveness;
mod mention;
mod reaction;
#[cfg(test)]
pub(crate) mod script;
mod story;
#[cfg(test)]
mod tests;
mod told;
mod vacuity;
mod view;
mod visibility;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::view::View;
use crate::history::{History, TOO_SLOW, What};
use crate::plan::Trial;
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
    /// Protected writes of the displaced one, after its heir had entered, that were accepted.
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

/// A reason why a run proves less than it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt(pub(crate) String);

/// One check: what it finds, and what it makes one doubt.
pub(crate) type Judge = fn(&View<'_>, &mut Vec<Doubt>) -> Vec<Finding>;

/// Every check by its name, in the order in which findings are shown.
pub(crate) const CHECKS: &[(&str, Judge)] = &[
    ("vacuity", vacuity::vacuity),
    ("exclusion", exclusion::exclusion),
    ("evidence", evidence::evidence),
    ("integrity", integrity::integrity),
    ("reaction", reaction::reaction),
    ("liveness", liveness::liveness),
    ("visibility", visibility::visibility),
];

/// Holds a history against what was promised. `today` is `YYYY-MM-DD`, for gaps to be reviewed.
///
/// A finding that stands is worse than any doubt; a doubt is worse than a recorded gap.
#[must_use]
pub fn judge(trial: &Trial, history: &History, today: &str) -> Verdict {
    judge_by(CHECKS, trial, history, today)
}

/// The same by some of the checks.
pub(crate) fn judge_by(
    checks: &[(&str, Judge)],
    trial: &Trial,
    history: &History,
    today: &str,
) -> Verdict {
    let view = View::new(trial, history);
    let mut doubts = Vec::new();
    let mut findings = Vec::new();
    for (_, check) in checks {
        findings.extend(check(&view, &mut doubts));
    }
    let mut verdict = Verdict { outcome: Outcome::Held, reason: None, findings };
    if !doubts.is_empty() {
        verdict.outcome = Outcome::Inconclusive;
        verdict.reason = Some(in_words(doubts));
    }
    let kinds: BTreeSet<Kind> =
        verdict.findings.iter().filter(|one| one.violates).map(|one| one.kind).collect();
    if kinds.is_empty() || was_too_slow(history) {
        return verdict;
    }
    let gap = trial.gaps.iter().find(|gap| {
        let recorded: BTreeSet<&str> = gap.findings.iter().map(String::as_str).collect();
        kinds.iter().map(|kind| kind.as_str()).collect::<BTreeSet<_>>() == recorded
    });
    match gap {
        Some(gap) if gap.review_by.as_str() < today => {
            verdict.outcome = Outcome::Violated;
            verdict.reason = Some(format!("the known gap was to be reviewed by {}", gap.review_by));
        }
        Some(_) if verdict.outcome == Outcome::Inconclusive => {}
        Some(gap) => {
            verdict.outcome = Outcome::KnownGap;
            verdict.reason = Some(gap.reason.clone());
        }
        None => verdict.outcome = Outcome::Violated,
    }
    verdict
}

/// How many different doubts are told. A subject can give as many as it likes.
const DOUBTS_TOLD: usize = 8;

/// Each doubt once, in order, up to a bound.
fn in_words(doubts: Vec<Doubt>) -> String {
    let mut seen = BTreeSet::new();
    let mut words: Vec<String> =
        doubts.into_iter().map(|doubt| doubt.0).filter(|why| seen.insert(why.clone())).collect();
    let more = words.len().saturating_sub(DOUBTS_TOLD);
    if more > 0 {
        words.truncate(DOUBTS_TOLD);
        words.push(format!("and {more} more"));
    }
    words.join("; ")
}

/// Whether the machine could not keep up with real time: whatever the run shows may be its doing.
#[must_use]
pub fn was_too_slow(history: &History) -> bool {
    history
        .events
        .iter()
        .any(|event| matches!(&event.what, What::Trouble { why } if why.starts_with(TOO_SLOW)))
}

impl Kind {
    /// Every kind.
    #[cfg(test)]
    pub(crate) const ALL: &[Kind] = &[
        Kind::ToldIgnored,
        Kind::ToldLate,
        Kind::DoubleHeld,
        Kind::Fenced,
        Kind::IgnoredFailure,
        Kind::Stuck,
        Kind::FalseCompromise,
        Kind::Crashed,
        Kind::Silent,
        Kind::Vague,
        Kind::UnprovenSteal,
        Kind::WrongfulRelease,
        Kind::ZombieRefresh,
    ];

    /// The word of CONTRACTS.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::ToldIgnored => "told-ignored",
            Kind::ToldLate => "told-late",
            Kind::DoubleHeld => "double-held",
            Kind::Fenced => "fenced",
            Kind::IgnoredFailure => "ignored-failure",
            Kind::Stuck => "stuck",
            Kind::FalseCompromise => "false-compromise",
            Kind::Crashed => "crashed",
            Kind::Silent => "silent",
            Kind::Vague => "vague",
            Kind::UnprovenSteal => "unproven-steal",
            Kind::WrongfulRelease => "wrongful-release",
            Kind::ZombieRefresh => "zombie-refresh",
        }
    }
}
