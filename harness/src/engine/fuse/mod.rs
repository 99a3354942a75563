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

pub(crate) mod anchor;
pub(crate) mod cell;
mod court;
pub(crate) mod deeds;
pub(crate) mod ground;
mod metronome;
pub(crate) mod players;
mod shim;
pub(crate) mod sys;
pub(crate) mod wire;

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use self::wire::{Job, Line};
use super::{Engine, EngineError, Stage, Stop};
use crate::history::{History, What};
use crate::op::OpKind;
use crate::plan::{Deed, Pids, Trial};
use crate::time::Nanos;

/// The name of `{dir}` in the mount.
const DIR: &str = "dir";
/// The name of the witness in the mount.
const WITNESS: &str = "witness";
/// Whom roles run as when deadbeat is root and the scenario does not say: `nobody`.
pub const DEFAULT_USER: u32 = 65534;
/// How much of the supervisor's last words is kept.
const LAST_WORDS_BYTES: u64 = 16 << 10;
/// How long the supervisor may take to tear a run down.
const TEAR_DOWN_WAIT: Duration = Duration::from_secs(15);

/// Runs a hidden subcommand, `__anchor`, `__cell`, `__shim` or `__metronome`; `None` if `name` is
/// none of them.
#[must_use]
pub fn inner(name: &str, arguments: &[OsString]) -> Option<ExitCode> {
    match name {
        "__anchor" => Some(anchor::main(arguments.iter().any(|word| word == "user"))),
        "__cell" => Some(cell::main()),
        "__shim" => Some(shim::main(arguments)),
        "__metronome" => {
            let threshold = arguments.first().and_then(|word| word.to_str());
            Some(metronome::main(threshold.unwrap_or_default()))
        }
        _ => None,
    }
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

/// Carries plans out on real mounts.
#[derive(Debug)]
pub struct FuseEngine {
    program: PathBuf,
    is_root: bool,
    cpus: Vec<usize>,
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
        let engine = FuseEngine {
            program,
            is_root: rustix::process::geteuid().is_root(),
            cpus: allowed_cpus(),
        };
        engine.try_namespaces()?;
        Ok(engine)
    }

    /// Makes the namespaces of a run, in a child that then has nothing to do.
    fn try_namespaces(&self) -> Result<(), String> {
        let mut child = self
            .anchor()
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", self.program.display()))?;
        // Without a job the supervisor fails, but only after the namespaces were made.
        drop(child.stdin.take());
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if output.stdout.is_empty() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(format!(
                "namespaces cannot be made: {why}\n(hint: {})",
                if self.is_root {
                    "a container needs `--cap-add SYS_ADMIN` and `--security-opt seccomp=unconfined`"
                } else {
                    "allow user namespaces (`sysctl user.max_user_namespaces`, and on Ubuntu `kernel.apparmor_restrict_unprivileged_userns=0`), or run as root"
                }
            ));
        }
        Ok(())
    }

    fn anchor(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("__anchor");
        if !self.is_root {
            command.arg("user");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own process group: Ctrl-C in the terminal is for the harness, which tears down.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        sys::die_with_parent(&mut command);
        command
    }

    fn job(&self, trial: &Trial, stage: &Stage, scratch: Option<PathBuf>) -> Job {
        let cpu = match self.cpus.len() {
            0 => None,
            count => Some(self.cpus[stage.worker % count]),
        };
        Job {
            plan: trial.plan.clone(),
            subject: stage.subject.clone(),
            deadbeat: self.program.clone(),
            scratch,
            user: self.is_root.then(|| trial.plan.world.user.unwrap_or(DEFAULT_USER)),
            cpu,
            user_namespace: !self.is_root,
        }
    }
}

pub(crate) fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

impl Engine for FuseEngine {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn refuses(&self, trial: &Trial, stage: Option<&Path>) -> Option<String> {
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
            return Some("the fuse engine has no PID worlds".to_owned());
        }
        if world.files != crate::plan::FilePersonality::default() {
            return Some("the fuse engine has no `[world] files` personalities".to_owned());
        }
        if plan.faults.iter().any(|rule| rule.ops.kinds.contains(&OpKind::Thread)) {
            return Some("the fuse engine does not see the creation of threads".to_owned());
        }
        for act in &plan.events {
            match &act.what {
                Deed::StepClock(..) | Deed::Suspend(_) => {
                    return no(&format!("`{}` needs virtual clocks", act.text));
                }
                Deed::Chown(..) | Deed::Immutable(_) if !self.is_root => {
                    return Some(format!("`{}` needs root", act.text));
                }
                Deed::FillBlocks(_) | Deed::FillInodes(_) if stage.is_some() => {
                    return Some(format!("`{}` would fill the file system of --scratch", act.text));
                }
                _ => {}
            }
        }
        if world.space.is_some() && stage.is_some() {
            return Some("`[world] space` needs a file system of the run's own".to_owned());
        }
        None
    }

    fn run(&self, trial: &Trial, stage: &Stage, stop: &Stop) -> Result<History, EngineError> {
        let scratch = stage.scratch.as_deref().map(scratch_folder).transpose()?;
        let folder = scratch.as_ref().map(|dir| dir.path().to_path_buf());
        let job = self.job(trial, stage, folder);
        let mut run = Supervised::start(self.anchor(), &job)?;
        let wall = Duration::from(trial.plan.bounds.wall + cell::SLACK);
        run.follow(Instant::now() + wall, stop)
    }
}

/// A folder of the run's own on the file system under test. It is removed when it is dropped;
/// one whose harness was killed is removed by the next run there, because its lock is free.
pub(crate) fn scratch_folder(parent: &Path) -> Result<tempfile::TempDir, EngineError> {
    let step = |what: &str| {
        let what = format!("{what} {}", parent.display());
        move |source: io::Error| EngineError::Step { what, source }
    };
    sweep(parent).map_err(step("sweep"))?;
    let folder = tempfile::Builder::new()
        .prefix(SCRATCH_PREFIX)
        .tempdir_in(parent)
        .map_err(step("make a run folder in"))?;
    hold_for_life(folder.path()).map_err(step("lock a run folder in"))?;
    Ok(folder)
}

const SCRATCH_PREFIX: &str = "deadbeat-run-";
const SCRATCH_LOCK: &str = ".owner";

/// Takes a flock that ends with this process: the descriptor is never closed.
fn hold_for_life(folder: &Path) -> io::Result<()> {
    let file = std::fs::File::create(folder.join(SCRATCH_LOCK))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    std::mem::forget(file);
    Ok(())
}

fn sweep(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(SCRATCH_PREFIX) {
            continue;
        }
        let Ok(file) = std::fs::File::open(path.join(SCRATCH_LOCK)) else { continue };
        let lock = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        if lock.is_ok() {
            // Another sweeper may be faster.
            let _ = std::fs::remove_dir_all(path);
        }
    }
    Ok(())
}

/// A run in progress. Dropping it kills the run and waits until nothing of it is left.
pub(crate) struct Supervised {
    anchor: Child,
    /// Closing it asks the supervisor to end the run.
    leash: Option<ChildStdin>,
    cell: Option<OwnedFd>,
}

impl Supervised {
    pub(crate) fn start(mut command: Command, job: &Job) -> Result<Supervised, EngineError> {
        let step = |what: &str| {
            let what = what.to_owned();
            move |source: io::Error| EngineError::Step { what, source }
        };
        let mut anchor = command.spawn().map_err(step("start the run's anchor"))?;
        let leash = anchor.stdin.take();
        let mut run = Supervised { anchor, leash, cell: None };
        let text = serde_json::to_string(job).expect("a job has a JSON form");
        let leash = run.leash.as_mut().expect("standard input was piped");
        let sent = leash.write_all(text.as_bytes()).and_then(|()| leash.write_all(b"\n"));
        sent.map_err(step("send the job to the run's supervisor"))?;
        Ok(run)
    }

    /// Collects the history until the supervisor is done, the bound is hit or somebody stops it.
    pub(crate) fn follow(
        &mut self,
        deadline: Instant,
        stop: &Stop,
    ) -> Result<History, EngineError> {
        let stdout = self.anchor.stdout.take().expect("standard output was piped");
        let mut stderr = self.anchor.stderr.take().expect("standard error was piped");
        let words = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.by_ref().take(LAST_WORDS_BYTES).read_to_end(&mut text);
            let _ = io::copy(&mut stderr, &mut io::sink());
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let mut reader = Lines { input: BufReader::with_capacity(1 << 16, stdout) };
        let mut history = History::default();
        let mut deadline = deadline;
        let mut is_late = false;
        loop {
            if stop.asked() && self.leash.take().is_some() {
                deadline = deadline.min(Instant::now() + TEAR_DOWN_WAIT);
            }
            if Instant::now() > deadline {
                is_late = true;
                break;
            }
            match reader.next(Duration::from_millis(50)) {
                Next::Nothing => {}
                Next::Closed => break,
                Next::Line(Line::Cell(pid)) => self.cell = open_pidfd(pid),
                Next::Line(Line::Event(event)) => history.events.push(event),
                Next::Garbage(text) => {
                    let how = format!("it wrote no history line: {text}");
                    return Err(EngineError::Supervisor { how });
                }
            }
        }
        if is_late {
            self.kill();
        }
        let status = self.anchor.wait().map_err(|source| EngineError::Step {
            what: "wait for the run's anchor".to_owned(),
            source,
        })?;
        let words = words.join().unwrap_or_default();
        if stop.asked() {
            return Err(EngineError::Interrupted);
        }
        complete(history, status, &words)
    }

    /// Kills the supervisor: the kernel then kills everything else of the run.
    fn kill(&mut self) {
        match &self.cell {
            // Its parent, the anchor, then ends by itself, when nothing of the run is left.
            Some(cell) => drop(pidfd_send_signal(cell, Signal::KILL)),
            None => drop(self.anchor.kill()),
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if matches!(self.anchor.try_wait(), Ok(None)) {
            self.kill();
            let _ = self.anchor.wait();
        }
    }
}

fn open_pidfd(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

fn complete(history: History, status: ExitStatus, words: &str) -> Result<History, EngineError> {
    let is_whole = history.events.last().is_some_and(|last| last.what == What::End);
    if is_whole && status.success() {
        return Ok(history);
    }
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    Err(EngineError::Supervisor { how: format!("{status}{words}") })
}

/// The supervisor's lines, read with a bound on each wait.
struct Lines<R> {
    input: BufReader<R>,
}

enum Next {
    Line(Line),
    Garbage(String),
    Nothing,
    Closed,
}

impl<R: Read + AsFd> Lines<R> {
    fn next(&mut self, patience: Duration) -> Next {
        if self.input.buffer().is_empty() {
            let patience = Timespec::try_from(patience).expect("waits are short");
            let mut fds = [PollFd::new(self.input.get_ref(), PollFlags::IN)];
            if !rustix::event::poll(&mut fds, Some(&patience)).is_ok_and(|ready| ready > 0) {
                return Next::Nothing;
            }
        }
        // The supervisor writes whole lines, so the rest of one is never long in coming.
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => Next::Closed,
            Ok(_) => match serde_json::from_slice(&line) {
                Ok(line) => Next::Line(line),
                Err(_) => Next::Garbage(String::from_utf8_lossy(&line).trim().to_owned()),
            },
        }
    }
}

/// The name of the file system that holds `path`, for the report.
#[must_use]
pub fn file_system_of(path: Option<&Path>) -> String {
    let Some(path) = path else { return "tmpfs".to_owned() };
    let Ok(found) = rustix::fs::statfs(path) else { return "unknown".to_owned() };
    match found.f_type {
        0x0102_1994 => "tmpfs".to_owned(),
        0xef53 => "ext4".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x6969 => "nfs".to_owned(),
        0x794c_7630 => "overlayfs".to_owned(),
        0x6573_5546 => "fuse".to_owned(),
        other => format!("{other:#x}"),
    }
}

/// The bound that the harness sets on a run beside the run's own.
#[must_use]
pub fn slack() -> Nanos {
    cell::SLACK
}
