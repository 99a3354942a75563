//! What adapters call: `deadbeat witness` and `deadbeat cs`.
//!
//! # The hand-shake of `cs -- COMMAND`
//! The outer `cs` runs the locking command; that runs the inner `cs` once it has the lock. The
//! outer one must know whether the inner one ever entered, and must not give up at the very
//! moment it does. So the inner one asks before it enters, over an abstract socket that the outer
//! one listens on (its name is inherited as an environment variable):
//!
//! ```text
//! inner -> outer   connect        "I have the lock, may I enter?"
//! outer -> inner   'y' | 'n'      'n' once the outer one has given up; the inner one then leaves
//! ```
//!
//! An abstract socket leaves no file behind, and survives programs that close descriptors.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::witness::LINE_BYTES_MAX;

/// Where the inner `cs` asks the outer one.
const ASK: &str = "DEADBEAT_CS_ASK";
/// How long the inner `cs` waits for the answer: the outer one answers at once, or is dead.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a command that was asked to end gets before it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// Why an adapter's command could not do its part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdapterError {
    #[error("{0} is not set\n(hint: deadbeat sets it for the processes of a run)")]
    Unset(&'static str),
    #[error("{name} is `{text}`, which is no number of milliseconds")]
    NoNumber { name: &'static str, text: String },
    #[error("a witness line has at most {LINE_BYTES_MAX} bytes, without a line break")]
    Line,
    #[error("write `{line}` to the witness {} failed", path.display())]
    Witness { line: String, path: PathBuf, source: io::Error },
    #[error("no `{{cs}}` in the command\n(hint: write `deadbeat cs -- flock FILE {{cs}}`)")]
    NoPlace,
    #[error("{0} failed")]
    Step(&'static str, #[source] io::Error),
    #[error("start `{0}` failed")]
    Start(String, #[source] io::Error),
}

/// Writes one line with one `write(2)`, so that it is recorded before this returns.
pub(crate) fn witness(line: &str) -> Result<(), AdapterError> {
    let unset = AdapterError::Unset("DEADBEAT_WITNESS");
    let path = PathBuf::from(std::env::var_os("DEADBEAT_WITNESS").ok_or(unset)?);
    if line.len() >= LINE_BYTES_MAX || line.contains('\n') {
        return Err(AdapterError::Line);
    }
    let bytes = [line.as_bytes(), b"\n"].concat();
    let written = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write(&bytes))
        .and_then(|count| {
            let short = || io::Error::new(io::ErrorKind::WriteZero, "a short write");
            if count == bytes.len() { Ok(()) } else { Err(short()) }
        });
    written.map_err(|source| AdapterError::Witness { line: line.to_owned(), path, source })
}

/// A length from the environment, in milliseconds.
fn length(name: &'static str) -> Result<Option<Duration>, AdapterError> {
    let Some(text) = std::env::var_os(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let text = text.to_string_lossy().into_owned();
    let parsed = text.parse().map(Duration::from_millis);
    parsed.map(Some).map_err(|_| AdapterError::NoNumber { name, text })
}

/// A length that deadbeat always sets.
fn needed(name: &'static str) -> Result<Duration, AdapterError> {
    length(name)?.ok_or(AdapterError::Unset(name))
}

/// Delivers SIGTERM as a message, so that waiting for it and for time is one wait.
fn terminations() -> Result<Receiver<()>, AdapterError> {
    let signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM]);
    let mut signals = signals.map_err(|source| AdapterError::Step("catch SIGTERM", source))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if sender.send(()).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// `deadbeat cs`: the critical section itself.
pub(crate) fn critical_section() -> Result<(), AdapterError> {
    let hold = needed("DEADBEAT_HOLD_MS")?;
    let tick = length("DEADBEAT_TICK_MS")?.unwrap_or(Duration::from_millis(20));
    let stall = length("DEADBEAT_STALL_MS")?.unwrap_or(Duration::ZERO);
    let terminated = terminations()?;
    if !may_enter()? {
        return Ok(());
    }
    witness("entered")?;
    let entered = Instant::now();
    // `DEADBEAT_STALL_MS` asks for just this: a main thread that does nothing for so long.
    std::thread::sleep(stall);
    loop {
        let left = hold.saturating_sub(entered.elapsed());
        match terminated.recv_timeout(tick.min(left)) {
            Ok(()) => return witness("aborted"),
            Err(RecvTimeoutError::Timeout) if entered.elapsed() >= hold => return witness("left"),
            Err(RecvTimeoutError::Timeout) => witness("wrote")?,
            Err(RecvTimeoutError::Disconnected) => {
                let gone = io::Error::other("the signal thread ended");
                return Err(AdapterError::Step("wait for SIGTERM", gone));
            }
        }
    }
}

/// Asks the outer `cs`, if there is one, whether it still waits for us.
fn may_enter() -> Result<bool, AdapterError> {
    let Some(name) = std::env::var_os(ASK) else { return Ok(true) };
    let asked = SocketAddr::from_abstract_name(name.as_bytes())
        .and_then(|address| UnixStream::connect_addr(&address))
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            let mut answer = [0];
            stream.read_exact(&mut answer)?;
            Ok(answer == *b"y")
        });
    match asked {
        // The outer one gave up, and is gone, while its command's children still wanted the lock.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        other => other.map_err(|error| AdapterError::Step("ask the outer `deadbeat cs`", error)),
    }
}

/// `deadbeat cs -- COMMAND`: runs the locking command and says how it ended.
pub(crate) fn around(command: &[OsString]) -> Result<(), AdapterError> {
    let acquires = std::env::var("DEADBEAT_ACQUIRES").ok().and_then(|text| text.parse().ok());
    let (term_read, term_write) =
        UnixStream::pair().map_err(|source| AdapterError::Step("make a socket pair", source))?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, term_write)
        .map_err(|source| AdapterError::Step("catch SIGTERM", source))?;
    for _ in 0..acquires.unwrap_or(1_u32) {
        match attempt(command, &term_read) {
            Ok(Ended::Released) => witness("released")?,
            Ok(Ended::GaveUp) => witness("gave-up")?,
            Ok(Ended::Failed(why)) => {
                witness(&format!("failed {why}"))?;
                return Err(AdapterError::Step("the locking command", io::Error::other(why)));
            }
            Err(error) => {
                // The line is a courtesy; the error is told by our own exit as well.
                let _ = witness(&format!("failed {error}").replace('\n', " "));
                return Err(error);
            }
        }
    }
    Ok(())
}

/// How one acquisition ended.
enum Ended {
    Released,
    GaveUp,
    Failed(String),
}

fn attempt(command: &[OsString], term: &UnixStream) -> Result<Ended, AdapterError> {
    let patience = needed("DEADBEAT_PATIENCE_MS")?;
    let step = |what| move |source| AdapterError::Step(what, source);
    // Abstract names are shared by all runs of the machine, while pids and, in virtual time, clocks
    // of two runs are the same: the kernel's own randomness tells them apart.
    let unique = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map_err(|error| AdapterError::Step("read a random name", error))?;
    let name = format!("deadbeat-cs-{}", unique.trim());
    let listener = SocketAddr::from_abstract_name(name.as_bytes())
        .and_then(|address| UnixListener::bind_addr(&address))
        .map_err(step("listen for the inner `deadbeat cs`"))?;
    let argv = with_cs(command, own_program().as_os_str())?;
    let started = Instant::now();
    let child =
        Command::new(&argv[0]).args(&argv[1..]).env(ASK, &name).spawn().map_err(|source| {
            AdapterError::Start(argv[0].to_string_lossy().into_owned(), source)
        })?;
    let (status, entered, gave_up) = attend(child, &listener, term, started + patience)?;
    Ok(verdict(status, entered, gave_up || started.elapsed() >= patience))
}

/// What the command's end means. A lock that ends by itself after the patience, without having
/// let anybody in, gave up as well.
fn verdict(status: ExitStatus, entered: bool, patience_over: bool) -> Ended {
    match (entered, status.success()) {
        (true, true) => Ended::Released,
        (true, false) => Ended::Failed(format!("the command ended with {status} after the CS")),
        (false, _) if patience_over => Ended::GaveUp,
        (false, _) => Ended::Failed(format!("the command ended with {status}, the CS never ran")),
    }
}

/// Waits for the command, answers the inner `cs`, passes SIGTERM on, and ends the command when
/// patience is over and nobody entered. Returns its status, whether somebody entered, and whether
/// we gave up. Only our own child is ever signalled, through its pidfd.
fn attend(
    mut child: Child,
    listener: &UnixListener,
    mut term: &UnixStream,
    patience_end: Instant,
) -> Result<(ExitStatus, bool, bool), AdapterError> {
    let step = |what| move |source: rustix::io::Errno| AdapterError::Step(what, source.into());
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(step("open a pidfd"))?;
    let (mut entered, mut gave_up, mut kill_at) = (false, false, None);
    loop {
        let deadline = if entered { None } else { Some(kill_at.unwrap_or(patience_end)) };
        let left = deadline.map(|end: Instant| end.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec::try_from(left).expect("patience fits a timespec"));
        let mut fds = [
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(term, PollFlags::IN),
        ];
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(step("wait for the locking command")(errno)),
        }
        let ready = fds.map(|fd| !fd.revents().is_empty());
        if ready[1] {
            // Answered before the child's end is looked at: what asked did ask.
            entered |= answer(listener, !gave_up);
        }
        if ready[0] {
            let waited = child.wait();
            let status = waited.map_err(|source| AdapterError::Step("wait", source))?;
            return Ok((status, entered, gave_up));
        }
        if ready[2] {
            let _ = term.read(&mut [0; 16]);
            let _ = pidfd_send_signal(&pidfd, Signal::TERM);
        }
        if deadline.is_some_and(|end| Instant::now() >= end) && !entered {
            let signal = if gave_up { Signal::KILL } else { Signal::TERM };
            // It may be dead already: then the pidfd is readable, and the next turn reaps it.
            let _ = pidfd_send_signal(&pidfd, signal);
            gave_up = true;
            kill_at = Some(Instant::now() + GRACE);
        }
    }
}

/// Answers one inner `cs`; whether it was let in.
fn answer(listener: &UnixListener, welcome: bool) -> bool {
    let Ok((mut stream, _)) = listener.accept() else { return false };
    let told = stream.write_all(if welcome { b"y" } else { b"n" });
    welcome && told.is_ok()
}

/// The command with `{cs}` replaced: an argument that is only `{cs}` becomes two arguments, one
/// that contains it gets them quoted for a shell.
fn with_cs(command: &[OsString], program: &OsStr) -> Result<Vec<OsString>, AdapterError> {
    const PLACE: &[u8] = b"{cs}";
    let quoted = [&shell_quoted(program.as_bytes())[..], b" cs"].concat();
    let mut argv = Vec::new();
    let mut replaced = false;
    for arg in command {
        let bytes = arg.as_bytes();
        if bytes == PLACE {
            argv.extend([program.to_owned(), "cs".into()]);
            replaced = true;
        } else if let Some(with) = replace(bytes, PLACE, &quoted) {
            argv.push(OsString::from_vec(with));
            replaced = true;
        } else {
            argv.push(arg.clone());
        }
    }
    if replaced { Ok(argv) } else { Err(AdapterError::NoPlace) }
}

/// `text` with every `place` replaced; `None` if there is none.
fn replace(text: &[u8], place: &[u8], with: &[u8]) -> Option<Vec<u8>> {
    let mut replaced = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(place.len()).position(|window| window == place) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(with);
        rest = &rest[at + place.len()..];
    }
    if rest.len() == text.len() {
        return None;
    }
    replaced.extend_from_slice(rest);
    Some(replaced)
}

/// In single quotes, as every shell reads them.
fn shell_quoted(text: &[u8]) -> Vec<u8> {
    let inner = replace(text, b"'", b"'\\''").unwrap_or_else(|| text.to_vec());
    [b"'", &inner[..], b"'"].concat()
}

/// This program, or its name in PATH where it cannot be seen from inside a run.
fn own_program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from("deadbeat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<OsString> {
        list.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_lone_place_becomes_two_arguments() {
        let argv = with_cs(&words(&["flock", "F", "{cs}"]), OsStr::new("/b/dead beat")).unwrap();
        assert_eq!(argv, words(&["flock", "F", "/b/dead beat", "cs"]));
    }

    #[test]
    fn a_place_inside_a_script_is_quoted_for_the_shell() {
        let argv = with_cs(&words(&["sh", "-c", "a {cs} && b {cs}"]), OsStr::new("/it's")).unwrap();
        let script = "a '/it'\\''s' cs && b '/it'\\''s' cs";
        assert_eq!(argv, words(&["sh", "-c", script]));
    }

    #[test]
    fn a_command_without_a_place_would_never_enter_and_is_refused() {
        let refused = with_cs(&words(&["flock", "F"]), OsStr::new("deadbeat"));
        assert!(matches!(refused, Err(AdapterError::NoPlace)));
        assert!(matches!(with_cs(&[], OsStr::new("deadbeat")), Err(AdapterError::NoPlace)));
    }

    #[test]
    fn an_end_without_entering_is_giving_up_only_after_the_patience() {
        use std::os::unix::process::ExitStatusExt;
        let (ok, bad) = (ExitStatus::from_raw(0), ExitStatus::from_raw(256));
        assert!(matches!(verdict(ok, true, true), Ended::Released));
        assert!(matches!(verdict(bad, true, false), Ended::Failed(_)));
        assert!(matches!(verdict(bad, false, true), Ended::GaveUp));
        assert!(matches!(verdict(ok, false, false), Ended::Failed(_)));
    }
}
