//! `results.json`, exactly as CONTRACTS.md has it: types and how they are filled.
//!
//! All `*_ms` moments count from the holder's first `entered`.

use std::collections::BTreeSet;

use serde::Serialize;

use super::detection::Row;
use crate::check::{Finding, Outcome, Verdict};
use crate::history::{History, What};
use crate::plan::Trial;
use crate::role::Role;
use crate::time::Nanos;
use crate::witness::Said;

/// The whole file.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// The format of this file: 1.
    pub format: u32,
    /// deadbeat's version.
    pub version: String,
    /// The seed of the schedules.
    pub seed: u64,
    /// Which engine ran.
    pub engine: String,
    /// The worst outcome.
    pub outcome: Outcome,
    /// In the order of the cases.
    pub results: Vec<CaseResult>,
    /// The planted bugs that had to be caught before any of this is believed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<CanaryResult>,
    /// What caught which planted bug, where subjects with such were run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub detection: Vec<Row>,
}

/// A planted bug that had to be caught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CanaryResult {
    /// The scenario.
    pub scenario: String,
    /// `name@variant`.
    pub subject: String,
    /// What it had to show.
    pub shows: Vec<String>,
    /// What it showed.
    pub found: Vec<String>,
    /// Why it showed nothing, if something is known of that.
    pub reason: Option<String>,
    /// Whether that is just what it had to show.
    pub caught: bool,
    /// A command that repeats the run.
    pub replay: String,
}

impl CanaryResult {
    /// Holds a result against what it had to show.
    #[must_use]
    pub fn new(result: &CaseResult, shows: &[String]) -> CanaryResult {
        let stands = result.findings.iter().filter(|finding| finding.violates);
        let found: BTreeSet<&str> = stands.map(|finding| finding.kind.as_str()).collect();
        let wanted: BTreeSet<&str> = shows.iter().map(String::as_str).collect();
        CanaryResult {
            scenario: result.scenario.clone(),
            subject: result.subject.clone(),
            shows: shows.to_vec(),
            caught: result.outcome == Outcome::Violated && found == wanted,
            found: found.into_iter().map(str::to_owned).collect(),
            reason: result.reason.clone(),
            replay: result.replay.clone(),
        }
    }
}

/// One scenario with one subject.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// `family/name`.
    pub scenario: String,
    /// `name@variant`.
    pub subject: String,
    /// Which engine ran it.
    pub engine: String,
    /// The seed of its schedule.
    pub seed: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where the findings do not say it.
    pub reason: Option<String>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// How often each fault fired.
    pub faults: Vec<FaultResult>,
    /// Whether each event was done.
    pub events: Vec<EventResult>,
    /// What the roles said.
    pub witness: Vec<WitnessResult>,
    /// What a reader should know: errnos that no local file system gives there, what the engine
    /// lacks on this machine, and the like.
    pub warnings: Vec<String>,
    /// How many runs before this one proved nothing, because the machine was too slow.
    pub repeats: u32,
    /// How long the run took on its own clock.
    pub virtual_ms: f64,
    /// How long it took on the wall.
    pub wall_ms: f64,
    /// A command that repeats exactly this run.
    pub replay: String,
}

/// How often a fault fired.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FaultResult {
    /// Its number.
    pub fault: u32,
    /// How often.
    pub fired: u64,
}

/// Whether an event was done.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EventResult {
    /// Its number.
    pub event: u32,
    /// Whether.
    pub done: bool,
}

/// One line of the witness.
#[derive(Clone, Debug, Serialize)]
pub struct WitnessResult {
    /// When.
    pub at_ms: f64,
    /// Who.
    pub role: Role,
    /// The word of the line; `fenced` where the resource refused it.
    pub event: String,
    /// The whole line, where it says more than the word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
}

/// What a case's result is made of.
#[derive(Clone, Copy, Debug)]
pub struct CaseParts<'a> {
    /// `family/name`.
    pub scenario: &'a str,
    /// `name@variant`.
    pub subject: &'a str,
    /// Which engine.
    pub engine: &'a str,
    /// Which seed.
    pub seed: u64,
    /// The trial, unless the case was skipped before there was one.
    pub trial: Option<&'a Trial>,
    /// The history, if it ran.
    pub history: Option<&'a History>,
    /// What it came to.
    pub verdict: &'a Verdict,
    /// What every run of the engine lacks here.
    pub caveats: &'a [String],
    /// How many runs before it proved nothing.
    pub repeats: u32,
    /// How long it took.
    pub wall: Nanos,
    /// The command that repeats it.
    pub replay: &'a str,
}

impl CaseResult {
    /// Fills in one case.
    #[must_use]
    pub fn new(parts: CaseParts<'_>) -> CaseResult {
        let empty = History::default();
        let history = parts.history.unwrap_or(&empty);
        let plan = parts.trial.filter(|_| parts.history.is_some()).map(|trial| &trial.plan);
        let fired = |number: u32| {
            let of_it = history
                .events
                .iter()
                .filter(|event| matches!(event.what, What::Fired { fault, .. } if fault == number));
            of_it.count() as u64
        };
        let done = |number: u32| {
            history
                .events
                .iter()
                .any(|event| matches!(event.what, What::Done { event, .. } if event == number))
        };
        let faults = plan.map(|plan| plan.faults.iter().map(|rule| rule.number));
        let events = plan.map(|plan| plan.events.iter().map(|act| act.number));
        let warnings = parts.trial.iter().flat_map(|trial| &trial.warnings);
        CaseResult {
            scenario: parts.scenario.to_owned(),
            subject: parts.subject.to_owned(),
            engine: parts.engine.to_owned(),
            seed: parts.seed,
            outcome: parts.verdict.outcome,
            reason: parts.verdict.reason.clone(),
            findings: parts.verdict.findings.clone(),
            faults: faults
                .into_iter()
                .flatten()
                .map(|fault| FaultResult { fault, fired: fired(fault) })
                .collect(),
            events: events
                .into_iter()
                .flatten()
                .map(|event| EventResult { event, done: done(event) })
                .collect(),
            witness: witness(history),
            warnings: warnings.chain(parts.caveats.iter()).cloned().collect(),
            repeats: parts.repeats,
            virtual_ms: history.events.last().map_or(0.0, |event| event.at.as_ms_f64()),
            wall_ms: parts.wall.as_ms_f64(),
            replay: parts.replay.to_owned(),
        }
    }
}

/// The moment that reports count from.
#[must_use]
pub fn zero(history: &History) -> Nanos {
    let entered = history.events.iter().find(|event| {
        matches!(&event.what, What::Witness { role: Role::Holder, said: Said::Entered { .. } })
    });
    entered.map_or(Nanos::ZERO, |event| event.at)
}

fn witness(history: &History) -> Vec<WitnessResult> {
    let zero = zero(history).as_ms_f64();
    let lines = history.events.iter().filter_map(|event| {
        let (role, word, said) = match &event.what {
            What::Witness { role, said } => (*role, said.word(), said),
            What::Fenced { role, said, .. } => (*role, "fenced", said),
            _ => return None,
        };
        let line = said.to_string();
        Some(WitnessResult {
            at_ms: event.at.as_ms_f64() - zero,
            role,
            event: word.to_owned(),
            line: (line != word).then_some(line),
        })
    });
    lines.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::check::script::{C1, HOLDER, Script};
    use crate::check::{Check, Kind};
    use crate::plan::Deed;

    /// A case that was violated with these findings.
    pub(in crate::report) fn violated(scenario: &str, subject: &str, kinds: &[Kind]) -> CaseResult {
        let findings = kinds.iter().map(|kind| Finding {
            check: Check::Exclusion,
            kind: *kind,
            roles: vec![Role::Holder],
            from_ms: 0.0,
            overlap_ms: 0.0,
            stopped_ms: 0.0,
            late_writes: 0,
            story: "a story".to_owned(),
            violates: true,
        });
        CaseResult {
            scenario: scenario.to_owned(),
            subject: subject.to_owned(),
            engine: "trace".to_owned(),
            seed: 0,
            outcome: Outcome::Violated,
            reason: None,
            findings: findings.collect(),
            faults: Vec::new(),
            events: Vec::new(),
            witness: Vec::new(),
            warnings: Vec::new(),
            repeats: 0,
            virtual_ms: 0.0,
            wall_ms: 0.0,
            replay: format!("deadbeat run {scenario} --subject {subject}"),
        }
    }

    #[test]
    fn a_canary_is_caught_by_just_what_it_has_to_show() {
        let result = violated("a/b", "zoo@x", &[Kind::Silent, Kind::DoubleHeld, Kind::Silent]);
        let caught = |shows: &[&str], result: &CaseResult| {
            let shows: Vec<String> = shows.iter().map(|kind| (*kind).to_owned()).collect();
            CanaryResult::new(result, &shows).caught
        };
        assert!(caught(&["double-held", "silent"], &result));
        assert!(!caught(&["double-held"], &result), "more than it has to show is not it either");
        assert!(!caught(&["double-held", "silent", "vague"], &result));
        let held = CaseResult { outcome: Outcome::Held, findings: Vec::new(), ..result.clone() };
        assert!(!caught(&["double-held", "silent"], &held));
        let unsure = CaseResult { outcome: Outcome::Inconclusive, ..result };
        assert!(!caught(&["double-held", "silent"], &unsure));
    }

    /// The file is public: a name that changes here breaks somebody's CI.
    #[test]
    fn the_file_is_as_contracts_has_it() {
        let mut script = Script::new();
        script
            .with_fault()
            .with_event(1, Deed::Heal, "heal")
            .at(100)
            .says(HOLDER, "entered token=3");
        script.at(150).polls(C1).at(400).fails(HOLDER).at(500).done(1).polls(C1);
        script.at(600).fenced(C1, "entered token=2", HOLDER).at(700).says(HOLDER, "wrote");
        script.at(800).says(C1, "entered").at(900).goes(C1).at(6100).goes(HOLDER);
        let history = script.history().clone();
        let verdict = crate::check::judge(&script.trial, &history, "2026-06-01");
        let case = CaseResult::new(CaseParts {
            scenario: "family/name",
            subject: "lock@default",
            engine: "fuse",
            seed: 0,
            trial: Some(&script.trial),
            history: Some(&history),
            verdict: &verdict,
            caveats: &[],
            repeats: 0,
            wall: Nanos::from_ms(61),
            replay: "deadbeat run family/name",
        });
        let results = Results {
            format: 1,
            version: "0.1.0".to_owned(),
            seed: 0,
            engine: "fuse".to_owned(),
            outcome: case.outcome,
            results: vec![case],
            canaries: Vec::new(),
            detection: Vec::new(),
        };
        insta::assert_snapshot!(serde_json::to_string_pretty(&results).unwrap());
    }
}
