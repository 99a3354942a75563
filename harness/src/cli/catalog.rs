//! From words on the command line to cases: which scenarios meet which subjects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::Selection;
use crate::plan::{KnownGap, Trial};
use crate::report::detection::Bug;
use crate::scenario::library::{
    self, LibraryError, SubjectChoice, SubjectFiles, select_scenarios, select_subjects,
};
use crate::scenario::{Canary, Planted, Resolution, Scenario, Subject, resolve};
use crate::setup::Order;

/// A scenario that meets a subject.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// The scenario's place in [`Catalog::scenarios`].
    pub scenario: usize,
    /// `family/name`.
    pub name: String,
    /// The subject's place in [`Catalog::subjects`].
    pub subject: usize,
    /// `name@variant`.
    pub label: String,
    /// The trial, or why there is none: the case is skipped.
    pub trial: Result<Arc<Trial>, String>,
    /// The seed of its schedule.
    pub seed: u64,
    /// Which cases differ by nothing but their seed.
    pub group: usize,
    /// The scenario and the subject as `run` can be given them again.
    pub words: [String; 2],
}

impl Case {
    /// The command that runs exactly this case.
    pub(super) fn replay(&self, engine: &str) -> String {
        let seed = self.seed;
        let [scenario, subject] = self.words.each_ref().map(|word| shell_word(word));
        format!("deadbeat run {scenario} --subject {subject} --engine {engine} --seed {seed}")
    }
}

/// A case that must show a planted bug.
#[derive(Clone, Debug)]
pub(super) struct CanaryCase {
    pub case: Case,
    /// What it must show, exactly.
    pub shows: Vec<String>,
}

/// A subject in use.
#[derive(Debug)]
pub(super) struct SubjectInUse {
    subject: Subject,
    files: SubjectFiles,
}

impl SubjectInUse {
    /// Its name, without the variant.
    pub(super) fn name(&self) -> &str {
        &self.subject.name
    }

    /// The folder that it was read from; `None` where it is inside the program.
    pub(super) fn folder(&self) -> Option<&Path> {
        match &self.files {
            SubjectFiles::Folder(folder) => Some(folder),
            SubjectFiles::Embedded(_) => None,
        }
    }

    /// What is recorded for one of its variants.
    pub(super) fn gaps(&self, variant: &str) -> &[KnownGap] {
        self.subject.variants.get(variant).map_or(&[], |variant| &variant.gaps)
    }

    /// What its set-up needs.
    pub(super) fn order(&self) -> Order<'_> {
        let setup = &self.subject.setup;
        Order { name: self.name(), files: &self.files, needs: &setup.needs, argv: &setup.argv }
    }
}

/// What was selected.
#[derive(Debug)]
pub(super) struct Catalog {
    /// Each once.
    pub scenarios: Vec<Scenario>,
    /// Each once, whatever the number of its variants.
    pub subjects: Vec<SubjectInUse>,
    /// In the order in which they are numbered and reported.
    pub cases: Vec<Case>,
    /// What must be caught before any of it is believed.
    pub canaries: Vec<CanaryCase>,
}

impl Catalog {
    /// The planted bugs among the cases that were selected, by label and once each.
    pub(super) fn bugs(&self) -> Vec<Bug<'_>> {
        let mut bugs: BTreeMap<&str, &Planted> = BTreeMap::new();
        for case in &self.cases {
            let variant = case.label.rsplit('@').next().unwrap_or_default();
            let variant = self.subjects[case.subject].subject.variants.get(variant);
            if let Some(planted) = variant.and_then(|variant| variant.planted.as_ref()) {
                bugs.insert(&case.label, planted);
            }
        }
        bugs.into_iter().map(|(subject, planted)| Bug { subject, planted }).collect()
    }

    /// Adds a run of each embedded bug that a canary has; in real time only the short ones. Not
    /// where nothing but planted bugs was selected.
    ///
    /// # Errors
    /// An embedded file is wrong, which a test rules out.
    pub(super) fn add_canaries(&mut self, in_real_time: bool) -> Result<(), LibraryError> {
        let bugs = self.bugs();
        if self.cases.iter().all(|case| bugs.iter().any(|bug| bug.subject == case.label)) {
            return Ok(());
        }
        let suite = library::suite()?;
        for (subject, files) in library::subjects()? {
            let birds = subject.variants.iter().filter_map(|(name, variant)| {
                let canary = variant.planted.as_ref()?.canary.as_ref()?;
                let is_meant = canary.real_time || !in_real_time;
                is_meant.then(|| (name.clone(), canary.clone()))
            });
            let birds: Vec<(String, Canary)> = birds.collect();
            if birds.is_empty() {
                continue;
            }
            let at = self.subjects.len();
            for (variant, canary) in birds {
                let found = suite.iter().find(|scenario| scenario.name == canary.scenario);
                let trial = match found.map(|scenario| resolve(scenario, &subject, &variant)) {
                    Some(Resolution::Trial(trial)) => Ok(Arc::from(trial)),
                    Some(Resolution::Skipped(reason)) => Err(reason),
                    None => Err(format!("there is no scenario {}", canary.scenario)),
                };
                let label = format!("{}@{variant}", subject.name);
                let words = [canary.scenario.clone(), label.clone()];
                let case = Case {
                    scenario: 0,
                    name: canary.scenario,
                    subject: at,
                    label,
                    trial,
                    seed: 0,
                    group: usize::MAX,
                    words,
                };
                self.canaries.push(CanaryCase { case, shows: canary.shows });
            }
            self.subjects.push(SubjectInUse { subject, files });
        }
        Ok(())
    }

    /// Each case once for each of these seeds; one that is skipped, once.
    pub(super) fn under_schedules(&mut self, seeds: std::ops::Range<u64>) {
        let cases = std::mem::take(&mut self.cases).into_iter().enumerate();
        self.cases = cases
            .flat_map(|(group, case)| {
                let end = if case.trial.is_ok() { seeds.end } else { seeds.start + 1 };
                (seeds.start..end).map(move |seed| Case { seed, group, ..case.clone() })
            })
            .collect();
    }
}

/// Reads and resolves everything that was selected.
///
/// # Errors
/// A word means nothing, or a file is wrong: all of what is wrong with it.
pub(super) fn select(selection: &Selection) -> Result<Catalog, LibraryError> {
    let cwd = Path::new(".");
    let scenarios = select_scenarios(&selection.scenarios, cwd)?;
    let (subjects, cases, canaries) = (Vec::new(), Vec::new(), Vec::new());
    let mut catalog = Catalog { scenarios, subjects, cases, canaries };
    for word in &selection.subjects {
        for choice in select_subjects(std::slice::from_ref(word), cwd)? {
            add(&mut catalog, choice, word, selection);
        }
    }
    Ok(catalog)
}

/// Adds every case of one chosen subject, unless an earlier word chose the same.
fn add(catalog: &mut Catalog, choice: SubjectChoice, word: &str, selection: &Selection) {
    let SubjectChoice { subject, variants, files } = choice;
    let same = |other: &SubjectInUse| other.files == files && other.subject.name == subject.name;
    let at = catalog.subjects.iter().position(same).unwrap_or_else(|| {
        catalog.subjects.push(SubjectInUse { subject: subject.clone(), files });
        catalog.subjects.len() - 1
    });
    for variant in variants {
        let label = format!("{}@{variant}", subject.name);
        let known = |case: &Case| case.subject == at && case.label == label;
        if catalog.cases.iter().any(known) {
            continue;
        }
        for (index, scenario) in catalog.scenarios.iter().enumerate() {
            let key = format!("{} {label}", scenario.name);
            if selection.partition.is_some_and(|part| !part.holds(&key)) {
                continue;
            }
            let trial = match resolve(scenario, &subject, &variant) {
                Resolution::Trial(trial) => Ok(Arc::from(trial)),
                Resolution::Skipped(reason) => Err(reason),
            };
            catalog.cases.push(Case {
                scenario: index,
                name: scenario.name.clone(),
                subject: at,
                label: label.clone(),
                trial,
                seed: 0,
                group: 0,
                words: [again(scenario, selection), subject_again(word, &label, &variant)],
            });
        }
    }
}

/// A scenario by the path that named it, else by its name.
fn again(scenario: &Scenario, selection: &Selection) -> String {
    let file = PathBuf::from(&scenario.file);
    let named = selection.scenarios.iter().find(|word| Path::new(word) == file);
    named.unwrap_or(&scenario.name).clone()
}

/// A subject by the folder that named it, else by its label.
fn subject_again(word: &str, label: &str, variant: &str) -> String {
    let Some((folder, rest)) = word.rsplit_once('/') else { return label.to_owned() };
    let last = rest.split('@').next().unwrap_or_default();
    match variant {
        Subject::DEFAULT => format!("{folder}/{last}"),
        variant => format!("{folder}/{last}@{variant}"),
    }
}

/// A word as a shell reads it back.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:=+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_named_again_as_it_was_found() {
        let again = |word, variant| subject_again(word, &format!("lock@{variant}"), variant);
        assert_eq!(again("lock", "fast"), "lock@fast");
        assert_eq!(again("./my/lock", "default"), "./my/lock");
        assert_eq!(again("./my/lock@fast", "fast"), "./my/lock@fast");
    }

    #[test]
    fn a_replay_survives_a_shell() {
        assert_eq!(shell_word("disk-full/enospc"), "disk-full/enospc");
        assert_eq!(shell_word("my lock's"), "'my lock'\\''s'");
    }
}
