//! The command's first process: made as a tracee, and let go.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::pipe::{PipeFlags, pipe_with};

use super::super::sys::{self, Mask};
use super::step;
use crate::engine::EngineError;

/// The command's first process, before it runs.
pub(super) struct Started {
    pub(super) main: i32,
    gate: File,
    /// Holds an errno if the program could not be executed.
    pub(super) failure: File,
}

impl Started {
    /// Makes it; it waits for [`Started::go`].
    pub(super) fn fork(
        argv: &[OsString],
        mask: Mask,
        filter: &[libc::sock_filter],
    ) -> Result<Started, EngineError> {
        let (program, arguments) = argv.split_first().expect("the command line asks for a command");
        let pipe =
            || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| step("make a pipe")(errno.into()));
        let (failure, failure_write) = pipe()?;
        let (gate_read, gate) = pipe()?;
        let mut command = Command::new(program);
        command.args(arguments);
        let main = sys::fork(|| {
            let may_run = File::from(gate_read).read_exact(&mut [0]);
            mask.restore();
            // Like execvp(3), and it undoes what the Rust runtime did to SIGPIPE.
            let error = match may_run.and_then(|()| sys::install_filter(filter)) {
                Ok(()) => command.exec(),
                Err(error) => error,
            };
            let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
            // The supervisor is the only reader, and knows of the end in any case.
            let _ = File::from(failure_write).write_all(&errno.to_ne_bytes());
            127
        })
        .map_err(step("fork"))?;
        if let Err(error) = sys::seize(main) {
            sys::kill(main, libc::SIGKILL);
            return Err(step("trace the command (PTRACE_SEIZE)")(error));
        }
        Ok(Started { main, gate: gate.into(), failure: failure.into() })
    }

    /// Lets it run.
    pub(super) fn go(&self) -> io::Result<()> {
        (&self.gate).write_all(b"g")
    }
}
