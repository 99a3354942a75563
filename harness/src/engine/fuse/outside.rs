//! A fault mount for use outside scenarios: one mount over a folder, in real time, that whoever
//! likes may use.
//!
//! # Leaving nothing behind
//! A mount outlives its daemon: the kernel then answers ENOTCONN to everybody until somebody
//! unmounts. So a second process, the guard, is started before the mount is made. It is in a
//! session of its own, waits for the end of a pipe that only the daemon holds, and unmounts. That
//! is also how the daemon itself ends: whatever ends it, there is one way down. Only if daemon
//! and guard are both killed is the mount left.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use deadbeat_fs::{
    Caller, Errno as FsErrno, FaultFs, MountId, OpId as FsOpId, Operation, Options,
    Outcome as FsOutcome, Ruler, Ruling as FsRuling, Served,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::ruler::{changes_files, kind_of, told_to_fs};
use crate::engine::EngineError;
use crate::engine::court::{Court, Scribe, World};
use crate::engine::outside::{EVERYBODY, plan};
use crate::fault::Rule;
use crate::history::Stream;
use crate::op::{Op, OpId, OpKind};
use crate::plan::Reach;
use crate::role::{Role, Who};
use crate::time::Nanos;

/// The type of our mounts in the mount table.
const FS_TYPE: &str = "fuse.deadbeat";

/// How long those who have files open may take to close them once the mount is gone.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Who is being served, and since when time runs.
#[derive(Debug)]
pub(crate) struct Callers {
    began: Instant,
    /// Who makes the operation that is being decided.
    current: Option<Pid>,
    stopped: BTreeSet<i32>,
}

impl Callers {
    fn is_anybody_stopped(&self) -> Vec<Role> {
        if self.stopped.is_empty() { Vec::new() } else { vec![EVERYBODY] }
    }
}

impl World for Callers {
    fn now(&self) -> Nanos {
        self.began.elapsed().into()
    }

    fn bury(&mut self, _: Role) {}

    fn plays(&self, _: Role) -> bool {
        true
    }

    fn stop(&mut self, _: Who, _: Reach) -> Vec<Role> {
        let Some(process) = self.current else { return Vec::new() };
        if kill_process(process, Signal::STOP).is_ok() {
            self.stopped.insert(process.as_raw_nonzero().get());
        }
        self.is_anybody_stopped()
    }

    fn stopped(&self, _: Who) -> Vec<Role> {
        self.is_anybody_stopped()
    }

    fn go_on(&mut self, _: &[Role]) {
        for process in std::mem::take(&mut self.stopped) {
            // One that was killed meanwhile needs no signal.
            let _ = Pid::from_raw(process).map(|process| kill_process(process, Signal::CONT));
        }
    }

    fn killable(&self, _: Who, _: Reach) -> Vec<Role> {
        self.current.map(|_| EVERYBODY).into_iter().collect()
    }

    fn kill(&mut self, _: &[Role], _: Reach) {
        // It waits for our answer, so it is still the one that asked.
        let _ = self.current.map(|process| kill_process(process, Signal::KILL));
    }

    fn step_clock(&mut self, _: &[Role], _: i64) -> io::Result<()> {
        Err(io::Error::other("a mount is in real time"))
    }

    fn suspend(&mut self, _: Nanos) -> io::Result<()> {
        Err(io::Error::other("a mount is in real time"))
    }

    fn changed_files(&mut self, _: Nanos) {}

    fn output(&mut self) -> Vec<(Role, Stream, String)> {
        Vec::new()
    }
}

/// The process of a thread.
fn process_of(tid: u32) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    Pid::from_raw(line.trim().parse().ok()?)
}

fn op_of(operation: &Operation) -> Op {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    Op {
        id: OpId(operation.id.0),
        role: EVERYBODY,
        kind: kind_of(operation.kind),
        truncates: operation.truncates,
        paths: operation.paths.iter().map(|path| text(path)).collect(),
        to: operation.to.as_deref().map(text),
        by_descriptor: operation.by_descriptor,
        unlinked: operation.unlinked,
        ino: (operation.ino != 0).then_some(operation.ino),
    }
}

impl<S: Scribe> Ruler for Court<Callers, S> {
    fn rule(&mut self, operation: &Operation) -> FsRuling {
        self.world.current = process_of(operation.caller.tid);
        let ruling = self.decide(&op_of(operation), changes_files(operation));
        self.world.current = None;
        told_to_fs(ruling)
    }

    fn settled(&mut self, operation: &Operation, outcome: &FsOutcome) {
        let op = op_of(operation);
        // Every path begins with these, and they say nothing as long as they succeed.
        if op.kind == OpKind::Lookup && outcome.result.is_ok() {
            return;
        }
        let told = outcome.result.map_err(|errno| errno.0);
        self.settle(op, told, outcome.effect, (outcome.ino != 0).then_some(outcome.ino));
    }

    fn append(&mut self, _: MountId, _: Caller, _: &[u8]) -> Result<(), FsErrno> {
        Err(FsErrno(libc::EIO))
    }
}

fn step<E: Into<io::Error>>(what: &str, path: &Path) -> impl FnOnce(E) -> EngineError {
    let what = format!("{what} {}", path.display());
    move |source| EngineError::Step { what, source: source.into() }
}

/// A mount that is served. Dropping it unmounts.
pub(crate) struct FaultMount<S> {
    fs: FaultFs,
    mount: MountId,
    court: Court<Callers, S>,
    guard: Guard,
}

impl<S: Scribe> FaultMount<S> {
    /// Mounts a view of `source` on `target`, under these faults.
    ///
    /// # Errors
    /// The mount cannot be made, and why.
    pub(crate) fn lay(
        source: &Path,
        target: &Path,
        rules: &[Rule],
        scribe: S,
    ) -> Result<FaultMount<S>, EngineError> {
        // Each file that clients know costs a descriptor. More than allowed is not asked for.
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let backing =
            rustix::fs::openat(CWD, source, flags, Mode::empty()).map_err(step("open", source))?;
        let mut fs = FaultFs::new(backing, Options::default()).map_err(step("open", source))?;
        let world = Callers { began: Instant::now(), current: None, stopped: BTreeSet::new() };
        let mut court = Court::outside(&plan(rules), world, scribe)
            .map_err(|error| step("mount on", target)(io::Error::other(error)))?;
        let device = deadbeat_fs::open_device().map_err(step("open", Path::new("/dev/fuse")))?;
        let guard = Guard::start(target).map_err(step("start the guard of", target))?;
        deadbeat_fs::mount_at(target, device.as_fd()).map_err(step("mount on", target))?;
        let mount = fs.add_mount(device);
        court.happened(crate::engine::agenda::Occurrence::Start);
        Ok(FaultMount { fs, mount, court, guard })
    }

    /// Serves until the mount is gone, or `stop` is readable.
    ///
    /// # Errors
    /// The device cannot be read.
    pub(crate) fn serve(&mut self, stop: BorrowedFd<'_>) -> Result<(), EngineError> {
        let failed = |source| EngineError::Step { what: "serve the mount".to_owned(), source };
        loop {
            self.catch_up();
            match self.fs.serve(self.mount, &mut self.court).map_err(failed)? {
                Served::Handled => continue,
                Served::Gone => return Ok(()),
                Served::Idle => {}
            }
            self.fs.tick(&mut self.court);
            self.court.flush();
            let wait = self.time_to_wait().and_then(|wait| Timespec::try_from(wait).ok());
            let device = self.fs.device(self.mount);
            let mut polled = [
                PollFd::from_borrowed_fd(device, PollFlags::IN),
                PollFd::from_borrowed_fd(stop, PollFlags::IN),
            ];
            match rustix::event::poll(&mut polled, wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            if !polled[1].revents().is_empty() {
                return Ok(());
            }
        }
    }

    /// Lets those who still have files open end in peace, if they are quick. Nobody is held.
    fn serve_the_last(&mut self) {
        let deadline = Instant::now() + LAST_WAIT;
        loop {
            match self.fs.serve(self.mount, &mut self.court) {
                Ok(Served::Handled) => self.fs.shutdown(&mut self.court),
                Ok(Served::Idle) => {}
                Ok(Served::Gone) | Err(_) => return,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let left = Timespec::try_from(left).expect("it is short");
            let device = self.fs.device(self.mount);
            let mut polled = [PollFd::from_borrowed_fd(device, PollFlags::IN)];
            let _ = rustix::event::poll(&mut polled, Some(&left));
        }
    }

    /// Brings about what is due.
    fn catch_up(&mut self) {
        self.court.do_due();
        for op in std::mem::take(&mut self.court.releases) {
            self.fs.release(FsOpId(op.0), FsRuling::Proceed, &mut self.court);
        }
    }

    fn time_to_wait(&self) -> Option<Duration> {
        let due = self.court.next_due().map(|at| Duration::from(at.since(self.court.now())));
        let fs = self.fs.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        [due, fs].into_iter().flatten().min()
    }

    /// Answers what is held with an error, lets go of who was stopped, and unmounts.
    ///
    /// # Errors
    /// The mount could not be taken away.
    pub(crate) fn take_down(mut self) -> Result<S, EngineError> {
        self.fs.shutdown(&mut self.court);
        self.court.world.go_on(&[EVERYBODY]);
        let gone = self.guard.unmount();
        if gone.is_ok() {
            self.serve_the_last();
        }
        self.court.flush();
        gone.map(|()| self.court.close())
    }
}

/// The process that unmounts. Dropping it does so.
#[derive(Debug)]
#[must_use]
struct Guard {
    process: Child,
    target: PathBuf,
}

impl Guard {
    /// Starts it, and waits until it waits.
    fn start(target: &Path) -> io::Result<Guard> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.arg("__mount-guard").arg(target).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let is_ready = process.stdout.take().map(|mut out| out.read_exact(&mut [0]));
        match is_ready {
            Some(Ok(())) => Ok(Guard { process, target: target.to_path_buf() }),
            _ => {
                let _ = process.kill();
                let _ = process.wait();
                Err(io::Error::other("it did not start"))
            }
        }
    }

    /// Lets it unmount, and makes sure of that.
    fn unmount(&mut self) -> Result<(), EngineError> {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        take_away(&self.target).map_err(step("unmount", &self.target))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Said by `unmount`, where somebody asked.
        let _ = self.unmount();
    }
}

/// `__mount-guard TARGET`: unmounts what deadbeat mounted there once standard input ends.
pub(super) fn guard(target: &Path) -> ExitCode {
    // Ctrl-C in the terminal is for the daemon. It fails only for a leader of a group, which is
    // in one of its own already.
    let _ = rustix::process::setsid();
    let told = io::Write::write_all(&mut io::stdout(), b"r")
        .and_then(|()| io::Write::flush(&mut io::stdout()));
    let waited = told.and_then(|()| io::copy(&mut io::stdin(), &mut io::sink()));
    match waited.and_then(|_| take_away(target)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: unmount {} failed: {error}", target.display());
            ExitCode::FAILURE
        }
    }
}

/// Unmounts the fault mount on `target`, whoever uses it, if there is one on top.
fn take_away(target: &Path) -> io::Result<()> {
    match type_of_mount(target)? {
        Some(kind) if kind == FS_TYPE => match unmount(target, UnmountFlags::DETACH) {
            // Somebody else was faster.
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        },
        _ => Ok(()),
    }
}

/// Whether a fault mount, dead or alive, is on `target` already.
pub(crate) fn is_fault_mount(target: &Path) -> bool {
    type_of_mount(target).is_ok_and(|kind| kind.as_deref() == Some(FS_TYPE))
}

/// The type of the uppermost mount on exactly `target`, without touching it: nobody may answer
/// there. Fields of proc_pid_mountinfo(5): the fifth is the place; the type follows a lone `-`.
fn type_of_mount(target: &Path) -> io::Result<Option<String>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let wanted = escaped(target.as_os_str().as_bytes());
    // The uppermost is the last.
    let mut lines = table.rsplit(|byte| *byte == b'\n');
    let kind = lines.find_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        let place = words.nth(4)?;
        let kind = words.skip_while(|word| *word != b"-").nth(1)?;
        (place == wanted).then(|| String::from_utf8_lossy(kind).into_owned())
    });
    Ok(kind)
}

/// A path as the mount table writes it.
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in path {
        match byte {
            b' ' => text.extend(b"\\040"),
            b'\t' => text.extend(b"\\011"),
            b'\n' => text.extend(b"\\012"),
            b'\\' => text.extend(b"\\134"),
            other => text.push(*other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_read_by_place() {
        assert_eq!(type_of_mount(Path::new("/proc")).unwrap().as_deref(), Some("proc"));
        assert_eq!(type_of_mount(Path::new("/proc/no such place")).unwrap(), None);
        assert!(!is_fault_mount(Path::new("/proc")));
    }

    #[test]
    fn blanks_are_written_as_the_kernel_does() {
        assert_eq!(escaped(b"/a b\\c"), b"/a\\040b\\134c");
    }
}
