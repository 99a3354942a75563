//! The promises of an engine (`deadbeat::engine`), each with cases, run on every engine; and on
//! engines that break one of them, to see that the suite tells which.

mod abilities;
mod ordinary;
mod promises;
mod saboteur;
mod world;

use std::path::PathBuf;
use std::sync::Mutex;

use deadbeat::engine::Engine;
use deadbeat::engine::fuse::FuseEngine;
use deadbeat::engine::trace::TraceEngine;
use promises::{Bench, Kept, promises};
use saboteur::{SABOTEURS, Saboteur};

/// An engine by name, if it works here; says so if not.
fn engine(name: &str) -> Option<Box<dyn Engine>> {
    let program = std::env::var_os("DEADBEAT_TEST_PROGRAM").map(PathBuf::from);
    let program = program.unwrap_or_else(|| deadbeat_tests::program().to_path_buf());
    let probed = match name {
        "trace" => TraceEngine::probe_with(program).map(|one| Box::new(one) as Box<dyn Engine>),
        _ => FuseEngine::probe_with(program).map(|one| Box::new(one) as Box<dyn Engine>),
    };
    if let Err(why) = &probed {
        assert!(!required(name), "DEADBEAT_REQUIRE names {name}, but: {why}");
        println!("skipped: {name}: {why}");
    }
    probed.ok()
}

/// Whether a skip for want of this engine is a failure.
fn required(name: &str) -> bool {
    std::env::var("DEADBEAT_REQUIRE").is_ok_and(|required| required.contains(name))
}

/// The promises that are broken, and how.
fn broken(kept: Vec<(u32, Kept)>) -> Vec<(u32, String)> {
    kept.into_iter().filter_map(|(number, kept)| kept.err().map(|why| (number, why))).collect()
}

#[test]
fn the_trace_engine_keeps_its_promises() {
    let Some(engine) = engine("trace") else { return };
    assert_eq!(broken(promises(&Bench { engine: &*engine, worker: 0 })), []);
}

// Alone: its fork bombs are bounded by how many processes their user has on the whole machine.
#[test]
#[serial_test::serial(fuse)]
fn the_fuse_engine_keeps_its_promises() {
    let Some(engine) = engine("fuse") else { return };
    assert_eq!(broken(promises(&Bench { engine: &*engine, worker: 1 })), []);
}

/// Goal: for each promise there is an engine that breaks it, and the suite names that promise and
/// no other. Method: a real engine, the quickest that works here, tampered with.
#[test]
fn a_broken_promise_is_told_from_the_others() {
    let Some(engine) = engine("trace") else { return };
    let queue = Mutex::new(SABOTEURS.iter());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 0..workers() {
            let (engine, queue, wrong) = (&*engine, &queue, &wrong);
            scope.spawn(move || {
                let next = || queue.lock().expect("nobody panics with it").next();
                while let Some((number, how, sabotage)) = next() {
                    let saboteur = Saboteur::new(engine, *sabotage);
                    let broken = broken(promises(&Bench { engine: &saboteur, worker }));
                    let numbers: Vec<u32> = broken.iter().map(|(number, _)| *number).collect();
                    if numbers != [*number] {
                        let line = format!("{number}, {how}: the suite says {broken:#?}");
                        wrong.lock().expect("nobody panics with it").push(line);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("nobody panicked with it");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let promised: Vec<u32> = (1..=8).collect();
    let mut sabotaged: Vec<u32> = SABOTEURS.iter().map(|(number, ..)| *number).collect();
    sabotaged.dedup();
    assert_eq!(sabotaged, promised, "every promise has a saboteur");
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(4))
}
