//! The roles' first processes: started as tracees, and listened to.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit};

use super::sys;
use super::worlds::{self, Worlds};
use crate::engine::casting::Casting;
use crate::history::Stream;
use crate::role::Role;

/// How much output is read in one go: looked for often, and seldom there.
const READ_BYTES: usize = 4 << 10;

/// One role's first process.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) role: Role,
    pub(crate) main: i32,
    program: String,
    out: Option<File>,
    err: Option<File>,
    /// Written to, and closed, only if the program cannot be executed.
    failure: Option<File>,
    gate: Option<File>,
    /// What the descriptors of its output are called in `/proc/PID/fd`.
    pub(crate) pipes: [PathBuf; 2],
    /// Whether its first process has ended.
    pub(crate) is_dead: bool,
}

/// What a role is started with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) casting: Casting<'a>,
    pub(crate) filter: &'a [libc::sock_filter],
}

impl Player {
    /// Makes the process, as a tracee that waits for [`Player::go`].
    pub(crate) fn start(start: &Start<'_>, worlds: &mut Worlds) -> io::Result<Player> {
        let (out_read, out) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (err_read, err) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        for theirs in [&out, &err] {
            rustix::io::ioctl_fionbio(theirs, false)?;
        }
        let (failure_read, failure) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (gate_read, gate) = pipe_with(PipeFlags::CLOEXEC)?;
        let pipes = [pipe_name(&out_read)?, pipe_name(&err_read)?];
        let program = Program::new(&start.casting);
        let gate_read = File::from(gate_read);
        let failure = File::from(failure);
        let role = start.casting.part.role;
        let main = worlds.fork(role, &|| {
            let ready = prepare(&start.casting, &out, &err);
            let error = match ready.and_then(|()| (&gate_read).read_exact(&mut [0])) {
                Ok(()) => program.execute(start.filter),
                Err(error) => error,
            };
            // The supervisor is the only reader, and knows of the exit in any case.
            let _ = write!(&failure, "{error}");
            127
        })?;
        if let Err(error) = sys::seize(main) {
            sys::kill(main, libc::SIGKILL);
            return Err(error);
        }
        Ok(Player {
            role,
            main,
            program: start.casting.part.argv.first().cloned().unwrap_or_default(),
            out: Some(out_read.into()),
            err: Some(err_read.into()),
            failure: Some(failure_read.into()),
            gate: Some(gate.into()),
            pipes,
            is_dead: false,
        })
    }

    /// Lets the process run.
    pub(crate) fn go(&mut self) -> io::Result<()> {
        match self.gate.take() {
            Some(mut gate) => gate.write_all(b"g"),
            None => Ok(()),
        }
    }

    /// Why the program could not be executed, if that is why the process ended.
    pub(crate) fn why_not_started(&mut self) -> Option<String> {
        let mut text = String::new();
        // Nothing is there to be read where the program was executed.
        let _ = self.failure.take()?.read_to_string(&mut text);
        (!text.is_empty()).then(|| format!("cannot start `{}`: {text}", self.program))
    }

    /// The role's output that is there to be read, one piece a stream.
    pub(crate) fn output(&mut self) -> Vec<(Stream, String)> {
        let mut pieces = Vec::new();
        if let Some(text) = read_some(&mut self.out) {
            pieces.push((Stream::Stdout, text));
        }
        if let Some(text) = read_some(&mut self.err) {
            pieces.push((Stream::Stderr, text));
        }
        pieces
    }
}

fn pipe_name(pipe: &OwnedFd) -> io::Result<PathBuf> {
    Ok(PathBuf::from(format!("pipe:[{}]", rustix::fs::fstat(pipe)?.st_ino)))
}

fn read_some(pipe: &mut Option<File>) -> Option<String> {
    let mut bytes = [0; READ_BYTES];
    match pipe.as_mut()?.read(&mut bytes) {
        Ok(0) => *pipe = None,
        Ok(n) => return Some(String::from_utf8_lossy(&bytes[..n]).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => *pipe = None,
    }
    None
}

/// What is executed, ready for use after a fork.
struct Program {
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    fn new(casting: &Casting<'_>) -> Program {
        let argv = casting.argv();
        let env = environment(casting);
        let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let name = argv.first().map_or("", String::as_str);
        let candidates = if name.contains('/') {
            vec![c_string(OsStr::new(name))]
        } else {
            let folders = std::env::split_paths(path.unwrap_or_default());
            folders.map(|folder| c_string(folder.join(name).as_os_str())).collect()
        };
        let env = env.into_iter().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            c_string(&name)
        });
        Program {
            candidates,
            argv: argv.iter().map(|word| c_string(OsStr::new(word))).collect(),
            env: env.collect(),
        }
    }

    /// Returns only if none of the candidates could be executed.
    fn execute(&self, filter: &[libc::sock_filter]) -> io::Error {
        if let Err(error) = sys::install_filter(filter) {
            return error;
        }
        let mut worst = io::Error::from(io::ErrorKind::NotFound);
        for candidate in &self.candidates {
            let error = sys::exec(candidate, &self.argv, &self.env);
            // As execvp(3): what exists but cannot be executed is worth telling.
            if error.kind() != io::ErrorKind::NotFound {
                worst = error;
            }
        }
        worst
    }
}

/// The text up to its first zero byte, which no argument or path can hold.
fn c_string(text: &OsStr) -> CString {
    let bytes: Vec<u8> = text.as_bytes().iter().copied().take_while(|byte| *byte != 0).collect();
    CString::new(bytes).expect("it ends before its first zero byte")
}

fn environment(casting: &Casting<'_>) -> Vec<(OsString, OsString)> {
    let mut command = Command::new("");
    casting.set_environment(&mut command);
    let mut env: std::collections::BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => env.insert(name.to_owned(), value.to_owned()),
            None => env.remove(name),
        };
    }
    env.into_iter().collect()
}

/// What the child does before it may run: streams, limits, and the role's user.
fn prepare(casting: &Casting<'_>, out: &OwnedFd, err: &OwnedFd) -> io::Result<()> {
    sys::default_signals();
    sys::be_punctual(false);
    sys::fix_addresses();
    rustix::process::setpgid(None, None)?;
    let null = File::options().read(true).open(Path::new("/dev/null"))?;
    rustix::stdio::dup2_stdin(null.as_fd())?;
    rustix::stdio::dup2_stdout(out)?;
    rustix::stdio::dup2_stderr(err)?;
    worlds::enter(casting.plan.world.pids)?;
    std::env::set_current_dir(casting.ground.subject())?;
    if casting.plan.world.separate_hostname && !casting.ground.is_bare() {
        crate::engine::sys::unshare(rustix::thread::UnshareFlags::NEWUTS)?;
        rustix::system::sethostname(casting.part.role.to_string().as_bytes())?;
    }
    let limit = |n| Rlimit { current: Some(n), maximum: Some(n) };
    rustix::process::setrlimit(Resource::Core, limit(0))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(casting.umask()));
    if let Some(identity) = casting.identity() {
        // No RLIMIT_NPROC: that counts a user's processes over the whole machine, so one run would
        // fail because of another. The supervisor stops every new process, and counts.
        identity.assume()?;
    }
    // In a user namespace this is what takes the role's capabilities away, at the exec.
    rustix::thread::clear_ambient_capability_set()?;
    Ok(())
}
