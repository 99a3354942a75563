//! What the engines' own processes inside a run share: their job, their cpu, their last words.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ExitCode;

use rustix::thread::CpuSet;

use super::EngineError;
use super::wire::Job;

/// A job is a plan and some paths.
const JOB_BYTES_MAX: u64 = 8 << 20;

/// The next job on standard input; `None` once the harness has closed that.
pub(crate) fn read_job() -> Result<Option<Job>, EngineError> {
    let step = |source| EngineError::Step { what: "read the job".to_owned(), source };
    let mut line = Vec::new();
    // Nothing beyond the line is lost: the harness sends the next job when this one is done.
    let mut input = BufReader::with_capacity(1 << 16, io::stdin().lock()).take(JOB_BYTES_MAX);
    if input.read_until(b'\n', &mut line).map_err(step)? == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(|error| step(error.into()))
}

/// The daemon and its clients on one cpu: a request then costs a tenth of what it costs across
/// two. A machine that refuses is only slower.
pub(crate) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// An inner process has only its standard error to say why it failed; the harness shows it.
pub(crate) fn report_and_fail(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    // Nobody is left to tell if even this fails.
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::FAILURE
}
