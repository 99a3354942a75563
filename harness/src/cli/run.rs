//! `deadbeat run`: select, prepare, run on a few workers, judge, report.
//!
//! # Invariants
//! - Everything that is wrong with flags or files is said before anything runs (exit 2).
//! - Every selected case ends with a verdict, whatever goes wrong: nothing is dropped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::args::{EngineName, Format, NoTests, RunArgs};
use super::catalog::{CanaryCase, Case, Catalog};
use super::engines::Engines;
use super::exit::{Exit, Tally};
use super::gap_update::{self, proposals};
use super::paint::Paint;
use super::pool::{Panicked, run_all};
use super::present::{Presenter, Setting};
use super::progress::Progress;
use super::{catalog, complain, outdir, signals};
use crate::check::gaps::{self, Ran};
use crate::check::{self, Outcome, Verdict};
use crate::engine::{Engine, EngineError, Stage, Stop};
use crate::history::History;
use crate::history::compare::first_difference;
use crate::plan::{KnownGap, Trial};
use crate::report::results::{CanaryResult, CaseResult};
use crate::scenario::library::embedded_suite;
use crate::setup::{self, Prepared, SetupError};

/// How often a run is repeated that the machine was too slow for.
const REPEATS_MAX: u32 = 2;

/// One case that has ended.
#[derive(Debug)]
pub(super) struct Done {
    /// What it came to.
    pub verdict: Verdict,
    /// What happened, if anything did.
    pub history: Option<History>,
    /// How long it took.
    pub wall: Duration,
    /// How many runs before it proved nothing, because the machine was too slow.
    pub repeats: u32,
    /// The engine that ran it, if one did.
    pub engine: Option<&'static str>,
    /// What every run of that engine lacks here.
    pub caveats: Vec<String>,
}

impl Done {
    fn of(verdict: Verdict, history: Option<History>, wall: Duration) -> Done {
        Done { verdict, history, wall, repeats: 0, engine: None, caveats: Vec::new() }
    }

    fn without_run(outcome: Outcome, reason: impl Into<String>) -> Done {
        let verdict = Verdict { outcome, reason: Some(reason.into()), findings: Vec::new() };
        Done::of(verdict, None, Duration::ZERO)
    }
}

/// Does what `run` was asked for.
pub(super) fn run(args: &RunArgs, paint: Paint) -> Exit {
    if let Err(why) = check_schedules(args) {
        eprintln!("error: {why}");
        return Exit::BadInput;
    }
    let mut catalog = match catalog::select(&args.selection) {
        Ok(catalog) => catalog,
        Err(error) => {
            super::complain_of_selection(&error);
            return Exit::BadInput;
        }
    };
    catalog.under_schedules(args.seed..args.seed.saturating_add(args.seeds.get()));
    if catalog.cases.is_empty() {
        eprintln!("nothing ran: no scenario is left after --partition");
        return Tally { nothing_is_fine: nothing_is_fine(args), ..Tally::default() }.exit();
    }
    let stop = Stop::default();
    if let Err(error) = signals::listen(&stop) {
        complain(&error);
        return Exit::Inconclusive;
    }
    let engines = match Engines::new(args.engine, &required(args)) {
        Ok(engines) => engines,
        Err(why) => {
            eprintln!("error: {why}");
            return Exit::Inconclusive;
        }
    };
    if !args.no_canaries
        && let Err(error) = catalog.add_canaries(engines.name() == "fuse")
    {
        super::complain_of_selection(&error);
        return Exit::BadInput;
    }
    if args.update_gaps
        && let Err(why) = gap_update::may_ask(&catalog)
    {
        eprintln!("error: {why}");
        return Exit::BadInput;
    }
    let out = match outdir::create(args.out.as_deref()) {
        Ok(out) => out,
        Err(error) => {
            complain(&error);
            return Exit::BadInput;
        }
    };
    let halt = AtomicBool::new(false);
    let bench = Bench { args, catalog: &catalog, engines: &engines, out: &out, stop, halt };
    bench.run(paint)
}

fn nothing_is_fine(args: &RunArgs) -> bool {
    args.no_tests == NoTests::Pass
}

/// Real time has one schedule, and no run of it can be repeated exactly.
fn check_schedules(args: &RunArgs) -> Result<(), &'static str> {
    if args.engine != EngineName::Fuse {
        return Ok(());
    }
    if args.seed != 0 || args.seeds.get() > 1 {
        return Err(
            "the fuse engine knows only the dull schedule, `--seed 0`\n(hint: leave `--engine fuse` out)",
        );
    }
    if args.verify {
        return Err(
            "--verify cannot repeat a run of the fuse engine: its time is real\n(hint: leave `--engine fuse` out)",
        );
    }
    Ok(())
}

/// The names of the engines that must work here.
fn required(args: &RunArgs) -> Vec<String> {
    let from_env = std::env::var("DEADBEAT_REQUIRE").unwrap_or_default();
    let flags = args.require.iter().map(|engine| engine.as_str());
    let names = flags.chain(from_env.split(',').map(str::trim).filter(|name| !name.is_empty()));
    names.map(str::to_owned).collect()
}

/// Everything that stays the same while cases run.
struct Bench<'a> {
    args: &'a RunArgs,
    catalog: &'a Catalog,
    engines: &'a Engines,
    out: &'a Path,
    /// Ctrl-C: what runs is torn down.
    stop: Stop,
    /// `--fail-fast`: what runs goes on to its end, and nothing else begins.
    halt: AtomicBool,
}

impl Bench<'_> {
    fn run(&self, paint: Paint) -> Exit {
        let started = Instant::now();
        let cases = &self.catalog.cases;
        let workers = self.workers();
        let setting = Setting {
            engine: self.engines.name(),
            files_on: &self.engines.file_system(self.args.scratch.as_deref()),
            seed: self.args.seed,
            seeds: self.args.seeds.get(),
            workers,
            out: self.out,
            format: self.args.format,
            paint,
            caveats: self.engines.caveats(),
        };
        let mut presenter = Presenter::begin(self.catalog, setting);
        let progress = Progress::over(cases.len());
        let prepared = self.prepare_subjects(&progress);
        // The canaries first: should they be missed, that is known soon.
        let canaries = &self.catalog.canaries;
        let all: Vec<&Case> = canaries.iter().map(|canary| &canary.case).chain(cases).collect();
        let mut results: Vec<Option<CaseResult>> = cases.iter().map(|_| None).collect();
        let mut caught: Vec<CanaryResult> = Vec::new();
        let mut trouble = None;
        run_all(
            &all,
            workers,
            |worker, case| self.one(worker, case, &prepared),
            |index, result| {
                let ended = result.unwrap_or_else(|Panicked(words)| {
                    let why = format!("deadbeat panicked: {words}\n(hint: this is our bug)");
                    Done::without_run(Outcome::Inconclusive, why)
                });
                let Some(index) = index.checked_sub(canaries.len()) else {
                    let CanaryCase { case, shows } = &canaries[index];
                    let result = presenter.result(case, &ended);
                    caught.push(CanaryResult::new(&result, shows));
                    return;
                };
                if self.args.fail_fast && ended.verdict.outcome == Outcome::Violated {
                    self.halt.store(true, Ordering::SeqCst);
                }
                progress.step();
                let (result, written) = progress.aside(|| presenter.ended(&cases[index], ended));
                results[index] = Some(result);
                trouble = trouble.take().or(written.err());
            },
        );
        drop(progress);
        let mut results: Vec<CaseResult> =
            results.into_iter().map(|ended| ended.expect("the pool ends every case")).collect();
        let closed = close_gaps(cases, &mut results);
        // They ended in any order.
        caught.sort_by(|one, other| one.subject.cmp(&other.subject));
        let exit = self.tally(&results, &caught).exit();
        let today = outdir::today();
        let proposals = self.args.update_gaps.then(|| proposals(cases, &results, &closed, &today));
        let finished = presenter.finish(self.catalog, results, caught, started.elapsed());
        let updated = proposals
            .map_or(Ok(()), |proposals| gap_update::ask_and_write(self.catalog, proposals, &today));
        match finished.and(trouble.map_or(Ok(()), Err)).and(updated) {
            Ok(()) => exit,
            Err(error) => {
                complain(&error);
                if exit == Exit::Violated { exit } else { Exit::Inconclusive }
            }
        }
    }

    fn tally(&self, results: &[CaseResult], canaries: &[CanaryResult]) -> Tally {
        Tally {
            outcomes: results.iter().map(|result| result.outcome).collect(),
            interrupted: self.stop.asked(),
            required_missing: false,
            canary_missed: canaries.iter().any(|canary| !canary.caught),
            nothing_is_fine: nothing_is_fine(self.args),
        }
    }

    /// The engine runs in real time: two runs on one cpu would disturb each other's beats.
    fn workers(&self) -> usize {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = self.args.jobs.map_or(cpus, usize::from);
        if wanted > cpus {
            eprintln!("warning: --jobs {wanted} is more than the {cpus} cpus here; using {cpus}");
        }
        wanted.min(cpus)
    }

    /// Prepares each subject once, before the clock of any run matters.
    fn prepare_subjects(&self, progress: &Progress) -> Vec<Result<Prepared, SetupError>> {
        let cache = setup::cache_dir();
        let subjects = self.catalog.subjects.iter();
        subjects
            .map(|subject| {
                progress.note(&format!("setting up {}", subject.name()));
                let why = |error: &SetupError| SetupError::Missing(error.to_string());
                let cache = cache.as_ref().map_err(why)?;
                let prepared = setup::prepare(&subject.order(), cache, &self.stop);
                progress.note("");
                prepared
            })
            .collect()
    }

    /// One case, from its trial to its verdict.
    fn one(&self, worker: usize, case: &Case, prepared: &[Result<Prepared, SetupError>]) -> Done {
        let mut trial = match &case.trial {
            Ok(trial) => Trial::clone(trial),
            Err(reason) => return Done::without_run(Outcome::Skipped, reason),
        };
        trial.plan.seed = case.seed;
        let trial = &trial;
        if self.stop.asked() {
            return Done::without_run(Outcome::Skipped, "not run: interrupted before");
        }
        if self.halt.load(Ordering::SeqCst) {
            return Done::without_run(Outcome::Skipped, "not run: --fail-fast after a violation");
        }
        let subject = match &prepared[case.subject] {
            Ok(prepared) => prepared.dir.clone(),
            Err(SetupError::Missing(why)) => return Done::without_run(Outcome::Skipped, why),
            Err(SetupError::Interrupted) => {
                return Done::without_run(Outcome::Skipped, "not run: interrupted before");
            }
            Err(error) => {
                return Done::without_run(Outcome::Inconclusive, super::chain(error));
            }
        };
        let engine = match self.engines.engine_for(trial, self.args.scratch.as_deref()) {
            Ok(engine) => engine,
            Err(reason) => return Done::without_run(Outcome::Skipped, reason),
        };
        if let Some(why) = engine.cannot_repeat().filter(|_| self.args.verify) {
            let why =
                format!("--verify cannot repeat a run of the {} engine: {why}", engine.name());
            return Done::without_run(Outcome::Skipped, why);
        }
        let done = self.carry_out(engine, trial, worker, subject);
        Done { engine: Some(engine.name()), caveats: engine.caveats().to_vec(), ..done }
    }

    /// Runs a trial; again, within a bound, if the machine was too slow for real time: such a run
    /// says nothing in either direction, so repeating it hides nothing.
    fn carry_out(
        &self,
        engine: &dyn Engine,
        trial: &Trial,
        worker: usize,
        subject: PathBuf,
    ) -> Done {
        let stage = Stage { subject, scratch: self.args.scratch.clone(), worker };
        let mut done = self.carry_out_once(engine, trial, &stage);
        for repeats in 1..=REPEATS_MAX {
            if !done.history.as_ref().is_some_and(check::was_too_slow) || self.stop.asked() {
                break;
            }
            done = Done { repeats, ..self.carry_out_once(engine, trial, &stage) };
        }
        if self.args.verify
            && let Some(first) = &done.history
            && !self.stop.asked()
        {
            let again = self.carry_out_once(engine, trial, &stage);
            if let Some(verdict) = differs(first, &again) {
                done.verdict = verdict;
            }
            done.wall += again.wall;
        }
        done
    }

    fn carry_out_once(&self, engine: &dyn Engine, trial: &Trial, stage: &Stage) -> Done {
        let started = Instant::now();
        let ran = engine.run(trial, stage, &self.stop);
        let wall = started.elapsed();
        match ran {
            Ok(history) => {
                let verdict = check::judge(trial, &history, &outdir::today());
                Done::of(verdict, Some(history), wall)
            }
            Err(EngineError::Interrupted) => {
                Done { wall, ..Done::without_run(Outcome::Inconclusive, "interrupted") }
            }
            Err(error) => {
                Done { wall, ..Done::without_run(Outcome::Inconclusive, super::chain(&error)) }
            }
        }
    }
}

/// What to say of a run that could not be repeated; `None` if it could.
fn differs(first: &History, again: &Done) -> Option<Verdict> {
    let inconclusive = |reason: String| {
        Some(Verdict { outcome: Outcome::Inconclusive, reason: Some(reason), findings: Vec::new() })
    };
    let Some(second) = &again.history else {
        let why = again.verdict.reason.clone().unwrap_or_default();
        return inconclusive(format!("the run could not be repeated: {why}"));
    };
    let found = first_difference(first, second)?;
    let shown = |line: Option<String>| line.unwrap_or_else(|| "(it has ended)".to_owned());
    inconclusive(format!(
        "two runs of one plan and seed differ from event {} on; first run: {}; second run: {}",
        found.seq,
        shown(found.first),
        shown(found.second),
    ))
}

/// Turns held cases into violations where they show that a recorded gap has closed.
/// Gives each such gap, with its subject.
fn close_gaps(cases: &[Case], results: &mut [CaseResult]) -> Vec<(String, KnownGap)> {
    let names: Vec<&str> = embedded_suite()
        .iter()
        .map(|file| file.path.strip_suffix(".toml").unwrap_or(file.path))
        .collect();
    let (places, ran): (Vec<usize>, Vec<Ran<'_>>) = cases
        .iter()
        .zip(results.iter())
        .enumerate()
        .filter_map(|(place, (case, result))| {
            let trial = case.trial.as_deref().ok()?;
            Some((place, Ran { trial, outcome: result.outcome }))
        })
        .unzip();
    let mut found = Vec::new();
    for closed in gaps::closed(&ran, &names) {
        for index in &closed.places {
            let result = &mut results[places[*index]];
            result.outcome = Outcome::Violated;
            result.reason = Some(closed.why());
        }
        found.push((closed.subject.to_owned(), closed.gap.clone()));
    }
    found
}

/// Whether a case's history is kept: only what somebody will want to look into.
pub(super) fn failed(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Violated | Outcome::Inconclusive)
}

/// Whether people read standard output.
pub(super) fn for_people(format: Format) -> bool {
    format == Format::Human
}
