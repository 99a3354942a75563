//! The anchor of a run without namespaces: nothing of the run outlives it.
//!
//! Where there is a PID namespace, the kernel kills what is in it. Here three things take its
//! place: tracees die with the supervisor (PTRACE_O_EXITKILL); the supervisor dies with us
//! (PR_SET_PDEATHSIG), and we end it when the harness is gone; and we are the parent of every
//! orphan below us (PR_SET_CHILD_SUBREAPER), so what is left when the supervisor has ended are our
//! children, which we kill. The run's folder goes last.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, set_child_subreaper,
    set_parent_process_death_signal, wait,
};

use super::anchor::{announce, keep_capabilities, step};
use super::casting::Identity;
use super::footing::Footing;
use super::{EngineError, sys};

/// How long the supervisor may take to end a run whose harness is gone.
const TEAR_DOWN_WAIT: Duration = Duration::from_secs(15);
/// How long killed processes may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// How often either is looked at.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How often killed processes are looked for.
const KILL_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
/// How large a subject may be that has to be copied for the roles.
const COPY_BYTES_MAX: u64 = 256 << 20;
/// How many files it may have.
const COPY_FILES_MAX: usize = 50_000;

/// Starts the supervisor, as `user` if there is one, waits for its end, and clears away what is
/// left: processes, and `folder`.
///
/// The supervisor is the same user as its tracees, since without CAP_SYS_PTRACE nobody traces
/// another's. It keeps what other rights it has; the roles drop them before they run.
pub(super) fn anchor(
    task: &str,
    user: Option<u32>,
    folder: Option<&Path>,
) -> Result<ExitCode, EngineError> {
    set_child_subreaper(Some(getpid())).map_err(step("adopt orphans"))?;
    let program = std::env::current_exe().map_err(step("find the deadbeat program"))?;
    let mut command = Command::new(program);
    command.args([format!("__{task}").as_str(), Footing::Bare.word()]);
    sys::prepare_child(&mut command, move || {
        if let Some(user) = user {
            become_user(user)?;
        }
        // After that, which clears it (prctl(2)).
        Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
    });
    let started = command.spawn().map_err(|source| EngineError::Step {
        what: match user {
            Some(user) => format!("start the run's supervisor as user {user}"),
            None => "start the run's supervisor".to_owned(),
        },
        source,
    });
    let ended = started.and_then(|mut cell| {
        announce(&cell)?;
        watch(&mut cell).map_err(step("wait for the run's supervisor"))
    });
    let cleared = end_the_rest().map_err(step("end what the run left behind"));
    let removed = folder.map_or(Ok(()), remove).map_err(step("remove the run's folder"));
    let status = ended?;
    cleared.and(removed)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Gives up being root, but no other right.
fn become_user(user: u32) -> io::Result<()> {
    rustix::thread::set_keep_capabilities(true)?;
    Identity { user, group: user }.assume()?;
    Ok(keep_capabilities()?)
}

/// Waits for the supervisor. It has a while to end the run once the harness is gone, which closes
/// our standard input, and is killed then.
fn watch(cell: &mut Child) -> io::Result<ExitStatus> {
    let pid = i32::try_from(cell.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
    let ends = pidfd_open(pid, PidfdFlags::empty())?;
    let stdin = io::stdin();
    let mut alone_since: Option<Instant> = None;
    loop {
        if let Some(status) = cell.try_wait()? {
            return Ok(status);
        }
        if alone_since.is_some_and(|since| since.elapsed() > TEAR_DOWN_WAIT) {
            cell.kill()?;
        }
        let mut fds = vec![PollFd::new(&ends, PollFlags::IN)];
        if alone_since.is_none() {
            // Only its end: what is written there is for the supervisor.
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::empty()));
        }
        poll(&mut fds, Some(&LOOK_EVERY))?;
        let is_closed = fds.get(1).is_some_and(|stdin| stdin.revents().contains(PollFlags::HUP));
        if is_closed {
            alone_since = Some(Instant::now());
        }
    }
}

/// Kills our children until there is none. Their own children become ours.
fn end_the_rest() -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => continue,
            Ok(None) => {}
            Err(errno) => return Err(errno.into()),
        }
        if begun.elapsed() > KILL_WAIT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        for child in children()? {
            // It may have ended; nobody but us can reap it, so the number is still its own.
            let _ = kill_process(child, Signal::KILL);
        }
        poll(&mut [], Some(&KILL_EVERY))?;
    }
}

/// The processes whose parent we are (proc_pid_stat(5): the fourth word is the parent's pid).
fn children() -> io::Result<Vec<Pid>> {
    let ours = getpid().as_raw_nonzero().get().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything, also blanks and parentheses.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if rest.split_ascii_whitespace().nth(1) == Some(ours.as_str()) {
            found.extend(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// Removes a folder and all below it, also where a lock has taken the rights from its folders.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder)?;
            fs::remove_dir_all(folder)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Lets us into every folder from `top` down.
fn open_up(top: &Path) -> io::Result<()> {
    let mut folders = vec![top.to_path_buf()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Copies a subject's folder to where the roles can reach it; a bind mount would need a namespace.
pub(super) fn copy_subject(from: &Path, to: &Path) -> Result<(), EngineError> {
    let (mut bytes, mut files) = (0, 0);
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let copied = copy_folder(&from.join(&folder), &to.join(&folder));
        let found = copied.map_err(|source| EngineError::Step {
            what: format!("copy {} for the roles, who cannot reach it,", from.display()),
            source,
        })?;
        bytes += found.bytes;
        files += found.files;
        if bytes > COPY_BYTES_MAX || files > COPY_FILES_MAX {
            let why = format!("it has more than {COPY_FILES_MAX} files or {COPY_BYTES_MAX} bytes");
            return Err(step(&format!("copy {}", from.display()))(io::Error::other(why)));
        }
        folders.extend(found.folders.into_iter().map(|name| folder.join(name)));
    }
    Ok(())
}

/// What [`copy_folder`] came across.
#[derive(Default)]
struct Found {
    folders: Vec<std::ffi::OsString>,
    files: usize,
    bytes: u64,
}

/// Copies one folder, but not the folders in it.
fn copy_folder(from: &Path, to: &Path) -> io::Result<Found> {
    fs::create_dir(to)?;
    let mut found = Found::default();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        found.files += 1;
        if kind.is_dir() {
            found.folders.push(entry.file_name());
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, target)?;
        } else {
            found.bytes += fs::copy(entry.path(), target)?;
        }
    }
    Ok(found)
}
