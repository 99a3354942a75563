//! Known gaps that have closed unnoticed: recorded, and no matching scenario shows them any more.
//!
//! Pure. Decided over a whole run, and only if every scenario of the suite that the gap stands for
//! ran and held: one that was skipped or left out may be the one that shows it.

use std::collections::BTreeSet;

use super::Outcome;
use crate::fault::matching::compile;
use crate::plan::{KnownGap, Trial};

/// One case that ran.
#[derive(Clone, Copy, Debug)]
pub struct Ran<'a> {
    /// What ran.
    pub trial: &'a Trial,
    /// How it ended.
    pub outcome: Outcome,
}

/// A gap that no scenario shows any more.
#[derive(Clone, Debug)]
pub struct Closed<'a> {
    /// The places in what ran of the cases that should have shown it.
    pub places: Vec<usize>,
    /// `name@variant`.
    pub subject: &'a str,
    /// What was recorded.
    pub gap: &'a KnownGap,
}

impl Closed<'_> {
    /// Why that is a violation.
    #[must_use]
    pub fn why(&self) -> String {
        format!(
            "the known gap `{}` ({}) has closed: no scenario shows it any more\n(hint: remove it \
             from the subject's file, or let --update-gaps do so)",
            self.gap.scenario,
            self.gap.findings.join(", "),
        )
    }
}

/// Every gap that has closed. `suite` names every scenario that there is.
#[must_use]
pub fn closed<'a>(ran: &[Ran<'a>], suite: &[&str]) -> Vec<Closed<'a>> {
    let mut seen: Vec<(&str, &KnownGap)> = Vec::new();
    for case in ran {
        for gap in &case.trial.gaps {
            let known = (case.trial.subject.as_str(), gap);
            if !seen.contains(&known) {
                seen.push(known);
            }
        }
    }
    let mut closed = Vec::new();
    for (subject, gap) in seen {
        let Ok(glob) = compile([gap.scenario.as_str()]) else { continue };
        let places: Vec<usize> = (0..ran.len())
            .filter(|place| ran[*place].trial.subject == subject)
            .filter(|place| glob.is_match(&ran[*place].trial.scenario))
            .collect();
        let names: BTreeSet<&str> =
            places.iter().map(|place| ran[*place].trial.scenario.as_str()).collect();
        let is_whole = suite.iter().filter(|name| glob.is_match(name)).all(|n| names.contains(n));
        if is_whole && places.iter().all(|place| ran[*place].outcome == Outcome::Held) {
            closed.push(Closed { places, subject, gap });
        }
    }
    closed
}

#[cfg(test)]
mod tests {
    use super::super::script::control;
    use super::*;

    fn trial(scenario: &str) -> Trial {
        let mut trial = control();
        trial.scenario = scenario.to_owned();
        trial.gaps = vec![KnownGap {
            scenario: "pause/*".to_owned(),
            findings: vec!["double-held".to_owned()],
            reason: "known".to_owned(),
            issue: None,
            review_by: "2030-01-01".to_owned(),
        }];
        trial
    }

    #[test]
    fn a_gap_is_closed_only_if_all_that_could_show_it_held() {
        let trials = [trial("pause/a"), trial("pause/b")];
        let suite = ["pause/a", "pause/b", "clock/a"];
        let closed_by = |outcomes: &[Outcome]| {
            let ran: Vec<Ran<'_>> = trials
                .iter()
                .zip(outcomes)
                .map(|(trial, outcome)| Ran { trial, outcome: *outcome })
                .collect();
            closed(&ran, &suite).into_iter().map(|one| one.places).collect::<Vec<_>>()
        };
        let found = closed_by(&[Outcome::Held, Outcome::Held]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0], [0, 1]);
        for other in [Outcome::KnownGap, Outcome::Inconclusive, Outcome::Skipped] {
            assert!(closed_by(&[Outcome::Held, other]).is_empty(), "{other:?}");
        }
        assert!(closed_by(&[Outcome::Held]).is_empty(), "pause/b was left out");
    }
}
