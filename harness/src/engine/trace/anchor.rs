//! The processes above a run's supervisor.
//!
//! ```text
//! deadbeat run (harness) ── __trace-anchor ── __tracer: init of the PID namespace
//!                                               └─ its only child: the supervisor, which forks
//!                                                   ├─ holder
//!                                                   └─ contender-1
//! ```
//!
//! The roles' parent is not pid 1, because programs take that for a sign that they are orphans.
//! Whoever of these dies, the kernel kills everything below.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, ExitCode};

use super::{supervisor, sys};
use crate::engine::EngineError;
use crate::engine::fuse::anchor::make_namespaces;
use crate::engine::fuse::report_and_fail;
use crate::engine::fuse::sys::die_with_parent;
use crate::engine::fuse::wire::Line;

fn step(what: &str) -> impl FnOnce(io::Error) -> EngineError {
    let what = what.to_owned();
    move |source| EngineError::Step { what, source }
}

/// `__trace-anchor run|probe [user]`: standard input and output are passed on to the supervisor.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let has = |wanted: &str| arguments.iter().any(|word| word == wanted);
    match anchor(has("probe"), has("user")) {
        Ok(code) => code,
        Err(error) => report_and_fail(&error),
    }
}

fn anchor(is_probe: bool, user_namespace: bool) -> Result<ExitCode, EngineError> {
    let program = std::env::current_exe().map_err(step("find the deadbeat program"))?;
    make_namespaces(user_namespace)?;
    let mut command = Command::new(program);
    command.arg(if is_probe { "__tracer-probe" } else { "__tracer" });
    die_with_parent(&mut command);
    let mut cell = command.spawn().map_err(step("start the run's supervisor"))?;
    let pid = i32::try_from(cell.id()).expect("Linux pids are below 2^22");
    // The supervisor writes nothing before it has read its job, and the harness sends that only
    // after this line, so the two cannot mix.
    let line = serde_json::to_string(&Line::Cell(pid)).expect("a number has a JSON form");
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    written.map_err(step("write to the harness"))?;
    let status = cell.wait().map_err(step("wait for the run's supervisor"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `__tracer`: init of the run's PID namespace. It reaps orphans, and ends with the supervisor.
pub(crate) fn init() -> ExitCode {
    let child = sys::fork(|| match supervisor::run() {
        Ok(()) => 0,
        Err(error) => {
            report_and_fail(&error);
            1
        }
    });
    match child {
        Ok(pid) => ExitCode::from(u8::try_from(sys::wait_for(pid)).unwrap_or(255)),
        Err(error) => report_and_fail(&error),
    }
}
