//! What CI runs, as one program that a developer runs unchanged:
//!
//! ```text
//! cargo run -p deadbeat-ci --release [STEP…]
//! ```
//!
//! Every step is a command and the exit code that it must have; a step that fails stops no other.
//! The last line is `N passed, M failed`, and the exit code is 1 if any failed. A step can be
//! named to run it alone; `--list` names them all.

mod steps;

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use deadbeat_tests::leftovers::Scene;
use steps::Step;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let steps = steps::all();
    if wanted.iter().any(|arg| arg == "--list") {
        steps.iter().for_each(|step| println!("{}", step.name));
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = wanted.iter().find(|name| steps.iter().all(|step| step.name != **name)) {
        eprintln!("error: there is no step `{unknown}`\n(hint: `--list` names them)");
        return ExitCode::from(2);
    }
    let chosen = |step: &&Step| wanted.is_empty() || wanted.iter().any(|name| name == step.name);
    let before = Scene::now();
    let mut results: Vec<(&str, Result<(), String>)> = Vec::new();
    for step in steps.iter().filter(chosen) {
        println!("\n==> {}: {}", step.name, step.shown());
        let started = Instant::now();
        let result = perform(step);
        let seconds = started.elapsed().as_secs_f64();
        match &result {
            Ok(()) => println!("<== PASS {} ({seconds:.1} s)", step.name),
            Err(why) => println!("<== FAIL {} ({seconds:.1} s): {why}", step.name),
        }
        results.push((step.name, result));
    }
    results.push(("leftovers", leftovers(&before)));
    summary(&results)
}

/// Runs the step's command, with nothing to read, and compares what it came to.
fn perform(step: &Step) -> Result<(), String> {
    let (program, args) = step.argv.split_first().expect("a step has a program");
    let mut command = Command::new(program);
    command.args(args).current_dir(deadbeat_tests::root()).stdin(Stdio::null());
    command.env("PATH", path_with_tools()).envs(step.env.iter().copied());
    let failed = |error: std::io::Error| format!("`{program}` did not start: {error}");
    let (status, printed) = match step.must_print {
        None => (command.status().map_err(failed)?, None),
        Some(text) => {
            let output = command.stderr(Stdio::inherit()).output().map_err(failed)?;
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            print!("{printed}");
            (output.status, Some((text, printed)))
        }
    };
    if status.code() != Some(step.code) {
        return Err(format!("{status}, expected exit status: {}", step.code));
    }
    match printed {
        Some((text, printed)) if !printed.contains(text) => Err(format!("no `{text}` was printed")),
        _ => Ok(()),
    }
}

/// PATH with the tools that only CI needs.
fn path_with_tools() -> std::ffi::OsString {
    let tools = deadbeat_tests::root().join(steps::TOOLS).join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).expect("what PATH was split at is in no folder of it")
}

/// Whether everything that ran left the machine as it was.
fn leftovers(before: &Scene) -> Result<(), String> {
    let left = before.left_since();
    if left == Scene::default() { Ok(()) } else { Err(format!("left behind: {left:#?}")) }
}

fn summary(results: &[(&str, Result<(), String>)]) -> ExitCode {
    println!();
    for (name, result) in results {
        match result {
            Ok(()) => println!("PASS {name}"),
            Err(why) => println!("FAIL {name}: {why}"),
        }
    }
    let failed = results.iter().filter(|(_, result)| result.is_err()).count();
    println!("{} passed, {failed} failed", results.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
