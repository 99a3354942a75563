//! What is printed and written about a run, through the reports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use super::args::Format;
use super::catalog::{Case, Catalog};
use super::paint::Paint;
use super::run::{self, Done};
use crate::check::Outcome;
use crate::history::History;
use crate::report::detection::{self, Row, detection};
use crate::report::results::{CanaryResult, CaseParts, CaseResult, Results};
use crate::report::terminal::{self, Place};
use crate::report::{self, junit};
use crate::time::Nanos;

/// What a run's reports say of it as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    pub engine: &'static str,
    /// The file system that runs lie on.
    pub files_on: &'a str,
    pub seed: u64,
    /// How many schedules each scenario runs under.
    pub seeds: u64,
    pub workers: usize,
    pub out: &'a Path,
    pub format: Format,
    pub paint: Paint,
    /// What every run lacks here.
    pub caveats: &'a [String],
}

/// How many histories of one scenario and subject are kept, where it runs under many schedules.
const HISTORIES_MAX: usize = 3;

/// The cases that differ by nothing but their seed, as far as they have ended.
#[derive(Debug, Default)]
struct Group {
    of: usize,
    ended: usize,
    /// How many ended as `worst` did.
    alike: usize,
    wall: Duration,
    /// The worst of them; of equal ones, that with the lowest seed.
    worst: Option<(CaseResult, Option<History>)>,
    histories: usize,
}

/// Prints as cases end, and writes their files.
pub(super) struct Presenter<'a> {
    setting: Setting<'a>,
    groups: BTreeMap<usize, Group>,
    of: usize,
    ended: usize,
}

impl<'a> Presenter<'a> {
    pub(super) fn begin(catalog: &Catalog, setting: Setting<'a>) -> Presenter<'a> {
        let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
        for case in &catalog.cases {
            groups.entry(case.group).or_default().of += 1;
        }
        let presenter = Presenter { setting, of: groups.len(), groups, ended: 0 };
        let runnable = catalog.cases.iter().filter(|case| case.trial.is_ok()).count();
        let skipped = catalog.cases.len() - runnable;
        let skipped = if skipped > 0 { format!(" ({skipped} skipped)") } else { String::new() };
        presenter.say(&format!(
            "{:>12} {}   files on {}   {}\n{:>12} {runnable} runs on {} worker{}{skipped}\n",
            "Engine",
            setting.engine,
            setting.files_on,
            presenter.seeds(),
            "Starting",
            setting.workers,
            if setting.workers == 1 { "" } else { "s" },
        ));
        for caveat in setting.caveats {
            eprintln!("warning: {caveat}\n(hint: `deadbeat doctor` says what that costs)");
        }
        warn(catalog);
        presenter
    }

    fn seeds(&self) -> String {
        let Setting { seed, seeds, .. } = self.setting;
        match seeds {
            1 => format!("seed {seed}"),
            _ => format!("seeds {seed}..{}", seed.saturating_add(seeds - 1)),
        }
    }

    /// Takes in a case that has ended: keeps its result, and drops its history once that is
    /// written where it is worth it.
    pub(super) fn ended(&mut self, case: &Case, done: Done) -> (CaseResult, io::Result<()>) {
        let result = self.result(case, &done);
        let group = self.groups.entry(case.group).or_default();
        group.ended += 1;
        group.wall += done.wall;
        let keeps = run::failed(result.outcome) && group.histories < HISTORIES_MAX;
        let mut written = Ok(());
        if let Some(history) = done.history.as_ref().filter(|_| keeps) {
            group.histories += 1;
            written = self.write_history(case, &result, history);
        }
        self.note(case.group, result.clone(), done.history);
        (result, written)
    }

    /// Prints a group when its last case has ended.
    fn note(&mut self, group: usize, result: CaseResult, history: Option<History>) {
        let Some(found) = self.groups.get_mut(&group) else { return };
        let is_worse = found.worst.as_ref().is_none_or(|(worst, _)| {
            result.outcome > worst.outcome
                || (result.outcome == worst.outcome && result.seed < worst.seed)
        });
        match &found.worst {
            Some((worst, _)) if worst.outcome == result.outcome => found.alike += 1,
            _ if is_worse => found.alike = 1,
            _ => {}
        }
        if is_worse {
            found.worst = Some((result, history));
        }
        if found.ended < found.of {
            return;
        }
        self.ended += 1;
        let Some(Group { of, alike, wall, worst: Some((mut worst, history)), .. }) =
            self.groups.remove(&group)
        else {
            return;
        };
        worst.wall_ms = Nanos::from(wall).as_ms_f64();
        let schedules = (of > 1).then_some(terminal::Schedules { alike, of });
        let place = Place { number: self.ended, of: self.of, schedules };
        let hue = self.hue();
        self.say(&terminal::case(place, &worst, history.as_ref(), &hue));
    }

    fn write_history(&self, case: &Case, result: &CaseResult, history: &History) -> io::Result<()> {
        let mut folder = self.setting.out.join(&case.name).join(&case.label);
        if self.setting.seeds > 1 {
            folder.push(format!("seed-{}", case.seed));
        }
        fs::create_dir_all(&folder)?;
        let file = BufWriter::new(File::create(folder.join("history.jsonl"))?);
        let names = [case.name.as_str(), case.label.as_str(), result.engine.as_str()];
        report::history::write(file, names, case.seed, history)
    }

    pub(super) fn finish(
        &mut self,
        catalog: &Catalog,
        results: Vec<CaseResult>,
        canaries: Vec<CanaryResult>,
        wall: Duration,
    ) -> io::Result<()> {
        let tags = catalog.scenarios.iter().map(|one| (one.name.as_str(), &one.tags[..])).collect();
        let bugs = catalog.bugs();
        // One bug alone is no table.
        let table = if bugs.len() > 1 { detection(&bugs, &tags, &results) } else { Vec::new() };
        let results = self.results(results, canaries, table);
        let json = serde_json::to_string_pretty(&results)?;
        let xml = junit::render(&results).map_err(io::Error::other)?;
        let out = self.setting.out;
        fs::write(out.join("results.json"), &json)?;
        fs::write(out.join("junit.xml"), &xml)?;
        if !results.detection.is_empty() {
            fs::write(out.join("detection.md"), detection::as_markdown(&results.detection))?;
        }
        let hue = self.hue();
        let folder = out.display().to_string();
        match self.setting.format {
            Format::Human => {
                if !results.canaries.is_empty() {
                    self.say(&terminal::canaries(&results.canaries, &hue));
                }
                if !results.detection.is_empty() {
                    self.say(&detection::for_terminal(&results.detection));
                }
                self.say(&terminal::summary(&results.results, wall.into(), &folder, &hue));
                Ok(())
            }
            Format::Json => print_all(&json),
            Format::Junit => print_all(&xml),
            Format::Nothing => Ok(()),
        }
    }

    fn results(
        &self,
        results: Vec<CaseResult>,
        canaries: Vec<CanaryResult>,
        detection: Vec<Row>,
    ) -> Results {
        let is_blind = canaries.iter().any(|canary| !canary.caught);
        let blind = is_blind.then_some(Outcome::Inconclusive);
        let worst = results.iter().map(|result| result.outcome).chain(blind).max();
        Results {
            format: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: self.setting.seed,
            engine: self.setting.engine.to_owned(),
            outcome: worst.unwrap_or(Outcome::Skipped),
            results,
            canaries,
            detection,
        }
    }

    pub(super) fn result(&self, case: &Case, done: &Done) -> CaseResult {
        let engine = done.engine.unwrap_or(self.setting.engine);
        CaseResult::new(CaseParts {
            scenario: &case.name,
            subject: &case.label,
            engine,
            seed: case.seed,
            trial: case.trial.as_deref().ok(),
            history: done.history.as_ref(),
            verdict: &done.verdict,
            caveats: &done.caveats,
            repeats: done.repeats,
            wall: done.wall.into(),
            replay: &case.replay(engine),
        })
    }

    /// Prints for people, if people read standard output.
    fn say(&self, text: &str) {
        if run::for_people(self.setting.format) {
            // A reader that went away, as in `| head`, is no reason to stop the run.
            let _ = print_all(text);
        }
    }

    fn hue(&self) -> impl Fn(Outcome, &str) -> String + use<> {
        let paint = self.setting.paint;
        move |outcome, word| match outcome {
            Outcome::Held => paint.good(word),
            Outcome::Violated => paint.bad(word),
            Outcome::Inconclusive | Outcome::KnownGap => paint.warn(word),
            Outcome::Skipped => paint.bold(word),
        }
    }
}

/// Prints each thing that a reader should know once, and of how many scenarios it is true.
fn warn(catalog: &Catalog) {
    let mut said: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for case in &catalog.cases {
        for warning in case.trial.iter().flat_map(|trial| &trial.warnings) {
            said.entry(warning).or_default().insert(&case.name);
        }
    }
    for (warning, scenarios) in said {
        let first = scenarios.first().copied().unwrap_or_default();
        match scenarios.len() {
            1 => eprintln!("warning: {first}: {warning}"),
            count => eprintln!("warning: {first} and {} more: {warning}", count - 1),
        }
    }
}

fn print_all(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}
