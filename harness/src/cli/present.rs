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
use crate::engine::file_system_of;
use crate::report::results::{CaseParts, CaseResult, Results};
use crate::report::terminal::{self, Place};
use crate::report::{self, junit};

/// What a run's reports say of it as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    pub engine: &'static str,
    pub seed: u64,
    pub workers: usize,
    pub out: &'a Path,
    pub format: Format,
    pub paint: Paint,
    pub scratch: Option<&'a Path>,
}

/// Prints as cases end, and writes the files at the end.
pub(super) struct Presenter<'a> {
    setting: Setting<'a>,
    cases: usize,
    ended: usize,
}

impl<'a> Presenter<'a> {
    pub(super) fn begin(catalog: &Catalog, setting: Setting<'a>) -> Presenter<'a> {
        let presenter = Presenter { setting, cases: catalog.cases.len(), ended: 0 };
        let runnable = catalog.cases.iter().filter(|case| case.trial.is_ok()).count();
        let skipped = presenter.cases - runnable;
        let skipped = if skipped > 0 { format!(" ({skipped} skipped)") } else { String::new() };
        presenter.say(&format!(
            "{:>12} {}   files on {}   seed {}\n{:>12} {runnable} runs on {} worker{}{skipped}\n",
            "Engine",
            setting.engine,
            file_system_of(setting.scratch),
            setting.seed,
            "Starting",
            setting.workers,
            if setting.workers == 1 { "" } else { "s" },
        ));
        warn(catalog);
        presenter
    }

    pub(super) fn ended(&mut self, case: &Case, done: &Done) {
        self.ended += 1;
        let place = Place { number: self.ended, of: self.cases };
        let result = self.result(case, done);
        let hue = self.hue();
        self.say(&terminal::case(place, &result, done.history.as_ref(), &hue));
    }

    pub(super) fn finish(
        &mut self,
        cases: &[Case],
        done: &[Done],
        wall: Duration,
    ) -> io::Result<()> {
        let results = self.results(cases, done);
        let json = serde_json::to_string_pretty(&results)?;
        let xml = junit::render(&results).map_err(io::Error::other)?;
        let out = self.setting.out;
        fs::write(out.join("results.json"), &json)?;
        fs::write(out.join("junit.xml"), &xml)?;
        for (case, done) in cases.iter().zip(done) {
            if let Some(history) = &done.history
                && run::failed(done.verdict.outcome)
            {
                let folder = out.join(&case.name).join(&case.label);
                fs::create_dir_all(&folder)?;
                let file = BufWriter::new(File::create(folder.join("history.jsonl"))?);
                let names = [case.name.as_str(), case.label.as_str(), self.setting.engine];
                report::history::write(file, names, self.setting.seed, history)?;
            }
        }
        let hue = self.hue();
        let folder = out.display().to_string();
        match self.setting.format {
            Format::Human => {
                self.say(&terminal::summary(&results.results, wall.into(), &folder, &hue));
                Ok(())
            }
            Format::Json => print_all(&json),
            Format::Junit => print_all(&xml),
        }
    }

    fn results(&self, cases: &[Case], done: &[Done]) -> Results {
        let worst = done.iter().map(|done| done.verdict.outcome).max();
        Results {
            format: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: self.setting.seed,
            engine: self.setting.engine.to_owned(),
            outcome: worst.unwrap_or(Outcome::Skipped),
            results: cases.iter().zip(done).map(|(case, done)| self.result(case, done)).collect(),
        }
    }

    fn result(&self, case: &Case, done: &Done) -> CaseResult {
        CaseResult::new(CaseParts {
            scenario: &case.name,
            subject: &case.label,
            engine: self.setting.engine,
            seed: self.setting.seed,
            trial: case.trial.as_deref().ok(),
            history: done.history.as_ref(),
            verdict: &done.verdict,
            repeats: done.repeats,
            wall: done.wall.into(),
            replay: &case.replay(self.setting.engine, self.setting.seed),
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
