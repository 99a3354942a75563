//! Runs per second of both engines, beside what the kernel asks for the processes alone.
//!
//! The scenario is the shortest there is: a holder that
//! enters, writes, leaves, and a contender after it, both `deadbeat cs`; what is measured is the
//! engine, not a wait.

use std::path::PathBuf;
use std::process::Command;

use deadbeat::engine::fuse::FuseEngine;
use deadbeat::engine::trace::TraceEngine;
use deadbeat::engine::{Engine, Stage, Stop};
use deadbeat::handmade::{self, CONTENDER, HOLDER};
use deadbeat::moment::{Moment, Sign};
use deadbeat::plan::{Part, Trial};
use deadbeat::time::Nanos;

use crate::{Bench, rate};

pub(crate) fn print(_: &Bench) {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_deadbeat"));
    let trial = shortest_trial();
    let floor = rate(1, |_| {
        // The same programs: anchor, supervisor, two shims, two roles.
        for _ in 0..6 {
            let status = Command::new(&program).arg("--version").output().expect("it starts");
            assert!(status.status.success());
        }
    });
    println!("{:<44} {:>8} {:>8}", "holder + contender, the shortest run", "runs/s", "ratio");
    println!("{:<44} {floor:>8.1} {:>8.2}", "six starts of the same program, no engine", 1.0);
    let fuse = FuseEngine::probe_with(program.clone()).map(|one| Box::new(one) as Box<dyn Engine>);
    let trace = TraceEngine::probe_with(program).map(|one| Box::new(one) as Box<dyn Engine>);
    for (name, engine) in [("fuse", fuse), ("trace", trace)] {
        let engine = match engine {
            Ok(engine) => engine,
            Err(why) => {
                println!("SKIPPED: {name}: {why}");
                continue;
            }
        };
        for workers in [1, 2] {
            let row = format!("{name}, {workers} worker{}", if workers == 1 { "" } else { "s" });
            let found = rate(workers, |worker| run(&*engine, &trial, worker));
            println!("{row:<44} {found:>8.1} {:>8.2}", found / floor);
        }
    }
}

fn run(engine: &dyn Engine, trial: &Trial, worker: usize) {
    let stage = Stage { subject: PathBuf::from("/"), scratch: None, worker };
    let history = engine.run(trial, &stage, &Stop::default()).expect("the engine works here");
    assert!(history.events.len() >= 9, "two processes do more: {history:#?}");
}

fn shortest_trial() -> Trial {
    let part = |role, starts| Part {
        hold: Nanos::from_ms(1),
        ..handmade::part(role, &["{deadbeat}", "cs"], starts)
    };
    let mut trial = handmade::trial("bench/shortest");
    let after = handmade::at(HOLDER, Sign::Left);
    trial.plan.cast = vec![part(HOLDER, Moment::START), part(CONTENDER, after)];
    trial
}
