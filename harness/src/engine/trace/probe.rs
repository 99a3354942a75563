//! Tries everything that a run needs from the kernel, on a child that does nothing.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;

use super::sys::{self, Report, Why};
use super::{exec, filter, worlds};
use crate::engine::EngineError;
use crate::engine::footing::Footing;
use crate::engine::ground::enter_namespaces;
use crate::engine::inner::report_and_fail;

/// How the line begins that says why there are no PID worlds; all else works then.
pub(super) const NO_WORLDS: &str = "no PID worlds: ";
/// The line that says that programs lie at random addresses.
pub(super) const RANDOM_ADDRESSES: &str = "random addresses";
/// The line that says that modes of files stop the supervisor.
pub(super) const STOPPED_BY_MODES: &str = "stopped by modes";
/// How long the child may take; it makes two system calls.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the filter's answer to a traced call is replaced with: no pid is this.
const ANSWER: i32 = 77;

fn step(what: &str) -> impl FnOnce(io::Error) -> EngineError {
    let what = what.to_owned();
    move |source| EngineError::Step { what, source }
}

/// `__tracer-probe [bare]`: fails, and says why, unless a call can be stopped and answered.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let is_bare = arguments.iter().any(|word| word == Footing::Bare.word());
    let footing = if is_bare { Footing::Bare } else { Footing::Root };
    if let Err(error) = probe(footing) {
        return report_and_fail(&error);
    }
    if is_bare {
        println!("{NO_WORLDS}there are no PID namespaces");
    } else if let Err(error) = worlds::try_out() {
        println!("{NO_WORLDS}{error}");
    }
    if !sys::fix_addresses() {
        println!("{RANDOM_ADDRESSES}");
    }
    if !overrides_modes().unwrap_or(false) {
        println!("{STOPPED_BY_MODES}");
    }
    ExitCode::SUCCESS
}

/// Whether no mode of a file stops us (capabilities(7)). Not tried: whoever kills us meanwhile would
/// leave a folder behind.
fn overrides_modes() -> rustix::io::Result<bool> {
    Ok(rustix::thread::capabilities(None)?.effective.contains(CapabilitySet::DAC_OVERRIDE))
}

fn probe(footing: Footing) -> Result<(), EngineError> {
    if !footing.is_bare() {
        enter_namespaces()?;
    }
    let (gate_read, gate) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| step("make a pipe")(errno.into()))?;
    let program = filter::program(footing);
    let child = sys::fork(|| {
        let mut byte = [0];
        let is_let = rustix::io::read(&gate_read, &mut byte).is_ok();
        if !is_let || sys::install_filter(&program).is_err() {
            return 1;
        }
        // Answered by the tracer: the exit code says with what.
        match rustix::fs::stat("/") {
            Err(errno) => errno.raw_os_error(),
            Ok(_) => 2,
        }
    })
    .map_err(step("fork"))?;
    sys::seize(child).map_err(step("ptrace a child (PTRACE_SEIZE)"))?;
    rustix::io::write(&gate, b"g").map_err(|errno| step("start a child")(errno.into()))?;
    let code = follow(child).map_err(step("follow a traced child"))?;
    if code == Some(ANSWER) {
        return Ok(());
    }
    let source = io::Error::other(format!("the traced child ended with {code:?}"));
    Err(step("answer a system call by ptrace and seccomp")(source))
}

fn follow(child: i32) -> io::Result<Option<i32>> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match sys::next_report()? {
            Some(Report::Ended { tid, code, .. }) if tid == child => return Ok(code),
            Some(Report::Stopped(stopped)) => {
                let is_call = stopped.why() == Why::Call;
                if is_call {
                    exec::can_write(&stopped)?;
                    let mut regs = stopped.regs()?;
                    regs.skip(-i64::from(ANSWER));
                    stopped.set_regs(&regs)?;
                }
                stopped.resume(0)?;
            }
            _ => rustix::thread::sched_yield(),
        }
    }
    sys::kill(child, libc::SIGKILL);
    Err(io::ErrorKind::TimedOut.into())
}
