//! The trace engine: unmodified processes under ptrace and seccomp, in virtual time.
//!
//! Every call that touches `{dir}` stops before it is made, and is made only when everything else
//! in the run stands still; time moves only when nothing else can. So a run is quick, and the
//! same plan gives the same history. The supervisor is a process of its own, and
//! speaks to the harness as the fuse engine's does.
//!
//! # What time costs
//! Computing takes no virtual time, an operation below `{dir}` 10 µs, and a wait ends 1 ms late (a
//! poll by a thousandth more). A thread that only reads the clock makes time pass, faster and
//! faster; one that computes for 2 s of real time without a call no longer holds up the others,
//! at the price of an order that may differ from run to run.
//!
//! # What stays real
//! Cpu clocks, rdtsc, `sysinfo`, `/proc/uptime`, process start times in `/proc`, ctime and btime of
//! files, and times of files outside `{dir}`.
//!
//! # What is refused
//! io_uring, timerfd, `semtimedop` and the like answer ENOSYS; a
//! shared writable mapping of a file below `{dir}` answers ENODEV, and is a `Trouble`.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the trace engine knows x86_64 only");

mod anchor;
mod arch_x86_64;
mod clock;
mod court;
mod decode;
mod exec;
mod files;
mod filter;
mod players;
mod probe;
mod random;
mod stamps;
mod stops;
mod supervisor;
mod sys;
mod thread;
mod timers;
mod waits;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::fuse::wire::Job;
use super::fuse::{DEFAULT_USER, Supervised, allowed_cpus, cell, scratch_folder};
use super::{Engine, EngineError, Stage, Stop};
use crate::history::History;
use crate::plan::{Deed, Pids, Trial};

/// Runs a hidden subcommand, `__trace-anchor`, `__tracer` or `__tracer-probe`; `None` if
/// `name` is none of them.
#[must_use]
pub fn inner(name: &str, arguments: &[OsString]) -> Option<ExitCode> {
    match name {
        "__trace-anchor" => Some(anchor::main(arguments)),
        "__tracer" => Some(anchor::init()),
        "__tracer-probe" => Some(probe::main()),
        _ => None,
    }
}

/// Carries plans out under ptrace.
#[derive(Debug)]
pub struct TraceEngine {
    program: PathBuf,
    is_root: bool,
    cpus: Vec<usize>,
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
        let is_root = rustix::process::geteuid().is_root();
        let engine = TraceEngine { program, is_root, cpus: allowed_cpus() };
        if engine.cpus.is_empty() {
            return Err("this process is allowed no cpu that it can name".to_owned());
        }
        engine.try_all()?;
        Ok(engine)
    }

    /// Makes the namespaces of a run and traces a program in them, in a child.
    fn try_all(&self) -> Result<(), String> {
        let output =
            self.anchor("probe").stdin(Stdio::null()).output().map_err(|error| {
                format!("{} cannot be started: {error}", self.program.display())
            })?;
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!(
            "processes cannot be traced in a namespace of their own: {why}\n(hint: {})",
            if self.is_root {
                "a container needs `--cap-add SYS_PTRACE --cap-add SYS_ADMIN` and `--security-opt seccomp=unconfined`"
            } else {
                "allow user namespaces (`sysctl user.max_user_namespaces`, and on Ubuntu `kernel.apparmor_restrict_unprivileged_userns=0`) and ptrace (`sysctl kernel.yama.ptrace_scope` below 2), or run as root"
            }
        ))
    }

    /// The process above a run's supervisor; `task` is `run` or `probe`.
    fn anchor(&self, task: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["__trace-anchor", task]);
        if !self.is_root {
            command.arg("user");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own process group: Ctrl-C in the terminal is for the harness, which tears down.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        super::fuse::sys::die_with_parent(&mut command);
        command
    }
}

impl Engine for TraceEngine {
    fn name(&self) -> &'static str {
        "trace"
    }

    fn refuses(&self, trial: &Trial, scratch: Option<&Path>) -> Option<String> {
        let plan = &trial.plan;
        let world = &plan.world;
        if world.pids != Pids::Shared {
            return Some("the trace engine has no PID worlds yet".to_owned());
        }
        if world.files.attr_cache.is_some() || world.files.estale {
            return Some("the trace engine has no `attr-cache` and `estale` yet".to_owned());
        }
        for act in &plan.events {
            match &act.what {
                Deed::Chown(..) | Deed::Immutable(_) if !self.is_root => {
                    return Some(format!("`{}` needs root", act.text));
                }
                Deed::FillBlocks(_) | Deed::FillInodes(_) if scratch.is_some() => {
                    return Some(format!("`{}` would fill the file system of --scratch", act.text));
                }
                _ => {}
            }
        }
        if world.space.is_some() && scratch.is_some() {
            return Some("`[world] space` needs a file system of the run's own".to_owned());
        }
        None
    }

    fn run(&self, trial: &Trial, stage: &Stage, stop: &Stop) -> Result<History, EngineError> {
        let scratch = stage.scratch.as_deref().map(scratch_folder).transpose()?;
        let job = Job {
            plan: trial.plan.clone(),
            subject: stage.subject.clone(),
            deadbeat: self.program.clone(),
            scratch: scratch.as_ref().map(|dir| dir.path().to_path_buf()),
            user: self.is_root.then(|| trial.plan.world.user.unwrap_or(DEFAULT_USER)),
            cpu: self.cpus.get(stage.worker % self.cpus.len().max(1)).copied(),
            user_namespace: !self.is_root,
        };
        let mut run = Supervised::start(self.anchor("run"), &job)?;
        let wall = Duration::from(trial.plan.bounds.wall + cell::SLACK);
        run.follow(Instant::now() + wall, stop)
    }
}
