//! `deadbeat run`: select, prepare, run on a few workers, judge, report.
//!
//! # Invariants
//! - Everything that is wrong with flags or files is said before anything runs (exit 2).
//! - Every selected case ends with a verdict, whatever goes wrong: nothing is dropped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::args::{EngineName, Format, NoTests, RunArgs};
use super::catalog::{Case, Catalog};
use super::exit::{Exit, Tally};
use super::paint::Paint;
use super::pool::{Panicked, run_all};
use super::present::{Presenter, Setting};
use super::progress::Progress;
use super::{catalog, complain, doctor, outdir, signals};
use crate::check::gaps::{self, Ran};
use crate::check::{self, Outcome, Verdict};
use crate::engine::trace::TraceEngine;
use crate::engine::{Engine, EngineError, Stage, Stop};
use crate::history::History;
use crate::plan::Trial;
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
}

impl Done {
    fn without_run(outcome: Outcome, reason: impl Into<String>) -> Done {
        let verdict = Verdict { outcome, reason: Some(reason.into()), findings: Vec::new() };
        Done { verdict, history: None, wall: Duration::ZERO, repeats: 0 }
    }
}

/// Does what `run` was asked for.
pub(super) fn run(args: &RunArgs, paint: Paint) -> Exit {
    if args.seed != 0 && args.engine != EngineName::Trace {
        eprintln!("error: the fuse engine knows only the dull schedule, `--seed 0`");
        eprintln!("(hint: add `--engine trace`)");
        return Exit::BadInput;
    }
    let mut catalog = match catalog::select(&args.selection) {
        Ok(catalog) => catalog,
        Err(error) => {
            super::complain_of_selection(&error);
            return Exit::BadInput;
        }
    };
    for trial in catalog.cases.iter_mut().flat_map(|case| &mut case.trial) {
        trial.plan.seed = args.seed;
    }
    if catalog.cases.is_empty() {
        eprintln!("nothing ran: no scenario is left after --partition");
        return Tally { nothing_is_fine: nothing_is_fine(args), ..Tally::default() }.exit();
    }
    let stop = Stop::default();
    if let Err(error) = signals::listen(&stop) {
        complain(&error);
        return Exit::Inconclusive;
    }
    let engine = match pick_engine(args) {
        Ok(engine) => engine,
        Err(why) => {
            eprintln!("error: {why}");
            return Exit::Inconclusive;
        }
    };
    let out = match outdir::create(args.out.as_deref()) {
        Ok(out) => out,
        Err(error) => {
            complain(&error);
            return Exit::BadInput;
        }
    };
    let halt = AtomicBool::new(false);
    let bench = Bench { args, catalog: &catalog, engine: &*engine, out: &out, stop, halt };
    bench.run(paint)
}

fn nothing_is_fine(args: &RunArgs) -> bool {
    args.no_tests == NoTests::Pass
}

/// The engine that carries the runs out, or why there is none, with the remedy.
fn pick_engine(args: &RunArgs) -> Result<Box<dyn Engine>, String> {
    let from_env = std::env::var("DEADBEAT_REQUIRE").unwrap_or_default();
    let required = args.require.iter().map(|engine| engine.as_str());
    let required: Vec<&str> = required
        .chain(from_env.split(',').map(str::trim).filter(|name| !name.is_empty()))
        .collect();
    let known = |name: &&str| matches!(*name, "fuse" | "trace" | "auto");
    if let Some(name) = required.iter().find(|name| !known(name)) {
        return Err(format!("the required engine `{name}` is not here"));
    }
    if args.engine == EngineName::Trace || required.contains(&"trace") {
        let engine = TraceEngine::probe().map_err(|why| {
            format!("the trace engine does not work here: {why}\n(hint: see `deadbeat doctor`)")
        })?;
        if args.engine == EngineName::Trace {
            return Ok(Box::new(engine));
        }
    }
    match doctor::usable_engine() {
        Ok(engine) => Ok(Box::new(engine)),
        Err(why) => Err(format!("no engine works here: {why}\n(hint: see `deadbeat doctor`)")),
    }
}

/// Everything that stays the same while cases run.
struct Bench<'a> {
    args: &'a RunArgs,
    catalog: &'a Catalog,
    engine: &'a dyn Engine,
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
            engine: self.engine.name(),
            seed: self.args.seed,
            workers,
            out: self.out,
            format: self.args.format,
            paint,
            scratch: self.args.scratch.as_deref(),
        };
        let mut presenter = Presenter::begin(self.catalog, setting);
        let progress = Progress::over(cases.len());
        let prepared = self.prepare_subjects(&progress);
        let mut done: Vec<Option<Done>> = cases.iter().map(|_| None).collect();
        run_all(
            cases,
            workers,
            |worker, case| self.one(worker, case, &prepared),
            |index, result| {
                let ended = result.unwrap_or_else(|Panicked(words)| {
                    let why = format!("deadbeat panicked: {words}\n(hint: this is our bug)");
                    Done::without_run(Outcome::Inconclusive, why)
                });
                if self.args.fail_fast && ended.verdict.outcome == Outcome::Violated {
                    self.halt.store(true, Ordering::SeqCst);
                }
                progress.step();
                progress.aside(|| presenter.ended(&cases[index], &ended));
                done[index] = Some(ended);
            },
        );
        drop(progress);
        let mut done: Vec<Done> =
            done.into_iter().map(|ended| ended.expect("the pool ends every case")).collect();
        close_gaps(cases, &mut done);
        let exit = self.tally(&done).exit();
        match presenter.finish(cases, &done, started.elapsed()) {
            Ok(()) => exit,
            Err(error) => {
                complain(&error);
                if exit == Exit::Violated { exit } else { Exit::Inconclusive }
            }
        }
    }

    fn tally(&self, done: &[Done]) -> Tally {
        Tally {
            outcomes: done.iter().map(|ended| ended.verdict.outcome).collect(),
            interrupted: self.stop.asked(),
            required_missing: false,
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
        let trial = match &case.trial {
            Ok(trial) => trial,
            Err(reason) => return Done::without_run(Outcome::Skipped, reason),
        };
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
        if let Some(reason) = self.engine.refuses(trial, self.args.scratch.as_deref()) {
            return Done::without_run(Outcome::Skipped, reason);
        }
        self.carry_out(trial, worker, subject)
    }

    /// Runs a trial; again, within a bound, if the machine was too slow for real time: such a run
    /// says nothing in either direction, so repeating it hides nothing.
    fn carry_out(&self, trial: &Trial, worker: usize, subject: PathBuf) -> Done {
        let stage = Stage { subject, scratch: self.args.scratch.clone(), worker };
        let mut done = self.carry_out_once(trial, &stage);
        for repeats in 1..=REPEATS_MAX {
            if !done.history.as_ref().is_some_and(check::was_too_slow) || self.stop.asked() {
                break;
            }
            done = Done { repeats, ..self.carry_out_once(trial, &stage) };
        }
        done
    }

    fn carry_out_once(&self, trial: &Trial, stage: &Stage) -> Done {
        let started = Instant::now();
        let ran = self.engine.run(trial, stage, &self.stop);
        let wall = started.elapsed();
        match ran {
            Ok(history) => {
                let verdict = check::judge(trial, &history, &outdir::today());
                Done { verdict, history: Some(history), wall, repeats: 0 }
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

/// Turns held cases into violations where they show that a recorded gap has closed.
fn close_gaps(cases: &[Case], done: &mut [Done]) {
    let names: Vec<&str> = embedded_suite()
        .iter()
        .map(|file| file.path.strip_suffix(".toml").unwrap_or(file.path))
        .collect();
    let (places, ran): (Vec<usize>, Vec<Ran<'_>>) = cases
        .iter()
        .zip(done.iter())
        .enumerate()
        .filter_map(|(place, (case, done))| {
            let trial = case.trial.as_deref().ok()?;
            Some((place, Ran { trial, outcome: done.verdict.outcome }))
        })
        .unzip();
    for (closed, why) in gaps::closed(&ran, &names) {
        for index in closed {
            let verdict = &mut done[places[index]].verdict;
            verdict.outcome = Outcome::Violated;
            verdict.reason = Some(why.clone());
        }
    }
}

/// Whether a case's history is kept: only what somebody will want to look into.
pub(super) fn failed(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Violated | Outcome::Inconclusive)
}

/// Whether people read standard output.
pub(super) fn for_people(format: Format) -> bool {
    format == Format::Human
}
