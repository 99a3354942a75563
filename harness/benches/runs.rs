//! Runs per second of both engines, beside what the kernel asks for the processes alone.
//!
//! `cargo bench -p deadbeat --bench runs`. The scenario is the shortest there is: a holder that
//! enters, writes, leaves, and a contender after it, both `deadbeat cs`; what is measured is the
//! engine, not a wait. Figures of one machine in one run: compare the ratios.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use deadbeat::engine::fuse::FuseEngine;
use deadbeat::engine::trace::TraceEngine;
use deadbeat::engine::{Engine, Stage, Stop};
use deadbeat::moment::{Anchor, Moment, Sign};
use deadbeat::plan::{
    Bounds, Claims, Exclusion, Expect, ExpectExclusion, LockFiles, Part, Plan, Timing, Trial, World,
};
use deadbeat::role::{Role, Who};
use deadbeat::time::Nanos;

/// How long each row is measured.
const ROW: Duration = Duration::from_secs(3);

fn main() {
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

fn run(engine: &dyn Engine, trial: &Trial, worker: usize) {
    let stage = Stage { subject: PathBuf::from("/"), scratch: None, worker };
    let history = engine.run(trial, &stage, &Stop::default()).expect("the engine works here");
    assert!(history.events.len() >= 9, "two processes do more: {history:#?}");
}

fn shortest_trial() -> Trial {
    let part = |role, starts| Part {
        role,
        argv: vec!["{deadbeat}".to_owned(), "cs".to_owned()],
        env: BTreeMap::new(),
        starts,
        hold: Nanos::from_ms(1),
        patience: Nanos::from_ms(1000),
        acquires: 1,
        stall: None,
    };
    let left =
        Moment { anchor: Anchor::Role(Who::One(Role::Holder), Sign::Left), offset: Nanos::ZERO };
    let unit = Nanos::from_ms(1000);
    Trial {
        scenario: "bench/shortest".to_owned(),
        subject: "cs@default".to_owned(),
        plan: Plan {
            seed: 0,
            timing: Timing {
                stale: None,
                beat: None,
                stale_unit: unit,
                beat_unit: unit,
                tick: Nanos::from_ms(20),
            },
            files: LockFiles {
                name: "resource.lock".to_owned(),
                lock: vec!["resource.lock".to_owned()],
                heartbeat: Vec::new(),
            },
            cast: vec![part(Role::Holder, Moment::START), part(Role::Contender(1), left)],
            world: World::default(),
            faults: Vec::new(),
            events: Vec::new(),
            bounds: Bounds {
                wall: Nanos::from_ms(20_000),
                events: 10_000,
                output: 1 << 20,
                processes: 64,
            },
        },
        claims: Claims {
            exclusion: Exclusion::Strict,
            on_failure: Vec::new(),
            dead_owner_takeover: None,
            warns: Vec::new(),
        },
        expect: Expect {
            exclusion: ExpectExclusion::Held,
            holder: Vec::new(),
            warning: Vec::new(),
            takeover: None,
        },
        gaps: Vec::new(),
        warnings: Vec::new(),
    }
}
