//! The trace engine: unmodified processes under ptrace and seccomp, in virtual time.
//!
//! Every call that touches `{dir}` stops before it is made, and is made only when everything else
//! in the run stands still; time moves only when nothing else can. So a run is quick, and the
//! same plan gives the same history. The supervisor is a process of its own, and
//! speaks to the harness as the fuse engine's does.
//!
//! # What time costs
//! Computing takes no virtual time, an operation below `{dir}` 10 µs (the clocks show that 0.1 ms at
//! a time), and a wait ends 1 ms late (a poll by a thousandth more). A program reads its clocks
//! without a stop (see `vdso`). One that does nothing but look at the clock, or at other files,
//! makes time pass once it has looked 5000 times, and gives the others their turns first. One that
//! computes for 2 s of cpu time without a call holds up the others, which is a `Trouble`.
//!
//! # What stays real
//! Cpu clocks and cpu times, rdtsc, ctime and btime of files, and times of files outside `{dir}`
//! (but see `procfs`).
//!
//! # Without namespaces
//! Where none can be made, as in a container by default, the run has the machine's pids and a plain
//! folder (see `bare`). What needs more is skipped, each with a fixed reason (see `footing`).
//!
//! # What is refused
//! io_uring, `semtimedop` and the like answer ENOSYS, and are a `Note`. Passing a
//! descriptor below `{dir}` over a socket answers ENOSYS, a shared writable mapping of a file there
//! ENODEV, and both are a `Trouble`.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the trace engine knows x86_64 only");

mod arch_x86_64;
mod attributes;
mod calls;
mod clock;
mod decode;
mod exec;
mod files;
mod filter;
mod folders;
mod hostname;
mod init;
pub(crate) mod outside;
mod pins;
mod players;
mod probe;
mod process;
mod procfs;
mod quiet;
mod random;
mod refused;
mod stamps;
mod stops;
mod supervisor;
mod sys;
mod thread;
mod timerfd;
mod timers;
mod troupe;
mod vdso;
mod waits;
mod worlds;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::supervised::Host;
use super::{Engine, EngineError, Stage, Stop, file_system_of};
use crate::history::History;
use crate::plan::{Pids, Trial};

/// Runs a hidden subcommand, `__tracer` or `__tracer-probe`; `None` if `name` is neither.
#[must_use]
pub fn inner(name: &str, arguments: &[OsString]) -> Option<ExitCode> {
    match name {
        "__tracer" => Some(init::main()),
        "__tracer-probe" => Some(probe::main(arguments)),
        _ => None,
    }
}

/// Whether programs can be shown virtual time without a stop: tries it on this kernel's vDSO.
///
/// # Errors
/// Why not. The engine works all the same, but every look at a clock then costs two switches.
pub fn try_vdso() -> std::io::Result<()> {
    vdso::Vdso::of_this_kernel().map(drop)
}

/// Carries plans out under ptrace.
#[derive(Debug)]
pub struct TraceEngine {
    host: Host,
    /// Why roles cannot have the pids that a scenario wants, if so.
    no_pid_worlds: Option<String>,
    /// Why runs are in no namespaces, if so.
    why_bare: Option<String>,
    caveats: Vec<String>,
}

impl TraceEngine {
    /// Tries, rather than guesses, whether this machine lets this user run the engine.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub fn probe() -> Result<TraceEngine, String> {
        let program = std::env::current_exe()
            .map_err(|error| format!("the deadbeat program cannot be found: {error}"))?;
        TraceEngine::probe_with(program)
    }

    /// The same for a `program` other than this one that has the engine's inner commands.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub fn probe_with(program: PathBuf) -> Result<TraceEngine, String> {
        let host = Host::new(program);
        let (said, why) = host.try_task("tracer-probe")?;
        if why.is_empty() {
            return Ok(TraceEngine::with(host, &said, None));
        }
        let hint = if host.is_root() {
            "a container needs `--cap-add SYS_PTRACE --cap-add SYS_ADMIN` and `--security-opt seccomp=unconfined`"
        } else {
            "allow user namespaces (`sysctl user.max_user_namespaces`, and on Ubuntu `kernel.apparmor_restrict_unprivileged_userns=0`) and ptrace (`sysctl kernel.yama.ptrace_scope` below 2), or run as root"
        };
        let host = host.bare();
        let (said, why_not_bare) = host.try_task("tracer-probe")?;
        if why_not_bare.is_empty() {
            return Ok(TraceEngine::with(host, &said, Some(why)));
        }
        Err(format!(
            "processes cannot be traced in a namespace of their own: {why}\n\
             nor without one: {why_not_bare}\n(hint: {hint}; for runs without namespaces, let \
             everybody execute {})",
            host.program().display(),
        ))
    }

    /// An engine as the probe found it.
    fn with(mut host: Host, said: &[u8], why_bare: Option<String>) -> TraceEngine {
        let said = String::from_utf8_lossy(said);
        let no_pid_worlds = said.lines().find_map(|line| line.strip_prefix(probe::NO_WORLDS));
        let says = |wanted: &str| said.lines().any(|line| line == wanted);
        let mut caveats = Vec::new();
        if let Some(why) = &why_bare {
            caveats.push(format!(
                "no namespaces can be made here ({why}): processes of a lock have this machine's \
                 pids, and can see and signal other processes of their user"
            ));
        }
        if says(probe::RANDOM_ADDRESSES) {
            caveats.push(
                "address space randomization cannot be switched off here: two runs of one plan \
                 may differ"
                    .to_owned(),
            );
        }
        if says(probe::STOPPED_BY_MODES) {
            host.is_stopped_by_modes();
        }
        let no_pid_worlds = no_pid_worlds.map(str::to_owned);
        TraceEngine { host, no_pid_worlds, why_bare, caveats }
    }
}

impl TraceEngine {
    /// Why roles cannot have PID namespaces and process numbers of their choice here, if they
    /// cannot: scenarios with `[world] pids` are then skipped.
    #[must_use]
    pub fn lacks_pid_worlds(&self) -> Option<&str> {
        self.no_pid_worlds.as_deref()
    }

    /// Why runs are in no namespaces here, if so: then they have the machine's pids, and what needs
    /// more is skipped.
    #[must_use]
    pub fn lacks_namespaces(&self) -> Option<&str> {
        self.why_bare.as_deref()
    }
}

impl Engine for TraceEngine {
    fn name(&self) -> &'static str {
        "trace"
    }

    fn cannot_repeat(&self) -> Option<String> {
        let why = self.why_bare.as_ref()?;
        Some(format!("pids are this machine's, since no namespaces can be made ({why})"))
    }

    fn caveats(&self) -> &[String] {
        &self.caveats
    }

    fn file_system(&self, scratch: Option<&Path>) -> String {
        file_system_of(self.host.run_folders(scratch).as_deref())
    }

    fn refuses(&self, trial: &Trial, scratch: Option<&Path>) -> Option<String> {
        let plan = &trial.plan;
        if self.host.is_bare() {
            return self.host.refuses(plan, scratch);
        }
        if let (true, Some(why)) = (plan.world.pids != Pids::Shared, &self.no_pid_worlds) {
            return Some(format!("pids cannot be chosen here: {why}"));
        }
        self.host.refuses(plan, scratch)
    }

    fn run(&self, trial: &Trial, stage: &Stage, stop: &Stop) -> Result<History, EngineError> {
        self.host.run("tracer", trial, stage, stop)
    }
}
