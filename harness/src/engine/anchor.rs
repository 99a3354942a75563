//! The anchor of a run: makes the namespaces, starts the supervisor as their init, waits for it.
//!
//! A process cannot move itself into a new PID namespace, only its children (unshare(2)), hence
//! this one. The supervisor dies with the anchor, the anchor with the harness, and everything in
//! the PID namespace with the supervisor (pid_namespaces(7)), its mounts with the last process.
//! Where no namespaces can be made, the module `bare` takes its place.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode};

use rustix::process::{Signal, getgid, getuid, set_parent_process_death_signal};
use rustix::thread::{
    UnshareFlags, capabilities, configure_capability_in_ambient_set, set_capabilities,
};

use super::footing::Footing;
use super::inner::report_and_fail;
use super::wire::Line;
use super::{EngineError, bare, sys};

/// Makes the namespaces that hold a run. `user_namespace` is for want of root.
fn make_namespaces(user_namespace: bool) -> Result<(), EngineError> {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    if user_namespace {
        flags |= UnshareFlags::NEWUSER;
    }
    sys::unshare(flags).map_err(|errno| EngineError::Step {
        what: format!("unshare({flags:?})"),
        source: errno.into(),
    })?;
    if user_namespace {
        // user_namespaces(7): an unprivileged writer of gid_map must deny setgroups first.
        for (file, text) in [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/uid_map", format!("{uid} {uid} 1")),
            ("/proc/self/gid_map", format!("{gid} {gid} 1")),
        ] {
            fs::write(file, text)
                .map_err(|source| EngineError::Step { what: format!("write {file}"), source })?;
        }
        keep_capabilities().map_err(step("keep the capabilities of the user namespace"))?;
        // Gaining capabilities has cleared it (prctl(2), PR_SET_PDEATHSIG).
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(step("arm the death signal"))?;
    }
    Ok(())
}

/// A user who is not root in the namespace loses the namespace's capabilities at the next exec,
/// but for the ambient ones (capabilities(7)). The roles drop them before they run.
pub(super) fn keep_capabilities() -> rustix::io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable = sets.permitted;
    set_capabilities(None, sets)?;
    sets.permitted.iter().try_for_each(|one| configure_capability_in_ambient_set(one, true))
}

pub(super) fn step<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> EngineError {
    let what = what.to_owned();
    move |source| EngineError::Step { what, source: source.into() }
}

/// `__anchor TASK FOOTING [USER] [FOLDER]`: standard input and output are passed on to the
/// supervisor `__TASK`. Without namespaces, USER is whom it becomes and FOLDER what is removed at
/// the end; `-` for neither.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let argument = |place: usize| arguments.get(place).filter(|word| *word != "-");
    let task = argument(0).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let footing = argument(1).and_then(|word| word.to_str()).unwrap_or_default();
    let ended = if footing == Footing::Bare.word() {
        let user = argument(2).and_then(|word| word.to_str()?.parse().ok());
        bare::anchor(&task, user, argument(3).map(Path::new))
    } else {
        anchor(&task, footing == Footing::UserNamespace.word())
    };
    match ended {
        Ok(code) => code,
        Err(error) => report_and_fail(&error),
    }
}

fn anchor(task: &str, user_namespace: bool) -> Result<ExitCode, EngineError> {
    let program = std::env::current_exe().map_err(step("find the deadbeat program"))?;
    make_namespaces(user_namespace)?;
    let mut command = Command::new(program);
    command.arg(format!("__{task}"));
    sys::die_with_parent(&mut command);
    let mut cell = command.spawn().map_err(step("start the run's supervisor"))?;
    announce(&cell)?;
    let status = cell.wait().map_err(step("wait for the run's supervisor"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells the harness which process is the supervisor.
pub(super) fn announce(cell: &Child) -> Result<(), EngineError> {
    let pid = i32::try_from(cell.id()).expect("Linux pids are below 2^22");
    // One short write stays in one piece, whatever the supervisor writes meanwhile (pipe(7),
    // PIPE_BUF).
    let line = serde_json::to_string(&Line::Cell(pid)).expect("a number has a JSON form");
    println_now(&line).map_err(step("write to the harness"))
}

fn println_now(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}
