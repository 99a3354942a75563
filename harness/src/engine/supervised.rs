//! The harness's side of a run: its process is started, followed, and gone when this is dropped.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Access, access};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::footing::{Footing, bare_refuses};
use super::scratch::scratch_folder;
use super::wire::{Job, Line};
use super::{EngineError, Stage, Stop, sys};
use crate::history::{History, What};
use crate::plan::{Deed, Plan, Trial};
use crate::time::Nanos;

/// How much of the supervisor's last words is kept.
const LAST_WORDS_BYTES: u64 = 16 << 10;
/// How long the supervisor may take to tear a run down.
const TEAR_DOWN_WAIT: Duration = Duration::from_secs(15);
/// The time that a run may take beside its own bound.
const SLACK: Nanos = Nanos(20_000_000_000);

/// Whom roles run as when deadbeat is root and the scenario does not say: `nobody`.
pub const DEFAULT_USER: u32 = 65534;

/// What every engine needs to start the processes of a run on this machine.
#[derive(Debug)]
pub(crate) struct Host {
    program: PathBuf,
    is_root: bool,
    footing: Footing,
    /// Whether a supervisor without namespaces reaches files whatever their modes are.
    overrides_modes: bool,
    cpus: Vec<usize>,
    idle: Mutex<Vec<Cell>>,
}

impl Host {
    /// `program` is deadbeat, with the inner commands that a run consists of.
    pub(crate) fn new(program: PathBuf) -> Host {
        let is_root = rustix::process::geteuid().is_root();
        let footing = if is_root { Footing::Root } else { Footing::UserNamespace };
        let idle = Mutex::new(Vec::new());
        Host { program, is_root, footing, overrides_modes: true, cpus: allowed_cpus(), idle }
    }

    /// The same where no namespaces can be made.
    pub(crate) fn bare(mut self) -> Host {
        self.footing = Footing::Bare;
        self
    }

    /// It turned out that modes of files stop the supervisor.
    pub(crate) fn is_stopped_by_modes(&mut self) {
        self.overrides_modes = false;
    }

    /// The deadbeat program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Whether runs are in no namespace.
    pub(crate) fn is_bare(&self) -> bool {
        self.footing.is_bare()
    }

    /// Whether the user may do everything here.
    pub(crate) fn is_root(&self) -> bool {
        self.is_root
    }

    /// Whom the supervisor becomes: without CAP_SYS_PTRACE it can trace nobody else's processes.
    fn bare_user(&self, plan: Option<&Plan>) -> Option<u32> {
        let wanted = plan.and_then(|plan| plan.world.user).unwrap_or(DEFAULT_USER);
        (self.is_bare() && self.is_root).then_some(wanted)
    }

    /// The process above a run's supervisor, which is to do `task`; without namespaces as `user`,
    /// and `folder` goes with it.
    fn anchor(&self, task: &str, user: Option<u32>, folder: Option<&Path>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["__anchor", task, self.footing.word()]);
        command.arg(user.map_or_else(|| "-".to_owned(), |user| user.to_string()));
        command.arg(folder.unwrap_or(Path::new("-")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own process group: Ctrl-C in the terminal is for the harness, which tears down.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        // Without namespaces it has to clear up when we are gone, which closes its input.
        if !self.is_bare() {
            sys::die_with_parent(&mut command);
        }
        command
    }

    /// Makes the namespaces of a run and does `task` there, without a job; gives what it printed
    /// to standard output, and to standard error.
    ///
    /// # Errors
    /// The anchor could not be started.
    pub(crate) fn try_task(&self, task: &str) -> Result<(Vec<u8>, String), String> {
        let mut anchor = self.anchor(task, self.bare_user(None), None);
        let output = anchor
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{} cannot be started: {error}", self.program.display()))?;
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok((output.stdout, text))
    }

    /// What of a plan no engine can do on this machine, for this user.
    pub(crate) fn refuses(&self, plan: &Plan, scratch: Option<&Path>) -> Option<String> {
        if let Some(why) = bare_refuses(plan, self.overrides_modes).filter(|_| self.is_bare()) {
            return Some(why);
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
        if !plan.world.users.is_empty() && !self.is_root {
            return Some("`[world] users` needs root".to_owned());
        }
        if plan.world.space.is_some() && scratch.is_some() {
            return Some("`[world] space` needs a file system of the run's own".to_owned());
        }
        None
    }

    /// Where run folders are made, if not on a tmpfs that is mounted for each run.
    pub(crate) fn run_folders(&self, scratch: Option<&Path>) -> Option<PathBuf> {
        let own = || self.is_bare().then(shared_folder);
        scratch.map(Path::to_path_buf).or_else(own)
    }

    /// Carries the trial out by the supervisor named `task`.
    pub(crate) fn run(
        &self,
        task: &str,
        trial: &Trial,
        stage: &Stage,
        stop: &Stop,
    ) -> Result<History, EngineError> {
        let parent = self.run_folders(stage.scratch.as_deref());
        let scratch = parent.as_deref().map(scratch_folder).transpose()?;
        let bare_user = self.bare_user(Some(&trial.plan));
        let folder = scratch.as_ref().map(|dir| dir.path().to_path_buf());
        if let (Some(user), Some(folder)) = (bare_user, &folder) {
            chown(folder, Some(user), Some(user)).map_err(|source| EngineError::Step {
                what: format!("give {} to user {user}", folder.display()),
                source,
            })?;
        }
        let job = Job {
            plan: trial.plan.clone(),
            subject: stage.subject.clone(),
            deadbeat: self.program.clone(),
            scratch: folder.clone(),
            user: (self.footing == Footing::Root)
                .then(|| trial.plan.world.user.unwrap_or(DEFAULT_USER)),
            cpu: self.cpus.get(stage.worker % self.cpus.len().max(1)).copied(),
            footing: self.footing,
        };
        let mut cell = match self.take_idle(task) {
            Some(cell) => cell,
            None => Cell::start(task, self.anchor(task, bare_user, folder.as_deref()))?,
        };
        cell.send(&job)?;
        let wall = Duration::from(trial.plan.bounds.wall + SLACK);
        let history = cell.follow(Instant::now() + wall, stop)?;
        if cell.is_ready {
            self.idle().push(cell);
        }
        Ok(history)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Cell>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cell in which a run has ended well, and another can begin.
    fn take_idle(&self, task: &str) -> Option<Cell> {
        let here = std::thread::current().id();
        let mut idle = self.idle();
        let found = idle.iter().position(|cell| cell.task == task && cell.thread == here)?;
        let mut cell = idle.swap_remove(found);
        cell.is_alive().then_some(cell)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // All at once: the end of a namespace takes a while.
        self.idle().iter_mut().for_each(Cell::kill);
    }
}

/// A folder that everybody has: in memory, where programs may be run from it.
fn shared_folder() -> PathBuf {
    let shm = Path::new("/dev/shm");
    let is_usable = access(shm, Access::WRITE_OK | Access::EXEC_OK).is_ok()
        && rustix::fs::statvfs(shm)
            .is_ok_and(|it| !it.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC));
    if is_usable { shm.to_path_buf() } else { std::env::temp_dir() }
}

fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Where runs take place, one after the other: an anchor, and what it has started. Dropping it kills
/// a run in progress and waits until nothing of it is left.
#[derive(Debug)]
struct Cell {
    task: String,
    /// Who started it: the anchor dies with that thread, not only with the process (prctl(2),
    /// PR_SET_PDEATHSIG), so no other may use it.
    thread: ThreadId,
    anchor: Child,
    /// Closing it asks the supervisor to end the run.
    leash: Option<ChildStdin>,
    lines: Lines<ChildStdout>,
    /// What was written to standard error.
    words: Option<JoinHandle<String>>,
    /// The process whose end is the end of everything in the cell.
    init: Option<OwnedFd>,
    /// Whether a run has ended well, and another can begin.
    is_ready: bool,
}

fn step(what: &str) -> impl FnOnce(io::Error) -> EngineError {
    let what = what.to_owned();
    move |source| EngineError::Step { what, source }
}

impl Cell {
    fn start(task: &str, mut command: Command) -> Result<Cell, EngineError> {
        let mut anchor = command.spawn().map_err(step("start the run's anchor"))?;
        let leash = anchor.stdin.take();
        let stdout = anchor.stdout.take().expect("standard output was piped");
        let mut stderr = anchor.stderr.take().expect("standard error was piped");
        let words = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.by_ref().take(LAST_WORDS_BYTES).read_to_end(&mut text);
            let _ = io::copy(&mut stderr, &mut io::sink());
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        Ok(Cell {
            task: task.to_owned(),
            thread: std::thread::current().id(),
            anchor,
            leash,
            lines: Lines { input: BufReader::with_capacity(1 << 16, stdout) },
            words: Some(words),
            init: None,
            is_ready: false,
        })
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.anchor.try_wait(), Ok(None))
    }

    fn send(&mut self, job: &Job) -> Result<(), EngineError> {
        self.is_ready = false;
        let text = serde_json::to_string(job).expect("a job has a JSON form");
        let leash = self.leash.as_mut().expect("it is let go only to end the last run");
        let sent = leash.write_all(text.as_bytes()).and_then(|()| leash.write_all(b"\n"));
        sent.map_err(step("send the job to the run's supervisor"))
    }

    /// Collects the history until the supervisor is done, the bound is hit or somebody stops it.
    fn follow(&mut self, deadline: Instant, stop: &Stop) -> Result<History, EngineError> {
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
            match self.lines.next(Duration::from_millis(50)) {
                Next::Nothing => {}
                Next::Closed => break,
                Next::Line(Line::Cell(pid)) => self.init = open_pidfd(pid),
                Next::Line(Line::Event(event)) => history.events.push(event),
                Next::Line(Line::Ready) if self.leash.is_some() && is_whole(&history) => {
                    self.is_ready = true;
                    return Ok(history);
                }
                // Nothing follows but the end.
                Next::Line(Line::Ready) => self.leash = None,
                Next::Garbage(text) => {
                    let how = format!("it wrote no history line: {text}");
                    return Err(EngineError::Supervisor { how });
                }
            }
        }
        if is_late {
            self.kill();
        }
        let status = self.anchor.wait().map_err(step("wait for the run's anchor"))?;
        let words = self.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        if stop.asked() {
            return Err(EngineError::Interrupted);
        }
        complete(history, status, &words)
    }

    /// Kills the supervisor: the kernel then kills everything else of the run.
    fn kill(&mut self) {
        match &self.init {
            // Its parent, the anchor, then ends by itself, when nothing of the run is left.
            Some(init) => drop(pidfd_send_signal(init, Signal::KILL)),
            None => drop(self.anchor.kill()),
        }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if self.is_alive() {
            self.kill();
            let _ = self.anchor.wait();
        }
    }
}

fn open_pidfd(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

fn is_whole(history: &History) -> bool {
    history.events.last().is_some_and(|last| last.what == What::End)
}

fn complete(history: History, status: ExitStatus, words: &str) -> Result<History, EngineError> {
    if is_whole(&history) && status.success() {
        return Ok(history);
    }
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    Err(EngineError::Supervisor { how: format!("{status}{words}") })
}

/// The supervisor's lines, read with a bound on each wait.
#[derive(Debug)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handmade;
    use crate::role::Role;

    #[test]
    fn users_of_their_own_need_root() {
        let mut plan = handmade::trial("family/name").plan;
        let host = |is_root| {
            let mut host = Host::new(PathBuf::new());
            host.is_root = is_root;
            host
        };
        assert_eq!(host(false).refuses(&plan, None), None);
        plan.world.users.insert(Role::Holder, 1000);
        assert_eq!(host(false).refuses(&plan, None), Some("`[world] users` needs root".to_owned()));
        assert_eq!(host(true).refuses(&plan, None), None);
    }
}
