//! What the trace engine costs, beside what the same costs without it, in the same run.
//!
//! `cargo bench -p deadbeat --bench speed`. Figures of one machine in one run: compare the ratios.
//! A row that needs a program that is not installed says so, and is left out. Rows are chosen by
//! words: `cargo bench -p deadbeat --bench speed -- operation memory`.

mod engines;
mod guests;
mod memory;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use deadbeat::engine::trace::TraceEngine;
use deadbeat::engine::{Engine, Stage, Stop};
use deadbeat::fault::{Effect, Times};
use deadbeat::handmade::{self, CONTENDER, HOLDER};
use deadbeat::history::{History, What};
use deadbeat::moment::{Moment, Sign};
use deadbeat::op::{Errno, OpKind};
use deadbeat::plan::Trial;
use deadbeat::role::Who;
use deadbeat::time::Nanos;

use guests::Guests;

/// How long each rate is measured.
const ROW: Duration = Duration::from_secs(3);
/// How often a length is measured; the shortest counts, the others were disturbed.
const TRIES: usize = 5;
const OPERATIONS: u32 = 20_000;

/// What every row needs.
struct Bench {
    engine: TraceEngine,
    guests: Guests,
}

/// Measures something, and prints it.
type Row = fn(&Bench);

fn main() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_deadbeat"));
    let engine = match TraceEngine::probe_with(program) {
        Ok(engine) => engine,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    let Some(guests) = Guests::build() else { return println!("SKIPPED: cc is not installed") };
    let bench = Bench { engine, guests };
    let rows: [(&str, Row); 6] = [
        ("operation", operation),
        ("start", start),
        ("runs", runs),
        ("engines", engines::print),
        ("suite", suite),
        ("memory", memory::print),
    ];
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (name, row) in rows {
        if words.is_empty() || words.iter().any(|word| word == name) {
            row(&bench);
        }
    }
}

/// The shortest of some tries.
fn shortest(mut work: impl FnMut()) -> Duration {
    let tries = (0..TRIES).map(|_| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    });
    tries.min().expect("there is more than one try")
}

/// A trial of these words for the holder, without bounds that matter.
fn trial(argv: &[&str]) -> Trial {
    let mut trial = handmade::trial("bench/speed");
    trial.plan.cast = vec![handmade::part(HOLDER, argv, Moment::START)];
    trial.plan.bounds.wall = Nanos::from_ms(100_000_000);
    trial.plan.bounds.events = u64::from(u32::MAX);
    trial
}

impl Bench {
    fn run(&self, trial: &Trial, subject: &Path, worker: usize) -> History {
        let stage = Stage { subject: subject.to_path_buf(), scratch: None, worker };
        let history = self.engine.run(trial, &stage, &Stop::default());
        let history = history.expect("the engine works here");
        let is_whole = history.events.iter().all(|event| match &event.what {
            What::Trouble { .. } => false,
            What::Exited { code, .. } => *code == Some(0),
            _ => true,
        });
        assert!(is_whole, "{:#?}", history.events.iter().rev().take(9).collect::<Vec<_>>());
        history
    }

    fn took(&self, trial: &Trial) -> Duration {
        shortest(|| drop(self.run(trial, Path::new("/"), 0)))
    }
}

/// How long a command takes, on one cpu.
fn took(words: &[&str]) -> Duration {
    let folder = tempfile::tempdir().expect("a temporary folder");
    shortest(|| {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).args(words).current_dir(folder.path());
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("taskset is installed").success(), "{words:?}");
    })
}

fn micros(long: Duration, short: Duration, count: u32) -> f64 {
    long.saturating_sub(short).as_secs_f64() * 1e6 / f64::from(count)
}

/// One utimensat(2) by path that is answered with an errno.
fn operation(bench: &Bench) {
    println!("{:<56} {:>9}", "an operation, errno injected, on one cpu", "µs");
    let guest = bench.guests.c.as_str();
    let count = OPERATIONS.to_string();
    let plain = micros(took(&[guest, "touch", &count]), took(&[guest, "touch", "0"]), OPERATIONS);
    println!("{:<56} {plain:>9.2}", "plain");
    let with = |n: &str| {
        let mut case = trial(&[guest, "fail", n]);
        let effect = Effect::Error { errno: Errno(5), apply: false };
        let rule = handmade::fault(Who::Any, "beat", &[OpKind::Utimes], effect, Times::All);
        case.plan.faults = vec![rule];
        bench.took(&case)
    };
    println!("{:<56} {:>9.2}", "trace", micros(with(&count), with("0"), OPERATIONS));
    if is_missing("strace") {
        return;
    }
    let inject = "inject=utimensat:error=EIO";
    let with = |n: &str| {
        let strace = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=utimensat"];
        took(&[&strace[..], &["-e", inject, guest, "fail", n]].concat())
    };
    let strace = micros(with(&count), with("0"), OPERATIONS);
    println!("{:<56} {strace:>9.2}", "strace -f --seccomp-bpf -e inject=…");
}

/// A program that does nothing, started again and again inside one run.
fn start(bench: &Bench) {
    println!("\n{:<44} {:>10} {:>10} {:>10}", "one start, ms", "plain", "trace", "more");
    let guest = bench.guests.c.as_str();
    let programs: [(&str, u32, &[&str]); 3] = [
        ("static C", 500, &[guest]),
        ("/usr/bin/python3 -I -S", 20, &["/usr/bin/python3", "-I", "-S", "-c", ""]),
        ("node", 20, &["node", "-e", ""]),
    ];
    for (name, starts, program) in programs {
        if program[0] != guest && is_missing(program[0]) {
            continue;
        }
        let count = starts.to_string();
        let many: Vec<&str> = [&[guest, "start", &count], program].concat();
        let none: Vec<&str> = [&[guest, "start", "0"], program].concat();
        let plain = micros(took(&many), took(&none), starts) / 1e3;
        let trace = micros(bench.took(&trial(&many)), bench.took(&trial(&none)), starts) / 1e3;
        let more = format!("{:+.1} %", (trace / plain - 1.0) * 100.0);
        println!("{name:<44} {plain:>10.2} {trace:>10.2} {more:>10}");
    }
}

/// Whole runs a second, of two processes, about forty gated operations and 44 virtual seconds.
fn runs(bench: &Bench) {
    println!("\n{:<44} {:>10} {:>10} {:>10}", "runs a second", "1 worker", "2 workers", "ratio");
    let guest = bench.guests.c.as_str();
    let floor = rate(1, |_| {
        for _ in 0..2 {
            let status = Command::new(guest).status().expect("the guest was built");
            assert!(status.success());
        }
    });
    println!("{:<44} {floor:>10.1}", "fork + exec + exit of static C, twice: the floor");
    let mut programs: Vec<(&str, Vec<&str>)> = vec![("static C", vec![guest, "lock"])];
    if let Some(rust) = &bench.guests.rust {
        programs.push(("Rust", vec![rust]));
    }
    if !is_missing("/usr/bin/python3") {
        programs.push(("python3 -I -S", vec!["/usr/bin/python3", "-I", "-S", guests::PYTHON]));
    }
    if !is_missing("node") {
        programs.push(("node", vec!["node", guests::NODE]));
    }
    for (name, argv) in &programs {
        let mut case = trial(argv);
        let heir = handmade::part(CONTENDER, argv, handmade::at(HOLDER, Sign::Entered));
        case.plan.cast.push(heir);
        print_rates(bench, name, &case, Path::new("/"));
    }
    match guests::proper_lockfile() {
        Ok((case, folder)) => print_rates(bench, "node + proper-lockfile", &case, &folder),
        Err(why) => println!("SKIPPED: node + proper-lockfile: {why}"),
    }
}

fn print_rates(bench: &Bench, name: &str, case: &Trial, folder: &Path) {
    let of = |workers| rate(workers, |worker| drop(bench.run(case, folder, worker)));
    let (one, two) = (of(1), of(2));
    println!("{name:<44} {one:>10.1} {two:>10.1} {:>10.2}", two / one);
}

/// How often a second the work is done by so many workers.
fn rate(workers: usize, work: impl Fn(usize) + Sync) -> f64 {
    let begun = Instant::now();
    let done: u32 = std::thread::scope(|scope| {
        let counts: Vec<_> = (0..workers)
            .map(|worker| {
                let work = &work;
                scope.spawn(move || {
                    let mut count = 0;
                    while begun.elapsed() < ROW {
                        work(worker);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        counts.into_iter().map(|count| count.join().expect("a worker ends well")).sum()
    });
    f64::from(done) / begun.elapsed().as_secs_f64()
}

/// The whole suite against a real lock at its defaults: stale after 10 s, a beat each 5 s.
fn suite(_bench: &Bench) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_deadbeat"));
    command.args(["run", "--engine", "trace", "--subject", "proper-lockfile", "--format", "json"]);
    let output = command.current_dir(folder.path()).output().expect("it starts");
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let count = results["results"].as_array().map_or(0, Vec::len);
    let took = begun.elapsed().as_secs_f64();
    println!("\nthe whole suite, proper-lockfile at its defaults: {took:.1} s, {count} scenarios");
}

/// Whether a program is not there; says so.
fn is_missing(program: &str) -> bool {
    let missing = Command::new(program).arg("--version").output().is_err();
    if missing {
        println!("SKIPPED: {program} is not installed");
    }
    missing
}
