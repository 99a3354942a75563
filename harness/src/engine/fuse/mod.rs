//! The fuse engine: real processes, real time, a real mount for each role.
//!
//! ```text
//! deadbeat run (harness) ── __anchor ── __cell: init of the PID namespace, daemon of the mounts
//!                                         ├─ __metronome: notices a machine that is too slow
//!                                         ├─ __shim ── holder       each in a mount namespace
//!                                         └─ __shim ── contender-1  of its own, same paths
//! ```
//!
//! A role is the mount that its operations come through, so no operation lacks a role, and a held
//! operation of one role does not block another. Whoever dies, what hangs is answered and what
//! was started is gone: see the modules `anchor` and `cell`.

pub(crate) mod cell;
mod metronome;
pub(crate) mod outside;
pub(crate) mod players;
mod ruler;
mod shim;
mod troupe;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::supervised::Host;
use super::{Engine, EngineError, Stage, Stop};
use crate::history::History;
use crate::op::OpKind;
use crate::plan::{Deed, Pids, Trial};

/// Runs a hidden subcommand, `__cell`, `__shim`, `__metronome` or `__mount-guard`; `None` if `name`
/// is none of them.
#[must_use]
pub fn inner(name: &str, arguments: &[OsString]) -> Option<ExitCode> {
    match name {
        "__cell" => Some(cell::main()),
        "__shim" => Some(shim::main(arguments)),
        "__mount-guard" => arguments.first().map(|target| outside::guard(Path::new(target))),
        "__metronome" => {
            let threshold = arguments.first().and_then(|word| word.to_str());
            Some(metronome::main(threshold.unwrap_or_default()))
        }
        _ => None,
    }
}

/// Carries plans out on real mounts.
#[derive(Debug)]
pub struct FuseEngine {
    host: Host,
}

impl FuseEngine {
    /// Tries, rather than guesses, whether this machine lets this user run the engine.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub fn probe() -> Result<FuseEngine, String> {
        let program = std::env::current_exe()
            .map_err(|error| format!("the deadbeat program cannot be found: {error}"))?;
        FuseEngine::probe_with(program)
    }

    /// The same for a `program` other than this one that has the engine's inner commands: tests
    /// and benchmarks name the deadbeat program here.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub fn probe_with(program: PathBuf) -> Result<FuseEngine, String> {
        let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
        if let Err(error) = device {
            return Err(format!(
                "/dev/fuse cannot be opened: {error}\n(hint: {})",
                match error.kind() {
                    io::ErrorKind::NotFound =>
                        "load the module (`modprobe fuse`), or pass the device into the container (`--device /dev/fuse`)",
                    _ => "run as root, or let your user open it (`chmod 0666 /dev/fuse`)",
                }
            ));
        }
        let host = Host::new(program);
        let (output, why) = host.try_task("cell")?;
        // Without a job the supervisor fails, but only after the namespaces were made.
        if output.is_empty() {
            return Err(format!(
                "namespaces cannot be made: {why}\n(hint: {})",
                if host.is_root() {
                    "a container needs `--cap-add SYS_ADMIN` and `--security-opt seccomp=unconfined`"
                } else {
                    "allow user namespaces (`sysctl user.max_user_namespaces`, and on Ubuntu `kernel.apparmor_restrict_unprivileged_userns=0`), or run as root"
                }
            ));
        }
        Ok(FuseEngine { host })
    }
}

impl Engine for FuseEngine {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn refuses(&self, trial: &Trial, scratch: Option<&Path>) -> Option<String> {
        let plan = &trial.plan;
        let world = &plan.world;
        let no = |what: &str| Some(format!("{what} (the fuse engine runs in real time)"));
        if plan.seed != 0 {
            return no("schedules cannot be drawn from a seed");
        }
        if !world.clock.is_empty() {
            return no("`[world] clock` needs virtual clocks");
        }
        if world.pids != Pids::Shared {
            return Some("only the trace engine chooses its roles' pids".to_owned());
        }
        if world.files != crate::plan::FilePersonality::default() {
            return Some(
                "only the trace engine gives files a personality (`[world] files`)".to_owned(),
            );
        }
        if plan.faults.iter().any(|rule| rule.ops.kinds.contains(&OpKind::Thread)) {
            return Some("the fuse engine does not see the creation of threads".to_owned());
        }
        for act in &plan.events {
            if matches!(act.what, Deed::StepClock(..) | Deed::Suspend(_)) {
                return no(&format!("`{}` needs virtual clocks", act.text));
            }
        }
        self.host.refuses(plan, scratch)
    }

    fn run(&self, trial: &Trial, stage: &Stage, stop: &Stop) -> Result<History, EngineError> {
        self.host.run("cell", trial, stage, stop)
    }
}
