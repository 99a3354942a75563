//! `__tracer`: carries out one job after the other, each in a supervisor of its own.
//!
//! This is the init of the runs' PID namespace, and waits. The supervisor is its child, since the
//! roles' parent must not be pid 1, which programs take for a sign that they are orphans. If either
//! dies, the kernel kills everything below.
//!
//! The namespace is kept, as making and ending one takes longer than a short run. No run can tell:
//! before the next one begins, everybody but init has been killed and reaped, and numbers are given
//! out from the beginning again. Mounts are in a namespace of each run's own, and go with its last
//! process. Without namespaces there is one job.

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

use super::vdso::Vdso;
use super::{supervisor, sys};
use crate::engine::EngineError;
use crate::engine::ground::enter_namespaces;
use crate::engine::inner::{read_job, report_and_fail};
use crate::engine::wire::{Job, Line};

/// The last pid that the kernel gave out in this namespace; it goes on from there
/// (proc_sys_kernel(5), `ns_last_pid`).
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

fn step<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> EngineError {
    let what = what.to_owned();
    move |source| EngineError::Step { what, source: source.into() }
}

/// Serves until the harness closes standard input, or a run fails.
pub(crate) fn main() -> ExitCode {
    match serve() {
        Ok(code) => code,
        Err(error) => report_and_fail(&error),
    }
}

fn serve() -> Result<ExitCode, EngineError> {
    let vdso = Vdso::of_this_kernel().ok();
    let Some(mut job) = read_job()? else { return Ok(ExitCode::SUCCESS) };
    let is_bare = job.footing.is_bare();
    if !is_bare {
        enter_namespaces()?;
    }
    loop {
        let code = supervise(&job, vdso.as_ref())?;
        if code != 0 || is_bare {
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)));
        }
        crate::engine::sys::kill_everyone();
        sys::reap_everyone();
        if fs::write(LAST_PID, "1").is_err() {
            // Another run's processes would have other numbers.
            return Ok(ExitCode::SUCCESS);
        }
        println_now(&Line::Ready).map_err(step("write to the harness"))?;
        let Some(next) = read_job()? else { return Ok(ExitCode::SUCCESS) };
        job = next;
    }
}

/// Carries out a job in a child; the exit code of that.
fn supervise(job: &Job, vdso: Option<&Vdso>) -> Result<i32, EngineError> {
    let child = sys::fork(|| {
        // Where no namespace goes with its init. Without it the end of our input would do.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        match stand_apart(job).and_then(|()| supervisor::run(job, vdso)) {
            Ok(()) => 0,
            Err(error) => {
                report_and_fail(&error);
                1
            }
        }
    });
    child.map(sys::wait_for).map_err(step("fork"))
}

fn stand_apart(job: &Job) -> Result<(), EngineError> {
    if job.footing.is_bare() {
        return Ok(());
    }
    crate::engine::sys::unshare(UnshareFlags::NEWNS).map_err(step("make a mount namespace"))
}

fn println_now(line: &Line) -> io::Result<()> {
    let text = serde_json::to_string(line).expect("a line has a JSON form");
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}
