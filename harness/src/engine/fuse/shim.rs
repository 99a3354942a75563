//! The parent of a role's first process.
//!
//! Programs treat a parent with pid 1 as "I am an orphan"; a role's parent is therefore this
//! small process. It is a child subreaper, so it keeps the role's tree together, and reports on
//! its control socket: `ready PID` before the program runs (it waits for one byte then),
//! `cannot WHY`, and `exit CODE SIGNAL` with `-` for what does not apply.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, wait};

use crate::engine::inner::report_and_fail;
use crate::engine::sys;

/// `__shim PROGRAM ARG…`: the control socket is standard input.
pub(crate) fn main(argv: &[OsString]) -> ExitCode {
    match shim(argv) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report_and_fail(&error),
    }
}

fn shim(argv: &[OsString]) -> io::Result<()> {
    let (program, arguments) = argv.split_first().expect("the supervisor names a program");
    set_child_subreaper(Some(getpid()))?;
    // A duplicate with close-on-exec: the program must not reach the control socket.
    let control: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let mut control = UnixStream::from(control);
    let mut gate = control.try_clone()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    sys::prepare_child(&mut command, move || {
        writeln!(gate, "ready {}", getpid().as_raw_nonzero())?;
        gate.read_exact(&mut [0])
    });
    let spawned = command.spawn();
    // Frees the duplicates that the closure holds: the supervisor sees the end of the socket only
    // when this process is gone.
    drop(command);
    match spawned {
        Ok(child) => {
            let main = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            reap(main.expect("a child has a pid"), &mut control)
        }
        Err(error) => {
            writeln!(control, "cannot start `{}`: {}", program.display(), why(program, &error))
        }
    }
}

/// exec(3) says EACCES for a program that is nowhere, if PATH has a folder that may not be read:
/// for a role that is an ordinary user while deadbeat is root, root's own folders.
fn why(program: &OsString, error: &io::Error) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_name = !program.as_encoded_bytes().contains(&b'/');
    let is_found = std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    if is_name && !is_found {
        let user = rustix::process::getuid().as_raw();
        return format!("no folder of PATH that user {user} may read has such a program");
    }
    error.to_string()
}

/// Waits for every descendant; tells of the first process.
fn reap(main: Pid, control: &mut UnixStream) -> io::Result<()> {
    loop {
        let (pid, status) = match wait(WaitOptions::empty()) {
            Ok(Some(reaped)) => reaped,
            Ok(None) | Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        if pid == main {
            let word = |number: Option<i32>| number.map_or("-".to_owned(), |n| n.to_string());
            let (code, signal) = (status.exit_status(), status.terminating_signal());
            writeln!(control, "exit {} {}", word(code), word(signal))?;
        }
    }
}
